"""The helper's processes are nobody's to look into or to signal, from the first moment on (checklist D5-D7, E1, E2)."""

import contextlib
import ctypes
import os
import re
import resource
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import HelperRig
from support.processes import children, monitor_of, uids
from support.tracing import traced

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
PYTHON = os.path.realpath("/usr/bin/python3")


@pytest.fixture(autouse=True)
def _alone(rig: HelperRig) -> Iterator[None]:
    yield
    rig.end_calls()


def looked(rig: HelperRig, *words: object, user: int | None = None) -> "subprocess.Popen[str]":
    """Start the attacker, as the pilot or another account."""
    group = rig.pilot.pw_gid if user is None else user
    process = subprocess.Popen(
        [rig.attack("look"), *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        user=rig.pilot.pw_uid if user is None else user,
        group=group,
        extra_groups=[],
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def found(process: "subprocess.Popen[str]") -> tuple[list[str], int]:
    """What the attacker could do, and how often it tried."""
    out, _ = process.communicate(timeout=120)
    *worked, last = out.splitlines()
    counted = re.fullmatch(r"(\d+) attempts on (\d+)", last)
    assert counted, out
    return worked, int(counted.group(1))


def started_under_attack(rig: HelperRig, how: str) -> "tuple[subprocess.Popen[bytes], subprocess.Popen[str]]":
    """Start a run in a process that the attacker knows, and attacks, before its execve."""
    code = "import os, sys\nprint(flush=True)\nsys.stdin.readline()\nos.execv(sys.argv[1], sys.argv[1:])\n"
    words = ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"]
    process = rig.start(words, program=(PYTHON, "-c", code), stdin=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdout.readline()
    attacker = looked(rig, how, 60_000, process.pid)
    process.stdin.write(b"\n")
    process.stdin.close()
    return process, attacker


def test_the_attack_works_where_it_may(rig: HelperRig) -> None:
    """Against a program of the pilot's own it finds everything, so that finding nothing means something."""
    fake = rig.attacks / "pilotage-fake"
    fake.write_bytes(Path("/usr/bin/sleep").resolve().read_bytes())
    fake.chmod(0o755)
    victim = subprocess.Popen([fake, "30"], user=rig.pilot.pw_uid, group=rig.pilot.pw_gid, extra_groups=[])
    worked, _ = found(looked(rig, "look", 2000, victim.pid))
    victim.kill()
    victim.wait()
    names = {line.split()[0] for line in worked}
    assert {"mem", "environ", "maps", "fd", "pidfd_getfd"} <= names
    assert {"ptrace", "process_vm_readv"} & names


@pytest.mark.parametrize("who", ["pilot", "payload"])
def test_no_process_of_a_start_can_be_looked_into(rig: HelperRig, who: str) -> None:
    """Forty starts under the eyes of an attacker that never rests: front, monitor, verifier, mapper, cleaner."""
    account = int(str(rig.run("/usr/bin/true").line("start")["uid"]))
    runs: Counter[int] = Counter()
    attempts = 0
    with rig.configured("cgroup = off"):
        # The attacker gets as many rounds as it needs where it shares one core with the runs.
        for _ in range(8):
            attacker = looked(rig, "look", 600_000, user=None if who == "pilot" else account)
            # The payloads of these runs are another owner's, so that no end of theirs ends the attacker.
            for _ in range(40):
                runs[rig.run("/usr/bin/true", proxy=rig.proxy(1)).code] += 1
            attacker.terminate()
            worked, tried = found(attacker)
            assert worked == []
            attempts += tried
            if attempts > 1600:
                break
    assert set(runs) == {0}
    assert attempts > 1600


def test_a_child_of_the_pilots_is_closed_from_its_execve_on(rig: HelperRig) -> None:
    """The tightest race: the attacker knows the pid before the helper is started in it."""
    attempts, rounds = 0, 0
    while rounds < 12 or (attempts <= 500 and rounds < 200):
        process, attacker = started_under_attack(rig, "look")
        assert process.wait(60) == 0
        worked, tried = found(attacker)
        assert worked == []
        attempts, rounds = attempts + tried, rounds + 1
    assert attempts > 500


def test_a_traced_start_has_no_privilege(rig: HelperRig) -> None:
    """Whoever traces through execve gets a program without the set-user-id bit, which refuses."""
    before = len(rig.audit())
    done = subprocess.run(
        ["strace", "-o", "/dev/null", str(rig.program), "run", "--proxy", str(rig.proxy()), "--", "/usr/bin/id"],
        capture_output=True,
        text=True,
        user=rig.pilot.pw_uid,
        group=rig.pilot.pw_gid,
        extra_groups=[],
        check=False,
    )
    assert (done.returncode, done.stdout) == (202, "")
    assert "HELPER_PRIVILEGE" in done.stderr
    assert len(rig.audit()) == before


def test_the_payload_reaches_neither_monitor_nor_front(rig: HelperRig) -> None:
    code = (
        "import ctypes, os, signal, sys\nme = os.getppid()\n"
        "libc = ctypes.CDLL(None, use_errno=True)\nprint(me)\n"
        "for name in ('exe', 'mem', 'environ', 'maps', 'fd/0', 'root/etc', 'cwd', 'ns/user', 'ns/mnt',\n"
        "  f'task/{me}/mem'):\n"
        "  for flags in (os.O_RDONLY, os.O_WRONLY):\n"
        "    try: os.read(os.open(f'/proc/{me}/{name}', flags), 1); print('read', name, flags)\n"
        "    except IsADirectoryError: print('entered', name)\n"
        "    except OSError: pass\n"
        "    try: libc.setns(os.open(f'/proc/{me}/{name}', os.O_RDONLY), 0); print('setns', name)\n"
        "    except OSError: pass\n"
        "for number in range(0, 65):\n"
        "  try: os.kill(me, number); print('signalled', number)\n"
        "  except PermissionError: pass\n"
    )
    done = rig.run(PYTHON, "-c", code)
    assert done.code == 0, done.err
    parent, *worked = done.out.splitlines()
    assert int(parent) > 1
    assert worked == []
    # The program that the monitor runs is the installed one, and stays as it is.
    for path in (rig.program, *(rig.program.parents[1] / "libexec").iterdir()):
        assert path.stat().st_mode & 0o222 == 0o200


def test_no_core_of_any_process_is_written(rig: HelperRig) -> None:
    """ABRT and SEGV to each of them, with no limit of the caller's on cores and the directories open."""
    limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    places = [Path("/"), rig.prefix, Path("/tmp"), Path.cwd()]
    kept = {path for place in places for path in place.glob("core*")}

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, limit)

    for role in ("front", "monitor", "payload"):
        for number in (signal.SIGSEGV, signal.SIGABRT):
            process = rig.start(
                ["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; exec sleep 300"], prepare=prepare
            )
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            monitor = monitor_of(process.pid)
            payload = next(pid for pid in children(monitor) if uids(pid) and uids(pid)[0] in rig.uids)
            target = {"front": process.pid, "monitor": monitor, "payload": payload}[role]
            for pid in (process.pid, monitor):
                limits = Path(f"/proc/{pid}/limits").read_text()
                assert re.search(r"Max core file size +0 ", limits), (role, pid)
            # Blocked for good in front and monitor, so the kernel's own faults alone could kill them so.
            os.kill(target, number)
            os.kill(target, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            assert rig.wait(lambda: rig.processes() == [])
            assert rig.run("/usr/bin/true").code == 0
    fresh = {path for place in places for path in place.glob("core*")} - kept
    fresh |= {path for home in (rig.prefix / "home").iterdir() for path in home.rglob("core*")}
    assert fresh == set()
    assert rig.wait(lambda: rig.left() == [])


def test_root_joins_only_namespaces_that_it_made_before_the_payload(rig: HelperRig) -> None:
    script = "unshare -r -m -p -f --mount-proc sh -c 'mount -t tmpfs t /tmp; setsid sleep 60 &' 2>/dev/null; exit 0"
    words = ["run", "--proxy", str(rig.proxy()), "--", SH, "-c", script]
    with rig.configured("\n[isolation]\nnamespaces = required"):
        done = traced(rig, words, "setns,unshare,pidfd_open,chroot,pivot_root,open,openat")
    assert done.code == 0, done.err
    calls = list(done.of("setns", "unshare", "chroot", "pivot_root"))
    payload_ran = next(n for n, call in enumerate(done.calls) if call.name == "execve" and call.paths[:1] == [SH])
    joins = [call for call in calls if call.root and call.name in ("setns", "chroot", "pivot_root")]
    flags = [call.arguments.split(", ")[-1] for call in joins]
    # There and back for the birth of the payload's process, and that process' own mounts and IPC objects.
    assert sorted(flags) == sorted(["CLONE_NEWPID", "CLONE_NEWPID", "CLONE_NEWNS|CLONE_NEWIPC"]) or sorted(
        flags
    ) == sorted(["CLONE_NEWPID", "CLONE_NEWPID", "CLONE_NEWIPC|CLONE_NEWNS"])
    assert done.calls[payload_ran].program != SH
    entered = [
        call
        for call in done.of("open", "openat")
        if call.root and re.search(r"/proc/\d+/(root|ns|cwd)", call.arguments)
    ]
    assert entered == []


# signals


def test_a_monitor_that_is_killed_before_it_is_roots_had_not_begun(rig: HelperRig) -> None:
    """From its first moment it is attacked with KILL: what a lucky shot ends had done nothing, and nothing is left."""
    shots, rounds = 0, 0
    while rounds < 15 or (shots < 15 and rounds < 200):
        rounds += 1
        before = len(rig.audit())
        process, attacker = started_under_attack(rig, "signal")
        process.wait(60)
        worked, tried = found(attacker)
        shots += tried
        events = [line["event"] for line in rig.since(before)]
        if process.returncode == 0:
            assert worked == []
            assert events == ["START", "END"]
        else:
            # Between fork and its first system call it still has the pilot's uid.
            assert (process.returncode, events) == (202, [])
            assert {line.split()[0] for line in worked} == {"killed"}
    assert shots >= 15
    assert rig.wait(lambda: rig.left() == [])


def test_the_monitor_cannot_be_signalled_once_it_is_roots(rig: HelperRig) -> None:
    """And so nor can verifier, mapper and cleaner: their real uid is root's before it is an account's of their own."""
    shots, rounds = 0, 0
    while rounds < 10 or (shots <= 200 and rounds < 200):
        rounds += 1
        before = len(rig.audit())
        process, attacker = started_under_attack(rig, "signal-root")
        assert process.wait(60) == 0
        worked, tried = found(attacker)
        assert worked == []
        assert [line["event"] for line in rig.since(before)] == ["START", "END"]
        shots += tried
    assert shots > 200
    assert rig.wait(lambda: rig.left() == [])


@pytest.mark.parametrize("cgroup", ["auto", "off"])
def test_root_signals_by_descriptor_and_by_group_only(rig: HelperRig, cgroup: str) -> None:
    """A run with orphans, a renewal's aide, a TERM, a killing at the end: no kill() of a number by root."""
    script = "for i in 1 2 3; do (setsid sleep 60 &) ; done; sleep 0.2; exit 0"
    calls = "kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal,write"
    with rig.configured(f"cgroup = {cgroup}"):
        done = traced(rig, ["run", "--proxy", str(rig.proxy()), "--", SH, "-c", script], calls)
    assert done.code == 0, done.err
    sent = [call for call in done.of("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo") if call.root]
    assert sent == []
    # Nor by the account's killer: only -1, and questions with signal 0.
    killers = [call for call in done.of("kill") if call.program.startswith(str(rig.prefix))]
    assert all(call.arguments.startswith("-1, ") or call.arguments.endswith(", 0") for call in killers)
    assert [call for call in done.of("pidfd_send_signal") if call.root]


SYS_PIDFD_GETFD = 438


def test_a_front_that_was_taken_over_can_only_send_its_signals(rig: HelperRig) -> None:
    """E8 on the living socket; helper_c/fuzz/fuzz_monitor.c says anything to the same code."""
    script = "trap 'echo term' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done"
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", script])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    monitor = monitor_of(process.pid)
    front = os.pidfd_open(process.pid)
    before = len(rig.audit())
    libc = ctypes.CDLL(None, use_errno=True)
    number = next(
        int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir() if os.readlink(path).startswith("socket:")
    )
    sock = libc.syscall(SYS_PIDFD_GETFD, front, number, 0)
    assert sock >= 0
    with socket.socket(fileno=sock) as peer:
        for packet in (
            b"\0",
            b"\x09",
            b"\x13",
            b"\x14",
            b"\xff",
            b"\x0f\x0f",
            b"x" * 4096,
            os.urandom(300),
            b"R\0\0\0",
            b"S\x09\0\0",
        ):
            for _ in range(20):
                with contextlib.suppress(BlockingIOError):
                    peer.send(packet, socket.MSG_DONTWAIT)
        for byte in range(256):
            if byte not in (
                signal.SIGTERM,
                signal.SIGINT,
                signal.SIGHUP,
                signal.SIGQUIT,
                signal.SIGUSR1,
                signal.SIGUSR2,
                signal.SIGCONT,
            ):
                with contextlib.suppress(BlockingIOError):
                    peer.send(bytes([byte]), socket.MSG_DONTWAIT)
        # A right that nobody asked for, too.
        socket.send_fds(peer, [b"\x0a"], [0])
    # What was sent before this signal has been read when it has reached the payload: all of it went the same way.
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == b"usr1\n"
    assert process.poll() is None
    assert monitor_of(process.pid) == monitor
    assert len(rig.processes()) >= 1
    # Said once, so that the log cannot be filled.
    assert [line["event"] for line in rig.since(before)] == ["IGNORED"]
    process.kill()
    os.close(front)
    assert rig.wait(lambda: rig.processes() == [])
    assert rig.wait(lambda: rig.left() == [])
    assert rig.audit()[-1]["reason"] == "FRONT_LOST"
