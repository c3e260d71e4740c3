"""glexec keeps gLExec's contract: who runs, what it gets, and what the exit code says."""

import contextlib
import datetime
import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotage.x509.files import load_identity, write_proxy
from pilotage.x509.keys import KeyKind, make_key
from pilotage.x509.proxies import sign_proxy
from support.glexec_rig import SHELL, GlexecRig
from support.helper_rig import LIBC, ROOT, SECOND_PILOT

pytestmark = pytest.mark.root


def test_a_command_runs_as_the_owners_account_and_nothing_is_said(glexec: GlexecRig) -> None:
    before = set(glexec.rig.left())
    assert glexec.run("/bin/true").said == (0, "", "")
    done = glexec.run("/usr/bin/id", "-un")
    assert (done.code, done.err) == (0, "")
    assert done.out.strip() in glexec.rig.pools
    assert set(glexec.rig.left()) <= before


# exit codes


@pytest.mark.parametrize("code", [0, 1, 7, 125, 126, 127, 200])
def test_the_payloads_code_comes_through(glexec: GlexecRig, code: int) -> None:
    assert glexec.shell(f"exit {code}").said == (code, "", "")


@pytest.mark.parametrize("code", [201, 202, 203, 204])
def test_a_payload_cannot_pretend_to_be_glexec(glexec: GlexecRig, code: int) -> None:
    assert glexec.shell(f"exit {code}").code == 204


def test_a_signal_that_ends_the_payload_is_128_more(glexec: GlexecRig) -> None:
    assert glexec.shell("kill -HUP $$").code == 129
    assert glexec.shell("kill -KILL $$").code == 137


def test_commands_that_cannot_be_run(glexec: GlexecRig, tmp_path: Path) -> None:
    plain, link = glexec.rig.prefix / "plain", glexec.rig.prefix / "link"
    plain.write_text("no program\n")
    link.unlink(missing_ok=True)
    link.symlink_to("/usr/bin/id")
    assert glexec.run("/usr/bin/idontexist").code == 201
    assert glexec.run(plain).code == 126
    assert glexec.run("true").code == 201
    assert glexec.run("/usr/bin").code == 201
    refused = glexec.run(link)
    assert refused.code == 201
    assert "symbolic link" in refused.err


VARIABLES = ["GLEXEC_CLIENT_CERT", "GLEXEC_SOURCE_PROXY", "GLEXEC_TARGET_PROXY"]


def test_without_any_proxy_variable_it_is_not_authorised(glexec: GlexecRig) -> None:
    assert glexec.run("/bin/true", GLEXEC_CLIENT_CERT=None).code == 203


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", ["", "/nonexistent/file", "/", "relative/file"])
def test_a_variable_that_is_set_must_be_usable(glexec: GlexecRig, name: str, value: str) -> None:
    assert glexec.run("/bin/true", **{name: value}).code == 201


@pytest.mark.parametrize("mode", ["", "lcmaps", "lcmaps_verify_account ", "LCMAPS_GET_ACCOUNT"])
def test_only_two_modes_are_known(glexec: GlexecRig, mode: str) -> None:
    assert glexec.run("/bin/true", GLEXEC_MODE="lcmaps_get_account").said == (0, "", "")
    assert glexec.run("/bin/true", GLEXEC_MODE=mode).code == 201


@pytest.mark.parametrize("variable", ["GLEXEC_CLIENT_CERT", "GLEXEC_SOURCE_PROXY"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o601])
def test_a_proxy_that_others_have_rights_on_is_refused(glexec: GlexecRig, variable: str, mode: int) -> None:
    copy = glexec.rig.prefix / "proxies" / "loose.pem"
    copy.write_bytes(glexec.rig.proxy().read_bytes())
    glexec.rig.give(copy, mode)
    assert glexec.run("/bin/true", **{variable: str(copy)}).code == 201
    for allowed in (0o600, 0o400, 0o700):
        assert glexec.run("/bin/true", **{variable: str(glexec.rig.give(copy, allowed))}).said == (0, "", "")


@pytest.mark.parametrize("variable", ["GLEXEC_CLIENT_CERT", "GLEXEC_SOURCE_PROXY"])
def test_a_proxy_of_somebody_else_is_refused(glexec: GlexecRig, variable: str) -> None:
    copy = glexec.rig.prefix / "proxies" / "other.pem"
    copy.write_bytes(glexec.rig.proxy().read_bytes())
    copy.chmod(0o600)
    assert glexec.run("/bin/true", **{variable: str(copy)}).code == 201


def test_a_bare_certificate_is_refused(glexec: GlexecRig) -> None:
    bare = glexec.rig.prefix / "proxies" / "bare.pem"
    bare.write_bytes(glexec.rig.owners[0].cert_path.read_bytes())
    assert glexec.run("/bin/true", GLEXEC_CLIENT_CERT=str(glexec.rig.give(bare))).code == 201
    keyless = glexec.rig.prefix / "proxies" / "keyless.pem"
    text = glexec.rig.proxy().read_bytes()
    start = text.index(b"-----BEGIN PRIVATE KEY") if b"BEGIN PRIVATE KEY" in text else text.index(b"-----BEGIN RSA")
    end = text.index(b"-----BEGIN CERTIFICATE", start)
    keyless.write_bytes(text[:start] + text[end:])
    assert glexec.run("/bin/true", GLEXEC_CLIENT_CERT=str(glexec.rig.give(keyless))).code == 201


def test_an_expired_proxy_is_the_callers_mistake(glexec: GlexecRig) -> None:
    owner = load_identity(glexec.rig.owners[0].cert_path, glexec.rig.owners[0].key_path)
    key = make_key(KeyKind.RSA_2048)
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2)
    hour = datetime.timedelta(hours=1)
    signed = sign_proxy(owner.chain, owner.key, key.public_key(), lifetime=hour, now=past)
    path = glexec.rig.prefix / "proxies" / "expired.pem"
    path.unlink(missing_ok=True)
    write_proxy(path, (signed, *owner.chain), key)
    refused = glexec.run("/bin/true", GLEXEC_CLIENT_CERT=str(glexec.rig.give(path)))
    assert refused.code == 201
    assert "EXPIRED" in refused.err


def spoil_section(text: str) -> str:
    return text + "[unknown]\nkey = value\n"


@contextlib.contextmanager
def without_configuration(glexec: GlexecRig) -> Iterator[None]:
    away = glexec.rig.config.with_suffix(".away")
    glexec.rig.config.rename(away)
    try:
        yield
    finally:
        away.rename(glexec.rig.config)


@contextlib.contextmanager
def loose_configuration(glexec: GlexecRig) -> Iterator[None]:
    glexec.rig.config.chmod(0o646)
    try:
        yield
    finally:
        glexec.rig.config.chmod(0o644)


def test_a_sites_fault_is_202(glexec: GlexecRig) -> None:
    for broken in (without_configuration(glexec), loose_configuration(glexec)):
        with broken:
            assert glexec.run("/bin/true").code == 202
    with glexec.rig.configured(change=lambda text: text + "glexec = yes\n[unknown]\nkey = value\n"):
        assert glexec.run("/bin/true").code == 202
    with glexec.rig.configured(change=lambda text: text + "glexec = perhaps\n"):
        assert glexec.run("/bin/true").code == 202


def test_who_is_not_listed_is_not_authorised(glexec: GlexecRig) -> None:
    with glexec.rig.mapped('"/other" .pool\n'):
        assert glexec.run("/bin/true").code == 203
    with glexec.rig.configured(change=lambda text: text + "glexec = no\n"):
        assert glexec.run("/bin/true").code == 203
    with glexec.rig.configured():
        refused = glexec.run("/bin/true")
    assert refused.code == 203
    assert "glexec = yes" in refused.err


def test_help_and_version(glexec: GlexecRig) -> None:
    assert glexec.run("-v", GLEXEC_CLIENT_CERT=None).out.startswith("glexec (Pilotage) ")
    usage = glexec.run("-h", GLEXEC_CLIENT_CERT=None)
    assert (usage.code, usage.err) == (0, "")
    assert "GLEXEC_CLIENT_CERT" in usage.out
    assert glexec.run("--unknown").code == 201


# what the payload gets


def test_the_payloads_environment_is_its_own_and_glexecs(glexec: GlexecRig) -> None:
    hostile = {
        "LD_LIBRARY_PATH": "/x",
        "MALLOC_TRACE": "/tmp/x",
        "PYTHONPATH": "/x",
        "BASH_ENV": "/x",
        "IFS": "x",
        "X509_USER_PROXY": "/pilot",
        "HOME": "/pilot",
        "GLEXEC_lower": "no",
        "GLEXECX": "no",
        "GLEXEC_ENV": "kept as it is",
        "GLEXEC_ID": "task 7",
        "GLEXEC_OWN": "a=b",
    }
    done = glexec.run("/usr/bin/env", GLEXEC_TARGET_PROXY="/dev/null", **hostile)
    assert (done.code, done.err) == (0, "")
    found = dict(line.split("=", 1) for line in done.out.splitlines())
    account = glexec.account()
    glexecs = {name: value for name, value in found.items() if name.startswith("GLEXEC")}
    assert set(glexecs) == {"GLEXEC_CLIENT_CERT", "GLEXEC_TARGET_PROXY", "GLEXEC_ENV", "GLEXEC_ID", "GLEXEC_OWN"}
    assert glexecs["GLEXEC_ENV"] == "kept as it is"
    assert glexecs["GLEXEC_OWN"] == "a=b"
    others = {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "PILOTAGE_RUN_ID", "PILOTAGE_JOB_ID"}
    assert set(found) - set(glexecs) == others
    assert (found["HOME"], found["USER"], found["LOGNAME"]) == (account.pw_dir, account.pw_name, account.pw_name)


def test_a_large_glexec_env_passes_whole(glexec: GlexecRig) -> None:
    blob = "x" * (128 * 1024 - len("GLEXEC_ENV=") - 1)
    assert glexec.shell('printf %s "$GLEXEC_ENV" | wc -c', GLEXEC_ENV=blob).out.strip() == str(len(blob))


def test_too_many_variables_are_refused(glexec: GlexecRig) -> None:
    refused = glexec.run("/bin/true", **{f"GLEXEC_{n}": "x" for n in range(80)})
    assert refused.code == 201


def test_the_working_directory_is_the_accounts_home_and_the_umask_the_callers(glexec: GlexecRig) -> None:
    done = glexec.shell("pwd; umask")
    assert done.out.split() == [glexec.account().pw_dir, "0022"]


def test_glexec_id_reaches_the_log_in_one_line(glexec: GlexecRig) -> None:
    before = len(glexec.rig.audit())
    assert glexec.run("/bin/true", GLEXEC_ID="This is\na-new-line \x1b[31m" + "x" * 300).code == 0
    starts = [line for line in glexec.rig.since(before) if line["event"] == "START"]
    assert [line["verb"] for line in starts] == ["glexec"]
    assert str(starts[0]["job_id"]).startswith("This is?a-new-line ?[31m")


def test_a_socket_on_descriptor_0_is_the_payloads(glexec: GlexecRig) -> None:
    ours, theirs = socket.socketpair()
    code = (
        "import socket; s = socket.socket(fileno=0); data, fds, _, _ = socket.recv_fds(s, 100, 4);"
        "import os; os.write(fds[0], b'through ' + data)"
    )
    reader, writer = os.pipe()
    with ours, theirs:
        process = glexec.start(
            glexec.program, os.path.realpath("/usr/bin/python3"), "-I", "-c", code, stdin=theirs.fileno()
        )
        socket.send_fds(ours, [b"the socket"], [writer])
        os.close(writer)
        assert process.communicate(timeout=120) == (b"", b"")
        assert process.returncode == 0
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"through the socket"


@pytest.mark.parametrize("closed", [c for n in (1, 2, 3) for c in itertools.combinations(range(3), n)])
def test_closed_descriptors_do_no_harm(glexec: GlexecRig, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    script = 'for f in 0 1 2; do readlink /proc/$$/fd/$f; done > "$1"'
    out = glexec.folder() / "seen"
    process = glexec.start(glexec.program, SHELL, "-c", script, "sh", out, prepare=close)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(out.read_text().split()) == 3


def started(glexec: GlexecRig, trap: str) -> "tuple[subprocess.Popen[bytes], int]":
    """Start a payload that says its number once it has set its trap, and then goes on."""
    process = glexec.start(glexec.program, SHELL, "-c", f"{trap}; echo $$; while :; do sleep 0.05; done")
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "CONT"])
def test_signals_reach_the_payload(glexec: GlexecRig, name: str) -> None:
    process, _ = started(glexec, f"trap 'exit 42' {name}")
    process.send_signal(signal.Signals[f"SIG{name}"])
    assert process.wait(timeout=120) == 42
    process.communicate()


def test_killing_glexec_kills_the_payload(glexec: GlexecRig) -> None:
    process, _ = started(glexec, "trap '' TERM")
    process.kill()
    process.communicate()
    assert glexec.rig.wait(lambda: glexec.rig.processes() == [])


SPIN = "import time\nwhile time.process_time() < 0.5: pass"


def test_the_payloads_time_is_the_callers_childrens(glexec: GlexecRig) -> None:
    def spent() -> float:
        times = os.times()
        return times.children_user + times.children_system

    before = spent()
    assert glexec.run(os.path.realpath("/usr/bin/python3"), "-I", "-c", SPIN).code == 0
    assert spent() - before > 0.3


def test_pipes_pass_bytes_as_they_are(glexec: GlexecRig) -> None:
    process = glexec.start(glexec.program, "/bin/cat", stdin=subprocess.PIPE)
    given = os.urandom(3 * 1024 * 1024)
    assert process.communicate(given, timeout=120) == (given, b"")


def test_no_setuid_bit_and_no_privilege_of_its_own(glexec: GlexecRig) -> None:
    assert glexec.program.stat().st_mode & 0o7777 == 0o755
    needed = subprocess.run(["readelf", "-d", str(glexec.program)], capture_output=True, text=True, check=True).stdout
    assert {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line} == LIBC


def test_a_caller_that_is_not_allowed_cannot_ask_the_helper_directly(glexec: GlexecRig) -> None:
    """The site's word, not the program's, allows the verb."""
    with glexec.rig.configured():
        done = glexec.rig.run("/bin/true", verb="glexec")
    assert (done.code, done.reason) == (203, "CALLER_NOT_ALLOWED")
    assert glexec.rig.run("/bin/true", verb="glexec", user=SECOND_PILOT).code in (201, 203)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--target-proxy", "/tmp/x", "--", "/bin/true"],
        ["run"],
        ["glexec", "--target-proxy", "relative", "--", "/bin/true"],
        ["glexec", "--target-proxy", "/tmp/" + "x/" * 3000, "--", "/bin/true"],
        ["glexec", "--target-proxy", "/tmp/a", "--target-proxy", "/tmp/b"],
        ["glexec", "--"],
        ["glexec", "--environment", "LD_PRELOAD"],
        ["glexec", "true"],
    ],
)
def test_the_helper_refuses_what_the_verb_does_not_have(glexec: GlexecRig, arguments: list[str]) -> None:
    words = [arguments[0], "--proxy", str(glexec.rig.proxy()), *arguments[1:]]
    process = glexec.rig.start(words)
    process.communicate(timeout=120)
    assert process.returncode == 201


CHANGES: list[Callable[[str], str]] = [lambda text: text + "glexec = yes\nglexec = yes\n", spoil_section]


@pytest.mark.parametrize("change", CHANGES)
def test_a_repeated_key_or_unknown_section_refuses_everybody(glexec: GlexecRig, change: Callable[[str], str]) -> None:
    with glexec.rig.configured(change=change):
        assert glexec.run("/bin/true").code == 202


def isolated(word: str) -> Callable[[str], str]:
    return lambda text: text.replace("[caller", f"[isolation]\nnamespaces = {word}\n\n[caller", 1) + "glexec = yes\n"


def test_a_site_that_requires_namespaces_has_no_glexec(glexec: GlexecRig) -> None:
    """Steps see each other's files and processes by contract, so what is required cannot be had."""
    with glexec.rig.configured(change=isolated("required")):
        refused = glexec.run("/bin/echo", "ran")
    assert (refused.code, refused.out) == (202, "")
    assert "ISOLATION_FAILED" in refused.err


def test_where_namespaces_are_optional_the_log_says_why_there_are_none(glexec: GlexecRig) -> None:
    before = len(glexec.rig.audit())
    with glexec.rig.configured(change=isolated("auto")):
        assert glexec.run("/bin/true").said == (0, "", "")
    (start,) = [line for line in glexec.rig.since(before) if line["event"] == "START"]
    assert "gLExec" in str(start["missing"])


def test_install_helper_puts_every_program_in_place_with_its_mode(glexec: GlexecRig, tmp_path: Path) -> None:
    tree = glexec.rig.prefix / "build"
    script = [str(ROOT / "deploy" / "install-helper"), "--destdir", str(tmp_path), "--prefix", "/opt/placed"]
    subprocess.run([*script, "--build", str(tree)], check=True, capture_output=True, timeout=300)
    sbin = tmp_path / "opt" / "placed" / "sbin"
    placed = {path.name: path.lstat() for path in sbin.iterdir()}
    companions = ["glexec_wrapenv", "glexec_wrapenv.pl", "glexec_unwrapenv", "glexec_unwrapenv.pl", "mkgltempdir"]
    modes = {"pilotage-exec": 0o104711, **dict.fromkeys(["glexec", *companions], 0o100755)}
    assert {name: status.st_mode for name, status in placed.items()} == modes
    assert {(status.st_uid, status.st_gid, status.st_nlink) for status in placed.values()} == {(0, 0, 1)}
    assert b"/opt/placed/sbin/pilotage-exec" in (sbin / "glexec").read_bytes()
    assert (tmp_path / "opt" / "placed" / "share" / "man" / "man1" / "glexec.1").is_file()
