"""Limits, masks and shares that the caller hands on (checklist A9, A11, A12, A18, D2)."""

import concurrent.futures
import contextlib
import ctypes
import os
import resource
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import HelperRig
from support.injection import numbers
from support.processes import children, monitor_of

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
PYTHON = os.path.realpath("/usr/bin/python3")
LIMITS = {
    name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
MEGABYTE = 1 << 20
VALUES = {
    "RLIMIT_FSIZE": (0, 1, 100, 4096),
    "RLIMIT_NOFILE": (3, 5, 8, 20, 40),
    "RLIMIT_NPROC": (0, 1, 2, 5, 63),
    "RLIMIT_STACK": (64 << 10, 256 << 10, MEGABYTE),
    "RLIMIT_AS": (8 * MEGABYTE, 30 * MEGABYTE, 60 * MEGABYTE),
    "RLIMIT_DATA": (0, MEGABYTE, 8 * MEGABYTE),
    "RLIMIT_CPU": (1, 2),
}


@pytest.fixture(autouse=True)
def _alone(rig: HelperRig) -> Iterator[None]:
    yield
    rig.end_calls()


CAP_SYS_RESOURCE = 24


def has_capability(number: int) -> bool:
    """Tell whether root has this capability here; containers often leave some out."""
    status = Path("/proc/self/status").read_text()
    bounding = next(line for line in status.splitlines() if line.startswith("CapBnd:")).split()[1]
    return bool(int(bounding, 16) >> number & 1)


@pytest.mark.parametrize("name", sorted(LIMITS))
@pytest.mark.parametrize("spaces", ["off", "required"])
def test_each_limit_alone_is_a_whole_run_or_a_refusal_before_any_effect(rig: HelperRig, name: str, spaces: str) -> None:
    hard = resource.getrlimit(LIMITS[name])[1]
    for value in VALUES.get(name, (0, 1, 4096) if hard == resource.RLIM_INFINITY or hard > 4096 else (0, hard)):
        before = len(rig.audit())

        def prepare(value: int = value) -> None:
            resource.setrlimit(LIMITS[name], (value, value))

        with rig.configured(f"\n[isolation]\nnamespaces = {spaces}"):
            done = rig.run("/usr/bin/true", prepare=prepare)
        lines = rig.since(before)
        what = f"{name} = {value}: {done}"
        if name == "RLIMIT_NPROC" and not has_capability(CAP_SYS_RESOURCE):
            assert done.reason == "HELPER_LIMITS", what
        if lines == []:
            # A program that the dynamic loader cannot even load has done nothing either.
            assert done.code in (127, -signal.SIGSEGV, -signal.SIGKILL) or done.reason == "HELPER_LIMITS", what
            if done.reason == "HELPER_LIMITS":
                assert done.code == 202, what
                assert name in done.err, what
        elif [line["event"] for line in lines] == ["REFUSED"]:
            assert (done.code, lines[0]["reason"]) == (202, "HELPER_LIMITS"), what
        else:
            assert [line["event"] for line in lines] == ["START", "END"], what
            # A payload cannot begin under some of them, and that is the caller's own limit.
            assert (done.code, lines[1]["reason"]) in (
                (0, ""),
                (202, "HELPER_SYSTEM"),
                (137, ""),
                (139, ""),
                (127, ""),
            ), what
            assert (lines[1].get("left_processes", 0), lines[1].get("left_files", 0)) == (0, 0), what
        assert rig.left() == [], what


def test_all_limits_of_a_page_at_once_are_raised_or_refused_whole(rig: HelperRig) -> None:
    def prepare() -> None:
        for name in ("RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_MSGQUEUE", "RLIMIT_MEMLOCK", "RLIMIT_SIGPENDING"):
            resource.setrlimit(LIMITS[name], (0, 0))

    done = rig.run("/usr/bin/true", prepare=prepare)
    # Root raises them where it may.
    assert (done.code, done.reason) == ((0, "") if has_capability(CAP_SYS_RESOURCE) else (202, "HELPER_LIMITS"))
    assert rig.left() == []


def test_an_account_full_of_processes_ends_a_run_cleanly(rig: HelperRig) -> None:
    """setresuid succeeds and execve fails with EAGAIN (D2): the helper's refusal, with END, and all is removed."""
    crowd = rig.start(["run", "--proxy", str(rig.proxy()), "--", str(rig.attack("hydra")), "heads", "90"])
    assert crowd.stdout
    assert crowd.stdout.readline() == b"ready\n"
    before = len(rig.audit())
    done = rig.run("/usr/bin/true", prepare=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (80, 80)))
    start, end = rig.since(before)
    # Where root lifted the limit, it binds the payload again only after the switch, for what the payload starts.
    lifted = has_capability(CAP_SYS_RESOURCE)
    assert (done.code, done.reason) == ((0, "") if lifted else (202, "HELPER_SYSTEM"))
    assert (start["event"], end["event"], end["reason"]) == ("START", "END", done.reason)
    if lifted:
        # The cleaner is an account's process too, and the helper has lifted the limit for it.
        assert len(list((rig.prefix / "home").glob("*/pilotage-*"))) == 1
        assert len(list((rig.rundir / "jobs").iterdir())) == 1
    crowd.send_signal(signal.SIGKILL)
    crowd.wait(60)
    assert rig.wait(lambda: rig.processes() == [])
    assert rig.run("/usr/bin/true").code == 0
    assert rig.wait(lambda: rig.left() == [])


def test_many_runs_of_a_caller_with_few_processes_all_verify(rig: HelperRig) -> None:
    """The verifiers are one account's, and the caller's limit counts them together."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:

        def one(number: int) -> tuple[int, str]:
            done = rig.run("/usr/bin/true", prepare=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (64, 64)))
            return done.code, done.err

        assert set(pool.map(one, range(24))) == {(0, "")}


def open_mask() -> None:
    os.umask(0)


@pytest.mark.parametrize("spaces", ["off", "required"])
def test_every_file_of_a_run_is_closed_to_others_whatever_the_mask(rig: HelperRig, spaces: str) -> None:
    """Looked at while it runs: records, sockets, locks, leases, the run directory."""
    rig.release_all()
    (rig.gridmapdir / ".pilotage.lock").unlink(missing_ok=True)
    with rig.configured(f"\n[isolation]\nnamespaces = {spaces}"):
        process = rig.start(
            ["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; sleep 300"],
            prepare=open_mask,
        )
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        made = [
            *rig.rundir.rglob("*"),
            rig.gridmapdir / ".pilotage.lock",
            *(rig.prefix / "home").glob("*/pilotage-*/**/*"),
        ]
        assert {"record", "control", "lock", "proxy"} <= {path.name for path in made}
        # Callers go through the directories to their control sockets, by name.
        open_ones = [path for path in made if path.lstat().st_mode & (0o066 if path.is_dir() else 0o077)]
        assert open_ones == []
        process.kill()
        process.wait()
    assert rig.wait(lambda: rig.left() == [])


@pytest.mark.parametrize("options", [["-U"], ["-r"], ["-c"], ["-r", "unshare", "-r"]], ids=" ".join)
def test_in_any_user_namespace_nothing_is_written(rig: HelperRig, options: list[str]) -> None:
    before, jobs = rig.audit(), sorted(rig.rundir.rglob("*"))
    stamps = {path: path.stat().st_mtime_ns for path in (rig.rundir, rig.gridmapdir, rig.log.parent)}
    process = rig.start(
        ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/id"], program=["/usr/bin/unshare", *options]
    )
    out, err = process.communicate(timeout=120)
    if b"unshare: " in err:
        pytest.skip(f"this machine lets no account do this: {err.decode().strip()}")
    assert (process.returncode, out) == (202, b"")
    # An account without a map cannot even become itself to say why.
    assert b"HELPER_USER_NAMESPACE" in err or (options[0] == "-U" and err == b"")
    assert (rig.audit(), sorted(rig.rundir.rglob("*"))) == (before, jobs)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


# shares of the machine

IOPRIO_IDLE = 3 << 13
PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30


def ioprio(pid: int) -> int:
    return int(ctypes.CDLL(None).syscall(numbers()["ioprio_get"], 1, pid))


WORST_SHARE = f"""\
import ctypes, os, sys
open("/proc/self/oom_score_adj", "w").write("1000")
os.nice(19)
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
libc = ctypes.CDLL(None)
assert libc.syscall(int(sys.argv[1]), 1, 0, {IOPRIO_IDLE | 7}) == 0
assert libc.prctl({PR_SET_TIMERSLACK}, ctypes.c_ulong(10**9), 0, 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


class Share:
    """What a process has of the machine."""

    def __init__(self, pid: int) -> None:
        self.oom = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
        self.nice = os.getpriority(os.PRIO_PROCESS, pid)
        self.policy = os.sched_getscheduler(pid)
        self.cpus = len(os.sched_getaffinity(pid))
        self.disk = ioprio(pid) >> 13
        slack = Path(f"/proc/{pid}/timerslack_ns")
        self.slack = int(slack.read_text()) if slack.exists() else 0


def cpus_at_most() -> int:
    """How many a process can have here that asks for all of them: containers often have a set of their own."""
    ask = "import os; os.sched_setaffinity(0, range(4096)); print(len(os.sched_getaffinity(0)))"
    return int(subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("spaces", ["off", "required"])
def test_the_monitor_takes_back_a_bad_share_and_the_payload_does_not(rig: HelperRig, spaces: str) -> None:
    with rig.configured(f"\n[isolation]\nnamespaces = {spaces}"):
        process = rig.start(
            ["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; exec sleep 300"],
            program=(PYTHON, "-c", WORST_SHARE, str(numbers()["ioprio_set"])),
        )
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        monitor = monitor_of(process.pid)
        payload = next(pid for pid in rig.processes() if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes())
        mine, bad = Share(monitor), Share(payload)
        process.kill()
        process.wait()
    assert (mine.oom, mine.nice, mine.policy) == (0, 0, os.SCHED_OTHER)
    assert mine.cpus == cpus_at_most()
    assert mine.disk in (0, 2)
    assert mine.slack < 10**6
    assert (bad.oom, bad.nice, bad.policy, bad.cpus, bad.disk) == (1000, 19, os.SCHED_IDLE, 1, 3)
    assert rig.wait(lambda: rig.left() == [])


def test_a_caller_with_a_class_of_real_time_hands_on_none(rig: HelperRig) -> None:
    words = ["run", "--proxy", str(rig.proxy()), "--", PYTHON, "-c", "import os; print(os.sched_getscheduler(0))"]
    setter = [
        PYTHON,
        "-c",
        "import os, sys\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\n"
        "os.setgroups([]); os.setresgid(*[int(sys.argv[2])] * 3); os.setresuid(*[int(sys.argv[1])] * 3)\n"
        "os.execv(sys.argv[3], sys.argv[3:])\n",
        str(rig.pilot.pw_uid),
        str(rig.pilot.pw_gid),
    ]
    with contextlib.suppress(PermissionError):
        process = rig.start(words, user="root", program=setter)
        out, err = process.communicate(timeout=120)
        if b"PermissionError" in err:
            pytest.skip("this machine gives no class of real time")
        assert (process.returncode, out) == (0, f"{os.SCHED_OTHER}\n".encode())


def test_a_log_that_only_grows_cannot_be_cut_or_removed(rig: HelperRig) -> None:
    """What a site can do for the log (E11): the helper only appends, so the attribute stands in nobody's way."""
    with rig.configured(change=lambda text: text.replace(str(rig.log), f"{rig.log}.a")):
        log = rig.log.with_name(f"{rig.log.name}.a")
        assert rig.run("/usr/bin/true").code == 0
        if subprocess.run(["chattr", "+a", str(log)], capture_output=True, check=False).returncode:
            pytest.skip("this file system or container has no append-only attribute")
        try:
            assert rig.run("/usr/bin/true").code == 0
            assert len(log.read_text().splitlines()) == 4
            with pytest.raises(PermissionError):
                os.truncate(log, 0)
            with pytest.raises(PermissionError):
                log.unlink()
            with pytest.raises(PermissionError):
                os.open(log, os.O_WRONLY)
        finally:
            subprocess.run(["chattr", "-a", str(log)], check=True)
        log.unlink()


def test_the_rig_sees_what_a_process_is(rig: HelperRig) -> None:
    """The tests above look at the right processes: the front is the pilot's, its child is root's."""
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; exec sleep 300"])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    assert children(process.pid) == [monitor_of(process.pid)]
    assert stat.S_ISREG(os.stat(f"/proc/{process.pid}/comm").st_mode)
    process.kill()
    process.wait()
    assert rig.wait(lambda: rig.left() == [])
