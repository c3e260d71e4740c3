"""The setuid program becomes `pilotage-keep`, which starts clean or not at all (checklist A, D5, E2)."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import EXTRA_GROUP, PILOT, HelperRig
from support.processes import children

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")


@pytest.fixture(autouse=True)
def _alone(rig: HelperRig) -> Iterator[None]:
    yield
    rig.end_calls()


@contextlib.contextmanager
def another_keeper(rig: HelperRig, script: str | None) -> Iterator[None]:
    """Put a script in the keeper's place, or nothing."""
    kept = rig.prefix / "kept-keep"
    rig.keeper.rename(kept)
    try:
        if script is not None:
            rig.keeper.write_text(f"#!{SH}\n{script}\n")
            rig.keeper.chmod(0o700)
        yield
    finally:
        kept.rename(rig.keeper)


def test_it_starts_with_nothing_of_the_callers(rig: HelperRig) -> None:
    def prepare() -> None:
        os.nice(5)
        os.umask(0)

    process = rig.start(
        ["run", "--proxy", str(rig.proxy()), "--job-id", "seen", "--", SH, "-c", "echo ready; exec sleep 60"],
        environment={"LD_PRELOAD": "/tmp/evil.so", "LD_AUDIT": "/tmp/evil.so", "GLIBC_TUNABLES": "x=y", "A": "b"},
        prepare=prepare,
    )
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    (keeper,) = children(process.pid)
    here = Path(f"/proc/{keeper}")
    assert (here / "exe").readlink() == rig.keeper
    assert (here / "cmdline").read_bytes() == b"pilotage-keep\0"
    assert (here / "environ").read_bytes() == b""
    assert (here / "cwd").readlink() == Path("/")
    status = dict(line.split(":\t", 1) for line in (here / "status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == ["0"] * 4
    assert status["Groups"].split() == []
    assert status["Umask"] == "0077"
    assert int(status["SigCgt"], 16) == 0
    assert int(status["SigBlk"], 16) & 1 << signal.SIGTERM - 1
    assert "evil" not in (here / "maps").read_text()
    # Of what it was given, its socket to the front is still open; of the caller's it holds nothing.
    told = {os.readlink(path) for path in (here / "fd").iterdir()}
    assert not [name for name in told if "memfd" in name]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM


def test_nobody_but_root_can_start_it(rig: HelperRig) -> None:
    assert rig.keeper.stat().st_mode & 0o7777 == 0o700
    assert rig.keeper.stat().st_uid == 0
    with pytest.raises(PermissionError):
        subprocess.run([rig.keeper], user=rig.pilot.pw_uid, group=rig.pilot.pw_gid, extra_groups=[])
    # And if its mode were wider, its own look at its ids would end it.
    wider = rig.prefix / "wider-keep"
    shutil.copyfile(rig.keeper, wider)
    wider.chmod(0o755)
    before = rig.audit()
    for ids in ({"user": rig.pilot.pw_uid}, {"group": rig.pilot.pw_gid}):
        done = subprocess.run([wider], env={}, capture_output=True, extra_groups=[], **ids)  # type: ignore[call-overload]
        assert (done.returncode, done.stdout, done.stderr) == (202, b"", b"")
    assert rig.audit() == before
    wider.unlink()


@pytest.mark.parametrize(
    ("argv", "environment"), [(["x"], {}), (["x", "run"], {}), (["x"], {"A": "b"})], ids=["bare", "words", "variables"]
)
def test_roots_own_start_of_it_does_nothing(rig: HelperRig, argv: list[str], environment: dict[str, str]) -> None:
    before = rig.audit()
    done = subprocess.run(argv, executable=rig.keeper, env=environment, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (202, b"", b"")
    assert rig.audit() == before


def test_a_call_that_is_not_sealed_is_refused(rig: HelperRig) -> None:
    code = (
        "import os, socket, sys\n"
        "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "loose = os.memfd_create('call'); os.write(loose, b'PILKEEP\\0' + bytes(4096))\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os.dup2(theirs.fileno(), 3 + 40); os.dup2(loose, 4 + 40)\n"
        "    os.dup2(43, 3); os.dup2(44, 4)\n"
        "    os.execve(sys.argv[1], ['pilotage-keep'], {})\n"
        "_, status = os.waitpid(pid, 0)\n"
        "print(os.waitstatus_to_exitcode(status), ours.recv(8192)[4:].decode())\n"
    )
    done = subprocess.run(["/usr/bin/python3", "-c", code, rig.keeper], capture_output=True, text=True)
    assert done.stdout == "202 the call as handed over: not a sealed memory file\n"


def test_a_keeper_that_is_missing_is_said_so(rig: HelperRig) -> None:
    before = len(rig.audit())
    with another_keeper(rig, None):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.reason, done.out) == (202, "HELPER_SYSTEM", "")
    assert f"{rig.keeper}: No such file or directory" in done.err
    assert rig.since(before) == []


@pytest.mark.parametrize("ending", ["exit 0", "exit 5", "exit 127", "kill -SEGV $$", "exit 202"])
def test_a_keeper_that_never_spoke_is_no_run_whatever_its_exit_code(rig: HelperRig, ending: str) -> None:
    with another_keeper(rig, ending):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.reason, done.out) == (202, "HELPER_SYSTEM", "")
    assert "the monitor process was lost" in done.err


def test_the_callers_groups_and_directory_find_its_proxy_and_roots_do_not(rig: HelperRig) -> None:
    folder = rig.prefix / "by-group"
    folder.mkdir()
    proxy = rig.give(Path(shutil.copy(rig.proxy(), folder / "proxy")))
    relative = ["run", "--proxy", "by-group/proxy", "--", "/usr/bin/true"]
    for group, mode, code in ((EXTRA_GROUP, 0o710, 0), (PILOT, 0o710, 0), ("root", 0o710, 201), ("root", 0o700, 201)):
        shutil.chown(folder, "root", group)
        folder.chmod(mode)
        assert rig.run("/usr/bin/true", proxy=proxy).code == code, (group, mode)
        process = rig.start(relative, program=["/usr/bin/env", "-C", str(rig.prefix)])
        assert process.wait(60) == code, (group, mode)
    shutil.rmtree(folder)


RACER = """
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
front, end, won = int(sys.argv[1]), time.monotonic() + 60, set()
def attack(pid):
    for number in (signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except OSError:
            continue
        won.add(f"kill {number}")
    if libc.ptrace(16, pid, None, None) == 0:
        won.add("ptrace")
    for name in ("mem", "environ", "maps", "fd", "auxv"):
        try:
            # Of one that has ended some can be opened, and say nothing.
            path = f"/proc/{pid}/{name}"
            if os.listdir(path) if name == "fd" else open(path, "rb").read(1):
                won.add(name)
        except OSError:
            pass
while time.monotonic() < end:
    try:
        names = open(f"/proc/{front}/task/{front}/children").read().split()
        # Nobody waits for it before this here has ended.
        if not names and open(f"/proc/{front}/stat").read().rpartition(")")[2].split()[0] == "Z":
            break
    except OSError:
        break
    for name in names:
        try:
            # Its first act is to become root; what it was until then has nothing and is lost at worst.
            if os.stat(f"/proc/{name}").st_uid == 0 and open(f"/proc/{name}/comm").read() == "pilotage-keep\\n":
                attack(int(name))
        except OSError:
            pass
print(sorted(won))
"""


def test_the_pilot_finds_no_moment_to_reach_it(rig: HelperRig) -> None:
    for _ in range(15):
        process = rig.start(["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"])
        racer = subprocess.run(
            ["/usr/bin/python3", "-c", RACER, str(process.pid)],
            user=rig.pilot.pw_uid,
            group=rig.pilot.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert (racer.stdout, racer.stderr) == ("[]\n", "")
        assert process.wait(60) == 0


def test_a_stop_of_the_whole_group_at_the_start_leaves_no_payload_behind(rig: HelperRig) -> None:
    """Until the child is root the caller can stop or kill it, and then there is no run."""
    for pause in (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.004):
        process = rig.start(
            ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"], program=["/usr/bin/setsid", "--wait"]
        )
        time.sleep(pause)
        for child in children(process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                subprocess.run(["kill", "-KILL", f"-{child}"], user=rig.pilot.pw_uid, capture_output=True)
        process.wait(60)
    assert rig.wait(lambda: rig.processes() == [] and rig.left() == [])


def test_a_cleanup_goes_on_when_the_caller_is_gone(rig: HelperRig) -> None:
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; exec sleep 60"])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    (keeper,) = children(process.pid)
    os.kill(keeper, signal.SIGKILL)
    process.wait(60)
    cleaning = rig.start(["cleanup"])
    cleaning.kill()
    cleaning.wait(60)
    # Killed before or after its split: the next one finds nothing undone.
    assert rig.start(["cleanup"]).wait(60) in (0, 202)
    assert rig.start(["cleanup"]).wait(60) == 0
    assert rig.wait(lambda: rig.processes() == [] and rig.left() == [])


def test_what_is_refused_before_the_keeper_is_refused_without_it(rig: HelperRig) -> None:
    with another_keeper(rig, "exit 99"):
        for words, code in ((["frobnicate"], 201), (["--version"], 0), (["check-config"], 0)):
            assert rig.start(words).wait(60) == code
        process = rig.start(["run", "--proxy", "x", "--", "/bin/true"], program=["/usr/bin/setpriv", "--no-new-privs"])
        _, err = process.communicate(timeout=120)
        assert re.search(rb"HELPER_NO_NEW_PRIVS", err)
        assert process.returncode == 202
