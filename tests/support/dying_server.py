"""A server that dies at one step, once it is told which."""

import sys
from pathlib import Path

from support.server_process import ServerProcess, environ

TESTS = Path(__file__).resolve().parents[1]


class DyingServer(ServerProcess):
    """The server program; with a `step`, the one of `support.doomed_server`, which ends there by SIGKILL."""

    step = ""

    def _command(self, *verb: str) -> list[str]:
        if verb == ("run",) and self.step:
            return [sys.executable, "-m", "support.doomed_server", self.step, str(self.config)]
        return super()._command(*verb)

    def _environ(self) -> dict[str, str]:
        found = environ()
        return {**found, "PYTHONPATH": f"{TESTS}:{found['PYTHONPATH']}"}
