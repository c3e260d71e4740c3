"""How it is started: argument lists, descriptors, streams (checklist A1-A3, A16)."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from support.helper_rig import PILOT, ROOT, HelperRig
from support.pace import at_once
from support.tracing import traced

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")


@pytest.fixture(scope="module")
def sanitized() -> Path:
    """The program with AddressSanitizer, where `make helper` builds it; never set-user-id."""
    tree = ROOT / "build" / "c-sanitized"
    options = ["-DCMAKE_BUILD_TYPE=Debug", "-DPILOTAGE_SANITIZE=ON"]
    configure = ["cmake", "-S", str(ROOT), "-B", str(tree), *options]
    for words in (configure, ["cmake", "--build", str(tree), "--target", "pilotage-exec"]):
        subprocess.run(words, check=True, capture_output=True, timeout=800)
    return tree / "helper_c" / "pilotage-exec"


@pytest.mark.parametrize("kind", ["null", "empty", "long-name", "many", "large", "wild"])
def test_no_argument_list_is_an_error_of_memory(rig: HelperRig, sanitized: Path, kind: str) -> None:
    """As root: a set-user-id program under AddressSanitizer would write where its variables say."""
    done = subprocess.run([rig.attack("odd_exec"), kind, sanitized], capture_output=True, text=True, check=False)
    assert "Sanitizer" not in done.stderr
    assert "runtime error" not in done.stderr
    assert done.returncode == (0 if kind == "long-name" else 201), done.stderr


@pytest.mark.parametrize("kind", ["many", "large", "wild"])
def test_no_argument_list_is_more_than_refused(rig: HelperRig, kind: str) -> None:
    done = subprocess.run([rig.attack("odd_exec"), kind, rig.program], capture_output=True, user=rig.pilot.pw_uid)
    assert (done.returncode, done.stdout) == (201, b"")
    assert done.stderr.startswith(b"pilotage-exec: refused: HELPER_USAGE (500): ")


def test_the_log_daemon_hears_a_constant_name(rig: HelperRig) -> None:
    """The machine's /dev is left alone: another one, with a log daemon, is put over it for this run."""
    dev = rig.prefix / "dev"
    dev.mkdir()
    ready, go = os.pipe()
    script = (
        f"mount -t tmpfs -o mode=755 dev {dev} && for n in null zero urandom; do touch {dev}/$n;"
        f"mount --bind /dev/$n {dev}/$n; done && mount --move {dev} /dev && echo up && read go"
    )
    keeper = subprocess.Popen(["unshare", "--mount", SH, "-c", script], stdin=ready, stdout=subprocess.PIPE, text=True)
    os.close(ready)
    try:
        assert keeper.stdout
        if keeper.stdout.readline() != "up\n":
            pytest.skip("this machine lets nobody mount another /dev")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
            daemon.bind(f"/proc/{keeper.pid}/root/dev/log")
            os.chmod(f"/proc/{keeper.pid}/root/dev/log", 0o666)
            daemon.settimeout(60)
            name = "%s%n" * 20000
            code = "import os, sys; os.execv(sys.argv[1], [sys.argv[2] * 20000, *sys.argv[3:]])"
            words = ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"]
            enter = [
                "nsenter",
                "-t",
                str(keeper.pid),
                "-m",
                "setpriv",
                f"--reuid={PILOT}",
                "--regid",
                str(rig.pilot.pw_gid),
            ]
            with rig.configured(change=lambda text: text.replace("syslog = no", "syslog = yes")):
                done = subprocess.run(
                    [*enter, "--clear-groups", "/usr/bin/python3", "-c", code, str(rig.program), "%s%n", *words],
                    capture_output=True,
                    text=True,
                    timeout=240,
                    check=False,
                )
            assert (done.returncode, done.stderr) == (0, "")
            heard = [daemon.recv(65536).decode() for _ in range(2)]
    finally:
        os.close(go)
        keeper.wait(60)
        dev.rmdir()
    for line, event in zip(heard, ("START", "END"), strict=True):
        found = re.match(r"<86>pilotage-exec\[\d+\]: (\{.*\})$", line)
        assert found, line[:200]
        assert json.loads(found.group(1))["event"] == event
        assert name[:20] not in line


@pytest.mark.parametrize("closed", range(8))
def test_nothing_of_the_helpers_lands_on_a_standard_descriptor(rig: HelperRig, closed: int) -> None:
    """Each of the eight sets of closed ones: what gets a number up to 2 is /dev/null or /dev/full."""
    shut = " ".join(f"{fd}>&-" for fd in range(3) if closed & 1 << fd)
    calls = "open,openat,openat2,socket,socketpair,accept4,pipe2,signalfd4,pidfd_open,memfd_create,dup,fcntl"
    # A closed 2 is the program's, not strace's own.
    script = f'exec "$@" {shut}'
    words = ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"]
    done = traced(rig, words, calls, program=(SH, "-c", script, "sh"))
    assert done.code == 0, done.err
    ours = [call for call in done.of(*calls.split(",")) if call.program.startswith(str(rig.prefix))]
    assert len(ours) > 20
    pairs = [call for call in ours if call.name in ("pipe2", "socketpair")]
    assert [call for call in pairs if re.search(r"\[[012],|, [012]\]", call.arguments)] == []
    single = [call for call in ours if call not in pairs and (call.name != "fcntl" or "F_DUPFD" in call.arguments)]
    low = [call for call in single if 0 <= call.result <= 2]
    assert {path for call in low for path in call.paths} <= {"/dev/null", "/dev/full"}
    assert all(call.name in ("open", "openat") for call in low)


def full_pipe() -> tuple[int, int]:
    """A pipe that takes no byte more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x" * 65536)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    return reader, writer


@pytest.mark.parametrize("verb", ["refused", "run"])
def test_a_full_pipe_as_error_stream_stops_nobody(rig: HelperRig, verb: str) -> None:
    reader, writer = full_pipe()
    proxy = "/etc/shadow" if verb == "refused" else str(rig.proxy())

    def once() -> None:
        before = len(rig.audit())
        process = rig.start(["run", "--proxy", proxy, "--", "/usr/bin/true"], stderr=writer, stdout=writer)
        assert process.wait(60) == (201 if verb == "refused" else 0)
        assert [line["event"] for line in rig.since(before)] == (["REFUSED"] if verb == "refused" else ["START", "END"])

    try:
        at_once(once, 4)
    finally:
        os.close(writer)
        os.close(reader)
    assert rig.left() == []


def test_a_blocked_front_does_not_hold_the_monitor_up(rig: HelperRig) -> None:
    """The status pipe and the front itself are stopped; the payload's end is logged and cleaned all the same."""
    reader, writer = full_pipe()
    before = len(rig.audit())
    words = ["run", "--proxy", str(rig.proxy()), "--status-fd", str(writer), "--", SH, "-c", "sleep 0.3; exit 3"]
    process = rig.start(words, pass_fds=(writer,))
    os.close(writer)
    assert rig.wait(lambda: len(rig.since(before)) == 1)
    process.send_signal(signal.SIGSTOP)
    assert rig.wait(lambda: len(rig.since(before)) == 2)
    assert rig.wait(lambda: rig.left() == [])
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 3
    os.close(reader)


def test_an_error_stream_that_the_attacker_chose_gets_nothing_of_the_monitors(rig: HelperRig) -> None:
    """/proc/self/mem as fd 2 was root's write into a program (CVE-2012-0056)."""
    kept = rig.prefix / "proxies" / "appended"
    kept.write_text("first\n")
    rig.give(kept)
    code = (
        "import os, sys\nfd = os.open(sys.argv[1], int(sys.argv[2]))\n"
        "os.lseek(fd, 0x400000, 0)\nos.dup2(fd, 2)\nos.execv(sys.argv[3], sys.argv[3:])\n"
    )
    for path, flags in (("/proc/self/mem", os.O_RDWR), (str(kept), os.O_WRONLY | os.O_APPEND)):
        for proxy, code_of_it in ((str(rig.proxy()), 0), ("/etc/shadow", 201)):
            before = len(rig.audit())
            words = ["run", "--proxy", proxy, "--", "/usr/bin/true"]
            process = rig.start(words, program=("/usr/bin/python3", "-c", code, path, str(flags)))
            out, err = process.communicate(timeout=120)
            assert (process.returncode, out, err) == (code_of_it, b"", b"")
            assert len(rig.since(before)) == (2 if code_of_it == 0 else 1)
    lines = kept.read_text().splitlines()
    assert lines[0] == "first"
    assert [line[:32] for line in lines[1:]] == ["pilotage-exec: refused: PROXY_FI"]


@pytest.mark.parametrize("proxy", ["good", "bad"])
def test_only_the_front_writes_to_the_callers_streams(rig: HelperRig, proxy: str) -> None:
    path = rig.proxy()
    if proxy == "bad":
        path = rig.prefix / "proxies" / "garbled"
        path.write_bytes(rig.proxy().read_bytes()[:-400])
        rig.give(path)
    done = traced(rig, ["run", "--proxy", str(path), "--", "/usr/bin/id"], "write,writev,sendto,sendmsg")
    assert done.code == (0 if proxy == "good" else 203)
    streams = [call for call in done.of("write", "writev") if re.match(r"[12],", call.arguments)]
    asked = [str(path) for path in (rig.verifier, rig.mapper)]
    wrong = [call for call in streams if call.root and call.program not in asked]
    assert wrong == []
    # Verifier and mapper have pipes of the monitor's there.
    assert {call.program for call in streams} <= {*asked, str(rig.program), "/usr/bin/id"}
