"""What could hold the monitor up, or use up what it needs for the end, while a payload runs."""

import array
import fcntl
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from support.helper_rig import ANALYSIS, HelperRig
from support.processes import monitor_of

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")

# Sends sockets whose last close waits for a peer that never reads, and keeps the peers. The sender ends at once, so
# that the last close is not its own (which does not wait, as it ends).
LINGERING = """
import array, os, socket, struct, sys
path, order, count = sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3])
peers = []
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(64)
def lingering():
    sender = socket.create_connection(listener.getsockname())
    sender.setblocking(False)
    try:
        while True:
            sender.send(bytes(65536))
    except BlockingIOError:
        pass
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1000))
    return sender
for _ in range(4):
    child = os.fork()
    if child == 0:
        sent = [lingering() for _ in range(count)]
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(path)
        fds = array.array("i", [one.fileno() for one in sent])
        client.sendmsg([order], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        os._exit(0)
    peers += [listener.accept()[0] for _ in range(count)]
    os.waitpid(child, 0)
print("sent", flush=True)
sys.stdin.read()
"""


class Held:
    """A run whose payload prints a line, and then waits."""

    def __init__(self, rig: HelperRig, *payload: str | Path, proxy: Path | None = None) -> None:
        self.rig = rig
        words = payload or (SH, "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done")
        before = {path.name for path in (rig.rundir / "jobs").glob("*")}
        self.process = rig.start(["run", "--proxy", str(proxy or rig.proxy()), "--", *map(str, words)])
        assert self.process.stdout
        assert self.process.stdout.readline() == b"ready\n"
        (self.id,) = {path.name for path in (rig.rundir / "jobs").glob("*")} - before
        self.monitor = monitor_of(self.process.pid)
        self.control = rig.rundir / "jobs" / self.id / "control"

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.monitor}/fd").iterdir()))

    def end(self) -> None:
        """Kill the front, and wait for what it has the monitor do."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        assert self.rig.wait(lambda: not Path(f"/proc/{self.monitor}").exists())


@pytest.fixture
def held(rig: HelperRig) -> Iterator[Held]:
    run = Held(rig)
    yield run
    run.end()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "order", ["52000000", "530f0000", "58", "530f000000"], ids=["renew", "signal", "short", "long"]
)
def test_a_descriptor_that_is_slow_to_close_holds_nobody_up(rig: HelperRig, held: Held, order: str, count: int) -> None:
    """The last close of a TCP socket with SO_LINGER waits for its peer, whoever closes it."""
    client = subprocess.Popen(
        ["/usr/bin/python3", "-I", "-c", LINGERING, str(held.control), order, str(count)],
        user=rig.pilot.pw_uid,
        group=rig.pilot.pw_gid,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert client.stdout
        assert client.stdout.readline() == b"sent\n"
        held.process.kill()
        assert rig.wait(lambda: rig.processes() == [], 3)
        assert rig.wait(lambda: rig.left() == [], 3)
    finally:
        client.communicate()
    assert rig.wait(lambda: not Path(f"/proc/{held.monitor}").exists())


def test_orders_that_fail_use_nothing_up(rig: HelperRig, held: Held) -> None:
    """A batch system's group that has no room for a verifier is no leak of descriptors."""
    group = Path("/sys/fs/cgroup/pids", f"pilotage-test-{os.getpid()}")
    if not group.parent.joinpath("cgroup.procs").exists():
        pytest.skip("no controller of processes of version 1 here")
    proxy = rig.proxy().read_bytes()
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(held.monitor))
        (group / "pids.max").write_text("2")
        before = held.descriptors()
        for _ in range(20):
            sealed = os.memfd_create("proxy", os.MFD_ALLOW_SEALING)
            os.write(sealed, proxy)
            fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, 0xF)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(str(held.control))
                client.sendmsg([b"R\0\0\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sealed]))])
                client.settimeout(5)
                client.recv(8192)
            os.close(sealed)
        # One more is the last clerk's.
        assert rig.wait(lambda: held.descriptors() <= before + 1, 1)
    finally:
        (group / "pids.max").write_text("max")
        held.process.kill()
        assert rig.wait(lambda: not Path(f"/proc/{held.monitor}").exists())
        group.rmdir()
    assert (rig.processes(), rig.left()) == ([], [])


def test_who_holds_the_account_holds_no_kill_up(rig: HelperRig, held: Held) -> None:
    """Another run of the same account may be cleaning for long; what is to die does not wait for that."""
    uid = os.stat(f"/proc/{rig.processes()[0]}").st_uid
    with (rig.rundir / "accounts" / str(uid) / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held.process.kill()
        assert rig.wait(lambda: rig.processes() == [], 2)
    assert rig.wait(lambda: rig.left() == [])


def test_no_limit_of_the_caller_keeps_the_end_out_of_the_log(rig: HelperRig) -> None:
    """A limit on the length of files that START is below and END above."""
    rig.run("/bin/true")
    before = rig.log.read_bytes()
    padding = 80 * 2**20
    try:
        with rig.log.open("ab") as log:
            log.write(b" " * padding + b"\n")
        size = rig.log.stat().st_size
        for room in (800, 1200, 1600):
            limit = rig.log.stat().st_size + room
            tail = rig.log.stat().st_size
            done = rig.run("/bin/true", prepare=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)))
            with rig.log.open("rb") as log:
                log.seek(tail)
                events = [part.count(b'"event":"%s"' % name) for part in [log.read()] for name in (b"START", b"END")]
            assert events in ([1, 1], [0, 0]), (room, done)
            assert (done.code, done.reason) == ((0, "") if events[0] else (202, "AUDIT_UNAVAILABLE"))
        assert size > padding
    finally:
        rig.log.write_bytes(before)


# Stops every other process of its account, as often as it can.
STOPPER = "import os, signal\nprint('ready', flush=True)\nwhile True: os.kill(-1, signal.SIGSTOP)"


def test_a_payload_cannot_stop_who_works_for_the_monitor(rig: HelperRig) -> None:
    """What the monitor has done with the account's rights it waits for, and hears nothing meanwhile."""
    proxies = []
    for hours in range(2, 10):
        out = rig.prefix / "proxies" / f"stopped-{hours}.pem"
        rig.grid.voms_proxy(rig.owners[0], out, vo="demo", fqans=(ANALYSIS,), hours=hours)
        proxies.append(rig.give(out))
    held = Held(rig, os.path.realpath("/usr/bin/python3"), "-c", STOPPER, proxy=proxies[0])
    orders = [["renew", held.id, "--proxy", str(proxy)] for proxy in proxies[1:]]
    orders += [["signal", held.id, "CONT", "--all"]] * 20
    for words in orders:
        begun = time.monotonic()
        assert rig.start(words).communicate() == (b"", b"")
        assert time.monotonic() - begun < 1.5
    held.end()
    assert (rig.processes(), rig.left()) == ([], [])
