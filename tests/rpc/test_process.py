"""The server's process: what it holds in memory gets to nobody else, however it ends."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from pilotage.transport import open_channel
from pilotage.x509.files import load_identity
from pilotage.x509.keys import KeyKind
from support.journey import delegate
from support.server_process import ServerProcess
from support.server_rig import Client


@pytest.fixture
def server(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(grid, tmp_path, host)
    yield made
    made.close()


@pytest.fixture
def cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Allow core dumps, as an operator's shell or unit may, and return where they would lie."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("core dumps are forbidden here, by a limit that cannot be raised")
    folder = tmp_path / "cores"
    folder.mkdir()
    monkeypatch.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield folder
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def dumped(pid: int) -> bool:
    """Crash a process of ours; return whether the kernel dumped its memory."""
    os.kill(pid, signal.SIGABRT)
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_code == os.CLD_DUMPED


def test_a_server_that_crashes_leaves_no_core_with_its_keys(
    server: ServerProcess, alice_proxy: Path, cores: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=-1) as plain:
        assert plain.stdout is not None
        plain.stdout.readline()
        assert dumped(plain.pid), "this machine dumps nothing, so the test shows nothing"
    for path in cores.iterdir():
        path.unlink()
    server.start()
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=load_identity(alice_proxy)) as channel:
        delegate(Client(channel), load_identity(alice_proxy), kind=KeyKind.EC_P256)
    assert not dumped(server.pid)
    assert server.wait() == -signal.SIGABRT
    assert list(cores.iterdir()) == []


def test_nobody_of_the_servers_account_looks_into_it(server: ServerProcess) -> None:
    """What the kernel forbids to attach to belongs to root in /proc; here told by the process's own answer."""
    program = (
        "import ctypes\nfrom pilotage.hardening import harden\nharden()\n"
        "raise SystemExit(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    server.start()
    limits = Path(f"/proc/{server.pid}/limits").read_text()
    assert ["Max", "core", "file", "size", "0", "0"] in [line.split()[:6] for line in limits.splitlines()]


def processors(pid: int) -> dict[str, set[str]]:
    """Return on which processors the threads of each name may run (proc(5))."""
    found: dict[str, set[str]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("Cpus_allowed_list:"):
                found.setdefault((task / "comm").read_text().strip(), set()).add(line.split()[1])
    return found


def test_calls_are_served_on_the_one_processor_that_the_operator_names_and_keys_are_made_on_all(
    grid: ToyGrid, host: Identity, tmp_path: Path, alice_proxy: Path
) -> None:
    own = os.sched_getaffinity(0)
    last = max(own)
    server = ServerProcess(grid, tmp_path, host, {"server": {"processor": last}})
    try:
        server.start()
        with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=load_identity(alice_proxy)) as channel:
            delegate(Client(channel), load_identity(alice_proxy), kind=KeyKind.RSA_2048)
        # Threads have the name of the program or one of gRPC's; the one that makes keys is alone in having all.
        found = processors(server.pid)
        everywhere = [name for name, where in found.items() if where - {str(last)}]
        assert len(everywhere) == (1 if len(own) > 1 else 0), found
        assert "event_engine" in found
        assert found["event_engine"] == {str(last)}
    finally:
        server.close()


def test_a_processor_that_is_not_there_is_refused(grid: ToyGrid, host: Identity, tmp_path: Path) -> None:
    server = ServerProcess(grid, tmp_path, host, {"server": {"processor": 123_456}})
    done = server.command("check-config")
    assert done.returncode == 2
    assert "CONFIG_INVALID" in done.stderr
    assert "server.processor: 123456 is not one of those this process may use" in done.stderr
