"""What the setuid program is made of: its size, its links, its calls."""

import platform
import re
import subprocess
from pathlib import Path

import pytest

from pilotage.reasons import TABLE, Reason
from support.helper_rig import LIBC, ROOT, HelperRig

SOURCE = ROOT / "helper_c" / "src"
PROGRAMS = {
    name: [*sorted((SOURCE / name).glob("*.c")), *sorted((SOURCE / "privsep").glob("*.c"))] for name in ("exec", "keep")
}
BASE = sorted((SOURCE / "base").glob("*.c"))
# Of the archive `base`, these are in other programs alone; a test looks into the installed ones.
ELSEWHERE = {"answer.c": "pil_die", "dn.c": "pil_dn_canonical", "pattern.c": "pil_glob"}
SOURCES = sorted({*PROGRAMS["exec"], *PROGRAMS["keep"], *(path for path in BASE if path.name not in ELSEWHERE)})


def without_comments(path: Path) -> str:
    return re.sub(r"/\*.*?\*/", lambda found: "\n" * found.group().count("\n"), path.read_text(), flags=re.DOTALL)


def code_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


def linked(program: Path) -> list[Path]:
    """The sources of a program: its own, and those of the archives whose objects the linker took."""
    names = set(re.findall(r"FILE +LOCAL +DEFAULT +ABS (\S+)", readelf(program, "--syms")))
    found = [path for path in [*PROGRAMS[program.name.removeprefix("pilotage-")], *BASE] if path.name in names]
    assert {"main.c", "switch.c", "text.c"} <= {path.name for path in found}
    return found


def functions(path: Path) -> tuple[dict[str, str], str]:
    """The functions of a source file, each with its head, and what is outside them."""
    pattern = r"^[^\s#}][^\n;]*\n(\w+)\([^;{]*\)\n\{\n.*?^\}\n"
    text = without_comments(path)
    found = {match.group(1): match.group() for match in re.finditer(pattern, text, flags=re.MULTILINE | re.DOTALL)}
    return found, re.sub(pattern, "", text, flags=re.MULTILINE | re.DOTALL)


def reached(sources: list[Path], start: str, without: set[str]) -> dict[Path, set[str]]:
    """The functions that can be reached by name from `start`, in its file or elsewhere."""
    known = {path: functions(path)[0] for path in sources}
    (first,) = [path for path in sources if start in known[path]]
    found: dict[Path, set[str]] = {}
    todo = [(first, start)]
    while todo:
        path, name = todo.pop()
        if name in found.setdefault(path, set()):
            continue
        found[path].add(name)
        for word in set(re.findall(r"\w+", known[path][name])) - without:
            if word in known[path]:
                todo.append((path, word))
            else:
                todo += [(other, word) for other in sources if word in known[other]]
    return found


def test_a_file_is_short_enough_to_be_read_at_once() -> None:
    found = {path.name: code_lines(without_comments(path)) for path in SOURCES}
    assert {name: lines for name, lines in found.items() if lines > 400} == {}


@pytest.mark.root
def test_the_setuid_program_is_small(rig: HelperRig) -> None:
    """At most 2,500 lines of C (reference, 1.12): all of every source file of which an object is linked in."""
    assert sum(code_lines(without_comments(path)) for path in linked(rig.program)) <= 1_500


@pytest.mark.root
def test_the_way_from_main_to_execve_is_short(rig: HelperRig) -> None:
    """At most 1,200 lines (reference, 1.12) from `main` to the execve of pilotage-keep, refusals included.

    Counted are all functions that can be reached from `main` by name (a mention is taken for a call, so pointers to
    functions count), and of each file that has one of them everything outside functions. Not counted is `front`, where
    the parent of the split goes, and what it alone uses: it has given up its privilege for good and comes to no execve.
    """
    sources = linked(rig.program)
    way = reached(sources, "main", {"front"})
    assert {"keeper", "inherit_limits", "options_parse", "handover_make"} <= set().union(*way.values())
    lines = 0
    for path, names in way.items():
        texts, outside = functions(path)
        lines += code_lines(outside) + sum(code_lines(texts[name]) for name in names)
    assert lines <= 1_200
    # Every line of the files is in a function or outside all of them.
    for path in sources:
        texts, outside = functions(path)
        assert code_lines(outside) + sum(map(code_lines, texts.values())) == code_lines(without_comments(path))


@pytest.mark.root
def test_the_program_that_keeps_a_run_does_not_grow(rig: HelperRig) -> None:
    """No yardstick is given for it: this holds what there is."""
    assert sum(code_lines(without_comments(path)) for path in linked(rig.keeper)) <= 5_560


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


# Paths that are made at run time, and are the kernel's own files; and an unprivileged check of any file.
OPENED_BY_NAME = {("cgroup.c", "file"), ("sweep.c", "proc, path"), ("trusted.c", "path")}


def test_no_link_is_followed_but_to_the_kernels_own_files() -> None:
    """Whatever is opened is /proc's, /dev/null, the lists of accounts and groups, or opened with O_NOFOLLOW."""
    found = set()
    for path in SOURCES:
        for call in re.findall(r"\b(?:f?open|openat|opendir)\(((?:[^()]|\([^()]*\))*)\)", without_comments(path)):
            if not re.search(r"O_NOFOLLOW|\bOPEN_[A-Z]+\b", call):
                found.add((path.name, re.split(r", (?:O_|flags|\"r)", " ".join(call.split()))[0]))
    fixed = re.compile(r'"(/proc(/[\w/-]+)?|/dev/null|/etc/passwd|/etc/group)"$')
    assert {(name, what) for name, what in found if not fixed.match(what)} == OPENED_BY_NAME


def test_only_one_file_changes_ids() -> None:
    calls = r"\b(setuid|seteuid|setreuid|setresuid|setgid|setegid|setregid|setresgid|setgroups|initgroups)\("
    assert {path.name for path in SOURCES if re.search(calls, without_comments(path))} == {"switch.c"}


def test_the_reasons_that_may_be_retried_are_the_tables() -> None:
    body = re.search(r"may_retry\(enum.*?\n}", (SOURCE / "exec" / "tell.c").read_text(), flags=re.DOTALL)
    assert body
    told = set(re.findall(r"case PIL_(\w+):", body.group()))
    assert told == {reason.name for reason in Reason if 200 <= reason.value < 600 and TABLE[reason].retry}


def readelf(program: Path, option: str) -> str:
    return subprocess.run(["readelf", "-W", option, str(program)], capture_output=True, text=True, check=True).stdout


@pytest.mark.root
@pytest.mark.parametrize("name", ["pilotage-exec", "pilotage-keep", "pilotage-logonly"])
def test_the_installed_programs_link_libc_alone_and_are_hardened(rig: HelperRig, name: str) -> None:
    program = rig.program if name == "pilotage-exec" else rig.keeper.with_name(name)
    dynamic = readelf(program, "-d")
    assert set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)) == LIBC
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    assert "BIND_NOW" in dynamic
    assert "PIE" in dynamic
    headers = readelf(program, "-l")
    assert "GNU_RELRO" in headers
    assert re.search(r"GNU_STACK.* RW ", headers)
    names = readelf(program, "--syms")
    assert "pil_detail" in names
    # Nothing that parses certificates, maps, asks the name service or loads what it names.
    foreign = [*ELSEWHERE.values(), "pil_map_answer", "pil_verify", "X509", "d2i_", "getpwnam", "getpwuid"]
    foreign += ["getgrnam", "getgrgid", "getgrouplist", "initgroups", "dlopen", "getaddrinfo"]
    assert [word for word in foreign if word in names] == []
    symbols = readelf(program, "--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert "_chk@" in symbols


@pytest.mark.root
@pytest.mark.skipif(platform.machine() != "x86_64", reason="linked to libc on this kind of machine")
def test_the_program_that_deletes_is_linked_to_nothing(rig: HelperRig) -> None:
    """Not even to itself: nobody would apply a relocation (docs/adr/0011)."""
    program = rig.keeper.with_name("pilotage-sweep")
    dynamic = readelf(program, "-d")
    assert "BIND_NOW" in dynamic
    assert "NEEDED" not in dynamic
    assert "no relocations" in readelf(program, "-r")
    headers = readelf(program, "-l")
    assert "INTERP" not in headers
    assert "Position-Independent Executable" in headers
    assert "GNU_RELRO" in headers
    assert re.search(r"GNU_STACK.* RW ", headers)


@pytest.mark.root
def test_the_setuid_program_holds_nothing_of_the_keepers_work(rig: HelperRig) -> None:
    names = readelf(rig.program, "--syms")
    assert "config_load" in readelf(rig.keeper, "--syms")
    assert [name for name in ("config_load", "audit_open", "pil_open_trusted", "slot_take") if name in names] == []
    assert "options_parse" not in readelf(rig.keeper, "--syms")


@pytest.mark.root
def test_the_installed_programs_are_roots_and_lie_below_roots_directories(rig: HelperRig) -> None:
    assert rig.program.stat().st_mode & 0o7777 == 0o4711
    assert rig.keeper.stat().st_mode & 0o7777 == 0o700
    for path in (rig.program, rig.keeper, rig.verifier, *rig.program.parents, *rig.verifier.parents):
        assert path.stat().st_uid == 0
        assert path.stat().st_mode & 0o022 == 0


@pytest.mark.root
def test_where_the_switch_is_there_is_no_way_without_and_where_there_is_none_there_is_no_power(rig: HelperRig) -> None:
    """Each program has the one `become.c` or the other, and neither has a condition between them."""
    keeps, stays = (readelf(rig.keeper.with_name(name), "--syms") for name in ("pilotage-keep", "pilotage-logonly"))
    for name in ("become_account", "become_verifier"):
        assert re.search(rf"FUNC .* {name}\n", keeps)
        assert re.search(rf"FUNC .* {name}\n", stays)
    assert " is_caller" in stays
    assert " is_caller" not in keeps
    body = without_comments(SOURCE / "keep" / "become.c")
    assert not re.search(r"\bif\b|\?|&&|\|\||\bswitch \(|\bwhile\b|\bfor\b", body)
    mode = [path.name for path in PROGRAMS["keep"] if re.search(r"\blog_only\b", without_comments(path))]
    assert sorted(mode) == ["config.c", "main.c", "prepare.c"]
