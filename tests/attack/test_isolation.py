"""Namespaces: what a payload sees of the machine, and how all of it ends (checklist D8, E4, E5)."""

import contextlib
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.helper_rig import PILOT, HelperRig
from support.injection import numbers
from support.pace import soon
from support.processes import monitor_of

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
PYTHON = os.path.realpath("/usr/bin/python3")
EPERM, EINVAL, ENOSYS, ENOMEM = 1, 22, 38, 12


def section(*lines: str) -> str:
    """Return a section [isolation] to put behind [helper]."""
    return "\n".join(["", "[isolation]", *lines])


@pytest.fixture
def isolated(rig: HelperRig) -> Iterator[HelperRig]:
    with rig.configured(section("namespaces = required")):
        yield rig


def started(rig: HelperRig, *payload: object, stdin: int | None = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", *map(str, payload)], stdin=stdin)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


def owner_of(path: Path) -> int | None:
    """The owner of a file; None when it is gone, for other programs' files come and go."""
    with contextlib.suppress(FileNotFoundError):
        return path.lstat().st_uid
    return None


def alive(rig: HelperRig) -> list[int]:
    """Return the pool accounts' processes that still have memory: one without only waits for the machine's own init."""
    found = []
    for pid in rig.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/statm").read_text().split()[0] != "0":
                found.append(pid)
    return found


def seconds_until_gone(rig: HelperRig, act: Callable[[], None]) -> float:
    start = time.monotonic()
    act()
    assert rig.wait(lambda: alive(rig) == [])
    return time.monotonic() - start


def test_a_payload_sees_only_its_own_processes(isolated: HelperRig) -> None:
    done = isolated.run(SH, "-c", "echo /proc/[0-9]*; cat /proc/self/status | grep NSpid")
    assert (done.code, done.line("start")["isolation"]) == (0, "namespaces")
    seen = {int(path.removeprefix("/proc/")) for path in done.out.splitlines()[0].split()}
    assert 1 in seen
    assert max(seen) < 20
    assert os.getpid() not in seen


def test_shared_directories_are_the_payloads_own(isolated: HelperRig) -> None:
    mine = Path("/tmp/pgt-host-file")
    mine.touch()
    try:
        script = (
            "ls -A /tmp /var/tmp /dev/shm | grep -v : | grep .; touch /tmp/a /var/tmp/b /dev/shm/c;"
            "ipcmk -M 4096 >/dev/null; echo ready; read line; stat -c '%a %u' /tmp;"
            "grep -E ' (/tmp|/var/tmp|/dev/shm|/proc) ' /proc/mounts"
        )
        before = {path for folder in ("/tmp", "/var/tmp", "/dev/shm") for path in Path(folder).iterdir()}
        shm = Path("/proc/sysvipc/shm").read_text()
        process = started(isolated, SH, "-c", script, stdin=subprocess.PIPE)
        fresh = {path for folder in ("/tmp", "/var/tmp", "/dev/shm") for path in Path(folder).iterdir()} - before
        assert [path for path in fresh if owner_of(path) in isolated.uids] == []
        assert Path("/proc/sysvipc/shm").read_text() == shm
        out = process.communicate(b"\n", timeout=120)[0].decode().splitlines()
    finally:
        mine.unlink()
    assert out[0] == "1777 0"
    last = {line.split()[1]: line.split()[3].split(",") for line in out[1:]}
    for place in ("/tmp", "/var/tmp", "/dev/shm", "/proc"):
        assert {"nosuid", "nodev"} <= set(last[place]), place
    assert "noexec" in last["/proc"]


def test_a_private_directory_has_the_configured_size(rig: HelperRig) -> None:
    with rig.configured(section("namespaces = required", "tmp_bytes = 2097152")):
        done = rig.run(SH, "-c", "dd if=/dev/zero of=/tmp/f bs=1M count=4 2>/dev/null; stat -c %s /tmp/f")
    assert done.out.split() == ["2097152"]


def test_the_objects_of_the_machine_are_not_reached(isolated: HelperRig) -> None:
    made = subprocess.run(["ipcmk", "-M", "4096", "-p", "0666"], capture_output=True, text=True, check=True)
    number = made.stdout.split()[-1]
    try:
        assert isolated.run("/usr/bin/ipcs", "-m", "-i", number).out.strip() in ("", f"ipcs: id {number} not found")
        done = isolated.run(SH, "-c", "wc -l < /proc/sysvipc/shm")
        assert done.out.strip() == "1"
    finally:
        subprocess.run(["ipcrm", "-m", number], check=True)


def test_what_the_machine_mounts_later_arrives_and_nothing_goes_back(isolated: HelperRig) -> None:
    folder = isolated.prefix / "auto"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(folder)], check=True)
        (folder / "software").mkdir()
        process = started(isolated, SH, "-c", f"echo ready; until test -e {folder}/software/here; do sleep 0.02; done")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{folder}/software"], check=True)
        (folder / "software" / "here").touch()
        assert process.wait(60) == 0
        assert len(re.findall(rf" {folder}", Path("/proc/self/mounts").read_text())) == 2
    finally:
        subprocess.run(["umount", "-R", str(folder)], check=False)
        folder.rmdir()


def test_the_first_process_of_the_namespaces_cannot_be_touched(isolated: HelperRig) -> None:
    done = isolated.run(isolated.attack("no_signals_for_init"))
    assert (done.code, done.out) == (0, "alive\n")


def test_status_signals_and_streams_are_the_payloads(isolated: HelperRig) -> None:
    assert isolated.run(SH, "-c", "exit 7").code == 7
    assert isolated.run(SH, "-c", "exit 203").code == 204
    assert isolated.run(SH, "-c", "kill -SEGV $$").code == 128 + signal.SIGSEGV
    process = started(isolated, SH, "-c", "trap 'exit 33' TERM; echo ready; while :; do sleep 0.02; done")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 33
    process = isolated.start(["run", "--proxy", str(isolated.proxy()), "--", "/usr/bin/cat"], stdin=subprocess.PIPE)
    data = os.urandom(1 << 20)
    assert process.communicate(data, timeout=120)[0] == data
    process = isolated.start(
        ["run", "--proxy", str(isolated.proxy()), "--", SH, "-c", "exec >&-; read line"], stdin=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    # Its end comes while the payload still lives, and waits for a line.
    assert process.stdout.read() == b""
    assert process.poll() is None
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait(60) == 0


def test_orphans_are_reaped_and_counted(isolated: HelperRig) -> None:
    code = (
        "import os, time\nreader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "  if os.fork() == 0:\n"
        "    while time.process_time() < 0.4: pass\n"
        "  os._exit(0)\n"
        "os.close(writer); os.wait(); os.read(reader, 1)\n"
        # Its orphan has closed its end of the pipe, and is reaped at its next moment.
        "while len([name for name in os.listdir('/proc') if name.isdigit()]) > 2: time.sleep(0.01)\n"
        "print('reaped')\n"
    )
    done = isolated.run(PYTHON, "-c", code)
    assert (done.code, done.out) == (0, "reaped\n")
    end = done.line("end")
    assert float(str(end["cpu_user_seconds"])) + float(str(end["cpu_system_seconds"])) > 0.3


@pytest.mark.parametrize("cgroup", ["auto", "off"])
@pytest.mark.parametrize("how", ["end", "front", "monitor"])
def test_nothing_outlives_the_namespaces(rig: HelperRig, cgroup: str, how: str) -> None:
    def once() -> float:
        process = started(rig, rig.attack("hydra"), "heads", 6)
        assert rig.wait(lambda: len(rig.processes()) >= 7)
        if how == "end":
            seconds = seconds_until_gone(rig, lambda: process.send_signal(signal.SIGTERM))
        else:
            victim = process.pid if how == "front" else monitor_of(process.pid)
            seconds = seconds_until_gone(rig, lambda: os.kill(victim, signal.SIGKILL))
        process.wait(60)
        if how == "monitor":
            assert rig.run("/usr/bin/true").code == 0
        assert rig.wait(lambda: rig.left() == [])
        return seconds

    with rig.configured(f"cgroup = {cgroup}\nterm_grace_seconds = 0" + section("namespaces = required")):
        # A lost front gives its payload half a second between TERM and the kill.
        seconds = soon(once, 1.5 if how == "front" else 1)
    print(f"{how}, cgroup {cgroup}: gone after {seconds:.3f} s")


def test_a_payload_that_has_to_be_killed_holds_nobody_up(rig: HelperRig) -> None:
    """The first process of the namespaces goes when all others have been reaped, so nobody waits for it before."""

    def once() -> float:
        process = started(rig, SH, "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done")
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGKILL
        return time.monotonic() - start

    with rig.configured("term_grace_seconds = 0" + section("namespaces = required")):
        soon(once, 1)
    assert rig.left() == []


@pytest.mark.parametrize("backend", ["cgroup", "namespaces", "account"])
def test_a_fork_bomb_is_gone_within_a_second_of_the_end(rig: HelperRig, backend: str) -> None:
    """The three ways to end a payload, each alone."""
    group, spaces = {"cgroup": ("required", "off"), "namespaces": ("off", "required"), "account": ("off", "off")}[
        backend
    ]

    def once() -> float:
        process = started(rig, rig.attack("hydra"), "bomb", 400)
        assert rig.wait(lambda: len(rig.processes()) > 380)
        seconds = seconds_until_gone(rig, lambda: process.send_signal(signal.SIGTERM))
        process.wait(60)
        assert rig.wait(lambda: rig.left() == [])
        return seconds

    with rig.configured(f"cgroup = {group}\nterm_grace_seconds = 0" + section(f"namespaces = {spaces}")):
        seconds = soon(once, 1)
    print(f"fork bomb, {backend}: gone after {seconds:.3f} s")


def denied(rig: HelperRig, call: str, error: int, argument: int = 0, mask: int = 0) -> list[str]:
    """Return the words that start the helper as the pilot with one system call denied."""
    words = (rig.pilot.pw_uid, rig.pilot.pw_gid, numbers()[call], error, argument, mask)
    return [str(rig.attack("deny")), *map(str, words)]


@pytest.mark.parametrize(
    ("call", "error", "argument", "mask", "said"),
    [
        ("mount", EPERM, 0, 0, "mount on /: Operation not permitted"),
        ("clone3", ENOSYS, 0, 0, "new namespaces: Function not implemented"),
        ("setns", EINVAL, 1, 0x20000000, "setns: Invalid argument"),
    ],
    ids=["mount", "clone3", "setns"],
)
def test_what_the_machine_does_not_have_is_refused_or_said(
    rig: HelperRig, call: str, error: int, argument: int, mask: int, said: str
) -> None:
    words = denied(rig, call, error, argument, mask)
    with rig.configured(section("namespaces = required")):
        before = len(rig.audit())
        process = rig.start(["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/id"], user="root", program=words)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (202, b"")
        assert f"ISOLATION_FAILED (520): {said}" in err.decode()
        assert [line["event"] for line in rig.since(before)] == ["REFUSED"]
        assert (rig.processes(), rig.left()) == ([], [])
    with rig.configured(section("namespaces = auto")):
        process = rig.start(["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/id"], user="root", program=words)
        assert process.wait(60) == 0
        start, end = rig.since(before)[1:]
        assert (start["isolation"], start["missing"]) == ("none", said)
        assert (end["event"], end["isolation"]) == ("END", "none")
        assert (rig.processes(), rig.left()) == ([], [])
    assert rig.run("/usr/bin/id").line("start")["isolation"] == "none"


@pytest.mark.parametrize(("argument", "mask"), [(1, 0x00020000), (1, 0x20000000)], ids=["mounts", "pids"])
def test_a_payload_that_cannot_enter_its_namespaces_does_not_run(rig: HelperRig, argument: int, mask: int) -> None:
    words = denied(rig, "setns", ENOMEM, argument, mask)
    with rig.configured(section("namespaces = required")):
        process = rig.start(["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/id"], user="root", program=words)
        assert process.communicate(timeout=120)[0] == b""
        assert process.returncode == 202
    assert (rig.processes(), rig.left()) == ([], [])


def test_no_database_is_asked_once_a_namespace_is_made(isolated: HelperRig) -> None:
    trace = isolated.prefix / "trace-namespaces"
    words = ["strace", "-f", "-u", PILOT, "-o", str(trace), "-e", "trace=open,openat,openat2,execve,mount,setns,clone3"]
    helper = [str(isolated.program), "run", "--proxy", str(isolated.proxy()), "--", "/usr/bin/true"]
    done = subprocess.run([*words, *helper], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    inside: set[str] = set()
    executed: set[str] = set()
    opened = []
    for line in trace.read_text().splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.startswith("mount(") or (call.startswith("setns(") and "CLONE_NEWNS" in call):
            inside.add(pid)
        elif call.startswith("execve("):
            executed.add(pid)
        elif call.startswith("open") and pid in inside - executed:
            opened.append(call)
    assert len(inside) == 2
    assert [call for call in opened if '"/etc' in call or '"/lib' in call or '"/usr' in call or "nss" in call] == []


def test_no_new_privileges_can_be_left_out_inside_too(rig: HelperRig) -> None:
    with rig.configured("no_new_privs = no" + section("namespaces = required")):
        done = rig.run("/usr/bin/grep", "-E", "^(NoNewPrivs|CapBnd)", "/proc/self/status")
    assert done.out.split() == ["CapBnd:", "0000000000000000", "NoNewPrivs:", "0"]


def test_a_configuration_of_this_section_is_read_strictly(rig: HelperRig) -> None:
    for wrong in ("namespaces = yes", "tmp_bytes = 1", "tmp_bytes = 99999999999999999999", "cgroup = auto", "what = 1"):
        with rig.configured(section(wrong)):
            assert rig.run("/usr/bin/id").reason == "HELPER_CONFIG_INVALID", wrong
    with rig.configured(section("namespaces = off") + section("tmp_bytes = 2097152")):
        assert rig.run("/usr/bin/id").reason == "HELPER_CONFIG_INVALID"


def test_core_files_stay_off(isolated: HelperRig) -> None:
    limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    done = isolated.run(SH, "-c", "kill -ABRT $$", prepare=lambda: resource.setrlimit(resource.RLIMIT_CORE, limit))
    assert done.code == 128 + signal.SIGABRT
    assert isolated.left() == []
