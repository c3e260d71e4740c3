"""What the caller leaves in the process decides nothing (checklist A)."""

import ctypes
import json
import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from support.helper_rig import POOL, HelperRig
from support.injection import numbers

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
ALLOWED = {
    *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TMPDIR"),
    *("X509_USER_PROXY", "PILOTAGE_RUN_ID", "PILOTAGE_JOB_ID", "PILOTAGE_RUN_DIR"),
}


@pytest.mark.parametrize("kind", ["null", "empty"])
def test_no_argument_list_crashes_it(rig: HelperRig, kind: str) -> None:
    done = subprocess.run([rig.attack("odd_exec"), kind, rig.program], capture_output=True, user=rig.pilot.pw_uid)
    assert done.returncode == 201


def test_its_own_name_is_never_used(rig: HelperRig) -> None:
    done = subprocess.run(
        [rig.attack("odd_exec"), "long-name", rig.program], capture_output=True, user=rig.pilot.pw_uid
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"%" not in done.stdout


def test_a_mebibyte_of_arguments_is_refused(rig: HelperRig) -> None:
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", "/bin/true", *["x" * 120_000] * 10])
    assert process.wait(60) == 201


def test_a_mebibyte_of_environment_is_refused(rig: HelperRig) -> None:
    environment = {f"X{n}": "x" * 120_000 for n in range(10)}
    done = rig.run("/usr/bin/id", environment=environment)
    assert (done.code, done.out) == (201, "")
    assert "HELPER_USAGE" in done.err


@pytest.mark.parametrize("closed", range(1, 8))
def test_closed_standard_descriptors_are_never_reused(rig: HelperRig, closed: int) -> None:
    def prepare() -> None:
        for fd in range(3):
            if closed & 1 << fd:
                os.close(fd)

    before = len(rig.audit())
    done = rig.run(rig.attack("descriptors"), prepare=prepare)
    assert done.code == 0
    # Nothing but whole log lines went where the log is, and nothing of the log to the caller.
    assert [line["event"] for line in rig.since(before)] == ["START", "END"]
    assert "START" not in done.out + done.err


def test_descriptors_and_directory_of_the_caller_end_with_it(rig: HelperRig) -> None:
    leak = (
        "import os, socket, sys\n"
        "kept = [socket.socket() for _ in range(3)]\n"
        "for fd in range(10, 50): os.dup2(os.open('/etc', 0) if fd % 2 else kept[0].fileno(), fd)\n"
        "os.chdir('/etc')\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    arguments = ["run", "--proxy", str(rig.proxy()), "--"]
    python = ("/usr/bin/python3", "-c", leak)
    process = rig.start([*arguments, str(rig.attack("descriptors"))], program=python)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, b"")
    process = rig.start([*arguments, os.path.realpath("/bin/pwd")], program=python)
    out, _ = process.communicate(timeout=120)
    assert out.decode().startswith(f"{rig.prefix}/home/{POOL}")
    assert out.endswith(b"/work\n")


def test_no_variable_of_the_caller_reaches_the_payload(rig: HelperRig) -> None:
    process = rig.start(
        ["run", "--proxy", str(rig.proxy()), "--job-id", "j1", "--", "/usr/bin/env"],
        program=[str(rig.attack("hostile_env"))],
    )
    out, err = process.communicate(timeout=120)
    # The dynamic loader itself complains about LD_DEBUG, before any program's own code.
    assert (process.returncode, [line for line in err.splitlines() if b"LD_DEBUG" not in line]) == (0, [])
    variables = dict(line.split("=", 1) for line in out.decode().splitlines())
    assert set(variables) == ALLOWED
    assert variables["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert variables["SHELL"] == "/bin/sh"
    assert variables["LANG"] == "C.UTF-8"
    assert variables["PILOTAGE_JOB_ID"] == "j1"
    assert variables["X509_USER_PROXY"] == f"{variables['PILOTAGE_RUN_DIR']}/proxy"
    assert variables["TMPDIR"] == f"{variables['PILOTAGE_RUN_DIR']}/tmp"
    assert variables["HOME"] == f"{rig.prefix}/home/{variables['USER']}"
    assert "evil" not in out.decode().lower()


def test_no_new_privs_is_named_not_half_run(rig: HelperRig) -> None:
    process = rig.start(
        ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/id"], program=["/usr/bin/setpriv", "--no-new-privs"]
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 202
    assert b"HELPER_NO_NEW_PRIVS (502)" in err


def test_a_soft_limit_is_raised_for_the_helper_and_given_back(rig: HelperRig) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (17, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (123 * 512, resource.RLIM_INFINITY))

    done = rig.run(SH, "-c", "ulimit -n; ulimit -f; ulimit -c", prepare=prepare)
    assert done.out.split() == ["17", "123", "0"]


def test_an_open_mask_makes_no_open_file(rig: HelperRig) -> None:
    log = rig.prefix / "log" / "fresh.jsonl"
    script = "umask; touch mine; find $PILOTAGE_RUN_DIR -perm /077"

    def prepare() -> None:
        os.umask(0)

    with rig.configured(change=lambda text: text.replace(str(rig.log), str(log))):
        done = rig.run(SH, "-c", script, prepare=prepare)
    assert done.out == "0077\n"
    assert log.stat().st_mode & 0o777 == 0o600
    # Callers search their way to their control sockets, but read and write nothing on it.
    found = [path for path in rig.rundir.rglob("*") if path.stat().st_mode & (0o066 if path.is_dir() else 0o077)]
    assert found == []
    log.unlink()


def test_ignored_and_blocked_signals_change_nothing(rig: HelperRig) -> None:
    rt_sigaction = numbers()["rt_sigaction"]

    def prepare() -> None:
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_IGN)
        for number in (32, 33):  # the C library's own, which make and posix_spawn hand on ignored
            action = (ctypes.c_ulong * 4)(1)
            ctypes.CDLL(None).syscall(rt_sigaction, number, action, None, 8)
        signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))

    done = rig.run(SH, "-c", "grep -E '^Sig(Blk|Ign|Cgt|Pnd)' /proc/self/status; exit 42", prepare=prepare)
    assert done.code == 42
    masks = {name: int(value, 16) for name, value in (line.split(":") for line in done.out.splitlines())}
    assert masks["SigIgn"] == masks["SigBlk"] == masks["SigPnd"] == 0


def test_timers_of_the_caller_do_not_end_the_helper(rig: HelperRig) -> None:
    def prepare() -> None:
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 1)

    done = rig.run("/usr/bin/sleep", "1.5", prepare=prepare)
    assert done.code == 0


def test_free_text_of_the_caller_stays_on_one_line_of_the_log(rig: HelperRig) -> None:
    before = len(rig.audit())
    nasty = 'a"b\\c\nd\x1b[31m\xe9\u2028,"event":"END"}'
    assert rig.run("/usr/bin/id", options=["--job-id", nasty]).code == 0
    lines = rig.since(before)
    assert [line["event"] for line in lines] == ["START", "END"]
    assert lines[0]["job_id"] == 'a"b\\c?d?[31m?????,"event":"END"}'


def test_a_command_with_every_byte_is_one_log_line(rig: HelperRig) -> None:
    before = len(rig.audit())
    name = b"/" + bytes(byte for byte in range(1, 256) if byte != 0x2F)
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", name])
    assert process.wait(60) == 201
    events = [json.loads(line)["event"] for line in rig.log.read_text().splitlines()[before:]]
    assert events == ["START", "END"]


def test_the_log_folder_is_made_by_nobody(rig: HelperRig) -> None:
    missing = Path("/nonexistent/helper.jsonl")
    with rig.configured(change=lambda text: text.replace(str(rig.log), str(missing))):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.reason) == (202, "AUDIT_UNAVAILABLE")
