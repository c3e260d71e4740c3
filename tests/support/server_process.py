"""The server as its own process, as an operator runs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec
from toygrid import Identity, ToyGrid

from support.server_rig import config_text

READY_SECONDS = 120.0
ROOTS = ("sdk", "server", "helper_c/python")


class ServerProcess:
    """`python -m pilotage_server.cli run`; started and stopped as often as wanted, the state stays."""

    def __init__(
        self,
        grid: ToyGrid,
        root: Path,
        host: Identity,
        settings: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self.grid = grid
        self.state = root / "state"
        self.config = root / "server.toml"
        self.config.write_text(config_text(grid, self.state, host, settings or {}))
        self.log_path = root / "server.log"
        self.port = 0
        self.mutual_port = 0
        self.gateway_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """Return the address of the login port."""
        return f"localhost:{self.port}"

    @property
    def pid(self) -> int:
        """Return the id of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def command(self, *verb: str) -> subprocess.CompletedProcess[str]:
        """Run a verb that ends by itself."""
        return subprocess.run(
            self._command(*verb), env=environ(), capture_output=True, text=True, timeout=120, check=False
        )

    def start(self) -> None:
        """Start, and wait for the line that says it serves."""
        began = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(self._command("run"), env=self._environ(), stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with self.log_path.open("rb") as log:
                log.seek(began)
                if self._read_ports(log):
                    return
            assert self._process.poll() is None, self.log_path.read_text()
            time.sleep(0.05)
        raise AssertionError("the server did not start: " + self.log_path.read_text())

    def _read_ports(self, log: IO[bytes]) -> bool:
        for line in log:
            if line.startswith(b"{") and line.endswith(b"\n"):
                entry = msgspec.json.decode(line, type=dict[str, object])
                if entry.get("event") == "serving":
                    self.port, self.mutual_port = int(str(entry["port"])), int(str(entry["mutual_port"]))
                    self.gateway_port = int(str(entry["gateway_port"]))
                    return True
        return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(120)
        self._process = None
        return code

    def wait(self) -> int:
        """Wait until it has ended by itself; return its exit code."""
        assert self._process is not None
        code = self._process.wait(120)
        self._process = None
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal that does not end it."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait_for(self, text: str) -> None:
        """Wait until it has logged something."""
        deadline = time.monotonic() + READY_SECONDS
        while text not in self.log_path.read_text():
            assert time.monotonic() < deadline, self.log_path.read_text()
            time.sleep(0.05)

    def close(self) -> None:
        """End it if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(120)

    def _environ(self) -> dict[str, str]:
        return environ()

    def _command(self, *verb: str) -> list[str]:
        return [sys.executable, "-m", "pilotage_server.cli", *verb, "--config", str(self.config)]


def environ() -> dict[str, str]:
    """Return an environment in which the packages of this checkout are found."""
    checkout = Path(__file__).resolve().parents[2]
    paths = [str(checkout / root) for root in ROOTS]
    if inherited := os.environ.get("PYTHONPATH"):
        paths.append(inherited)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
