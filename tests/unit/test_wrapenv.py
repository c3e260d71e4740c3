"""What glexec_wrapenv packs, glexec_unwrapenv restores, and it survives whatever else it is given."""

import base64
import importlib.util
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

FOLDER = Path(__file__).resolve().parents[2] / "helper_c" / "src" / "glexec"
WRAP, UNWRAP = FOLDER / "glexec_wrapenv.py", FOLDER / "glexec_unwrapenv.py"
OWN = {b"HOME", b"LOGNAME", b"USER", b"X509_USER_PROXY", b"_", b"GLEXEC_ENV"}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wrapenv, unwrapenv = load(WRAP), load(UNWRAP)

NAMES = st.one_of(
    st.sampled_from(["USE", "X509", "PROXY", "HOMEX", "A.B", "[", "BASH_FUNC_x%%", "é", "a b", "E", "R_P", "\n"]),
    st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1, max_size=30),
).map(str.encode)
VALUES = st.one_of(
    st.binary(max_size=200).map(lambda value: value.replace(b"\0", b"")),
    st.sampled_from([b"", b"=", b"a=b", b"line\nline", b" ", b"x" * 5000]),
)


def perl_like(*pairs: bytes, separator: bytes = b" ", end: bytes = b" ") -> bytes:
    """Pack as the Perl program does: each pair followed by a blank."""
    plain = separator.join(base64.b64encode(pair) for pair in pairs) + end
    return base64.b64encode(zlib.compress(plain))


@given(st.dictionaries(NAMES, VALUES, max_size=30))
def test_every_variable_but_the_accounts_own_comes_back(environ: dict[bytes, bytes]) -> None:
    wanted = {name: value for name, value in environ.items() if name not in OWN}
    assert unwrapenv.unwrap(wrapenv.wrap(environ)) == wanted


@given(st.dictionaries(NAMES, VALUES, max_size=10), st.lists(NAMES, max_size=5))
def test_a_name_is_excluded_when_it_is_equal_and_not_when_it_looks_alike(
    environ: dict[bytes, bytes], exclude: list[bytes]
) -> None:
    wanted = {name: value for name, value in environ.items() if name not in OWN | set(exclude)}
    assert unwrapenv.unwrap(wrapenv.wrap(environ, exclude)) == wanted
    assert unwrapenv.unwrap(wrapenv.wrap(environ), exclude) == wanted


def test_parts_of_excluded_names_do_not_vanish() -> None:
    environ = {b"USE": b"1", b"X509": b"2", b"PROXY": b"3", b"HOM": b"4", b"X509_USER_PROXY": b"no", b"_": b"no"}
    assert set(unwrapenv.unwrap(wrapenv.wrap(environ))) == {b"USE", b"X509", b"PROXY", b"HOM"}


def test_the_perl_programs_spelling_is_read() -> None:
    assert unwrapenv.unwrap(perl_like(b"A=1", b"B=x=y", b"HOME=/pilot")) == {b"A": b"1", b"B": b"x=y"}
    broken_in_lines = base64.encodebytes(base64.b64decode(perl_like(b"A=" + b"1" * 300)))
    assert unwrapenv.unwrap(broken_in_lines) == {b"A": b"1" * 300}


@pytest.mark.skipif(shutil.which("perl") is None, reason="needs perl")
@pytest.mark.interop
def test_perl_reads_what_we_write(tmp_path: Path) -> None:
    """The decoding of the old program: base64, inflate, split at single blanks, base64."""
    program = (
        "use Compress::Zlib; use MIME::Base64; "
        'print join("\\n", map { decode_base64($_) } split(/ /, uncompress(decode_base64($ENV{GLEXEC_ENV}))));'
    )
    text = wrapenv.wrap({b"A": b"1", b"LONG": b"y" * 10000}).decode()
    done = subprocess.run(["perl", "-e", program], env={"GLEXEC_ENV": text}, capture_output=True, check=True)
    assert sorted(done.stdout.split(b"\n")) == [b"A=1", b"LONG=" + b"y" * 10000]


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_give_variables(blob: bytes) -> None:
    for text in (blob, base64.b64encode(blob), base64.b64encode(zlib.compress(blob))):
        try:
            found = unwrapenv.unwrap(text)
        except unwrapenv.UnwrapError:
            continue
        assert all(name and b"=" not in name and b"\0" not in name + value for name, value in found.items())


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=8), st.data())
def test_a_damaged_text_is_never_half_used(environ: dict[bytes, bytes], data: st.DataObject) -> None:
    text = bytearray(wrapenv.wrap(environ))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255))
    wanted = {name: value for name, value in environ.items() if name not in OWN}
    try:
        found = unwrapenv.unwrap(bytes(text))
    except unwrapenv.UnwrapError:
        return
    assert found == wanted


HOSTILE = {
    "not base64": b"%%%%",
    "no stream": base64.b64encode(b"plain"),
    "cut": base64.b64encode(zlib.compress(b"QT0x" * 100)[:-9]),
    "bomb": base64.b64encode(zlib.compress(b"QT0x " * (64 * 1024 * 1024 // 5), 9)),
    "goes on": base64.b64encode(zlib.compress(b"QT0x") + b"more"),
    "no equals": perl_like(b"NAME"),
    "no name": perl_like(b"=value"),
    "NUL in the value": perl_like(b"A=1\0B=2"),
    "NUL in the name": perl_like(b"A\0B=2"),
    "inner text": base64.b64encode(zlib.compress(b"!!!!")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_refused_in_words(name: str) -> None:
    with pytest.raises(unwrapenv.UnwrapError):
        unwrapenv.unwrap(HOSTILE[name])


def test_an_environment_too_large_for_one_variable_is_refused() -> None:
    """The kernel takes no string above 128 KiB: better a word here than E2BIG at the next program."""
    noise = {b"NOISE": base64.b64encode(os.urandom(120 * 1024))}
    with pytest.raises(wrapenv.WrapError, match="exclude"):
        wrapenv.wrap(noise)
    text = wrapenv.wrap({b"NOISE": base64.b64encode(os.urandom(70 * 1024))})
    assert len(text) <= wrapenv.ROOM
    subprocess.run(["/bin/true"], env={"GLEXEC_ENV": text.decode()}, check=True)


# the programs


def program(path: Path, *words: str, **environ: str) -> "subprocess.CompletedProcess[bytes]":
    interpreter = [sys.executable, "-I", str(path)]
    return subprocess.run(
        [*interpreter, *words], env={"PATH": "/usr/bin:/bin", **environ}, capture_output=True, check=False
    )


def test_a_round_trip_by_the_programs() -> None:
    wrapped = program(WRAP, "--exclude=SECRET,OTHER", "--exclude", "THIRD", A="1", SECRET="no", OTHER="no", THIRD="no")
    assert (wrapped.returncode, wrapped.stderr) == (0, b"")
    assert b"\n" not in wrapped.stdout
    text = wrapped.stdout.decode()
    done = program(UNWRAP, "--", "/usr/bin/env", GLEXEC_ENV=text, HOME="/account", A="0", B="kept")
    assert (done.returncode, done.stderr) == (0, b"")
    found = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert (found["A"], found["B"], found["HOME"]) == ("1", "kept", "/account")
    assert not {"SECRET", "OTHER", "THIRD", "GLEXEC_ENV"} & set(found)


def test_one_word_is_a_line_for_the_shell_and_several_are_a_command() -> None:
    text = wrapenv.wrap({b"A": b"one two"}).decode()
    assert program(UNWRAP, "--", 'echo "<$A>"; exit 7', GLEXEC_ENV=text).stdout == b"<one two>\n"
    assert program(UNWRAP, "echo x", GLEXEC_ENV=text).stdout == b"x\n"
    assert program(UNWRAP, "--exclude=A", "printf", "%s|", "a b", "$A", GLEXEC_ENV=text).stdout == b"a b|$A|"
    assert program(UNWRAP, "--", "exit 7", GLEXEC_ENV=text).returncode == 7


def test_the_command_is_looked_for_in_the_path_that_was_unwrapped(tmp_path: Path) -> None:
    own = tmp_path / "own-command"
    own.write_text('#!/bin/sh\necho found "$1"\n')
    own.chmod(0o755)
    text = wrapenv.wrap({b"PATH": f"{tmp_path}:/usr/bin:/bin".encode()}).decode()
    assert program(UNWRAP, "--", "own-command", "it", GLEXEC_ENV=text).stdout == b"found it\n"


def test_what_cannot_be_run_ends_as_in_a_shell() -> None:
    text = wrapenv.wrap({}).decode()
    assert program(UNWRAP, "--", "no-such-command", "x", GLEXEC_ENV=text).returncode == 127
    assert program(UNWRAP, "--", "/etc/passwd", "x", GLEXEC_ENV=text).returncode == 126


@pytest.mark.parametrize("words", [[], ["--"], ["--exclude"], ["--exclude=A"], ["--excluded", "x"], [""]])
def test_a_missing_command_is_refused(words: list[str]) -> None:
    done = program(UNWRAP, *words, GLEXEC_ENV=wrapenv.wrap({}).decode())
    assert (done.returncode, done.stderr[:24]) == (1, b"glexec_unwrapenv: usage:")


@pytest.mark.parametrize("environ", [{}, {"GLEXEC_ENV": ""}, {"GLEXEC_ENV": "%%%"}])
def test_without_a_sound_text_nothing_runs(environ: dict[str, str]) -> None:
    done = program(UNWRAP, "--", "echo ran", **environ)
    assert (done.returncode, done.stdout) == (1, b"")


def test_the_command_does_not_inherit_pythons_ignored_signals() -> None:
    text = wrapenv.wrap({}).decode()
    done = program(UNWRAP, "--", "grep", "SigIgn", "/proc/self/status", GLEXEC_ENV=text)
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << 12 | 1 << 24)


def test_an_unknown_option_of_wrapenv_is_refused() -> None:
    for words in (["--unknown"], ["--exclude"], ["A"]):
        done = program(WRAP, *words)
        assert (done.returncode, done.stdout) == (1, b"")
