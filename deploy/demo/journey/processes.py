"""The demo's long-running processes: started as their own accounts, recorded, ended by their recorded id.

Standard library only: `make clean-demo` works when nothing is installed any more.
"""

import json
import os
import pwd
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from journey.steps import DemoError


@dataclass(frozen=True)
class Running:
    """One process; the start time tells it from a later one with the same id."""

    name: str
    pid: int
    start_ticks: int


class Processes:
    """The processes of one demo, recorded in a file of the prefix."""

    def __init__(self, record: Path, logs: Path) -> None:
        self._record = record
        self._logs = logs

    def start(self, name: str, account: str, command: list[str], environ: dict[str, str]) -> Running:
        """Start a process as an account, with nothing of root's environment; its output goes to a log."""
        entry = pwd.getpwnam(account)
        self._logs.mkdir(exist_ok=True)
        log = self.log(name)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                user=entry.pw_uid,
                group=entry.pw_gid,
                extra_groups=[],
                umask=0o077,
                cwd=entry.pw_dir,
                env={"HOME": entry.pw_dir, "USER": account, "LOGNAME": account, "PATH": "/usr/bin:/bin", **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(name, process.pid, start_ticks(process.pid))
        self._save([*self.recorded(), running])
        return running

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._logs / f"{name}.log"

    def recorded(self) -> list[Running]:
        """Return what was started and not yet seen to end."""
        if not self._record.exists():
            return []
        return [Running(**row) for row in json.loads(self._record.read_text())]

    def check(self) -> None:
        """Raise unless every recorded process still runs."""
        for running in self.recorded():
            if not is_running(running):
                raise DemoError(f"the {running.name} ended while it was needed: see {self.log(running.name)}")

    def stop(self, *, patience_seconds: float = 20) -> list[str]:
        """End every recorded process, the last started first; return the names of those that were running."""
        stopped = []
        for running in reversed(self.recorded()):
            if not is_running(running):
                continue
            os.kill(running.pid, signal.SIGTERM)
            deadline = time.monotonic() + patience_seconds
            while is_running(running) and time.monotonic() < deadline:
                time.sleep(0.05)
            if is_running(running):
                os.kill(running.pid, signal.SIGKILL)
            stopped.append(running.name)
        self._save([])
        return stopped

    def _save(self, rows: list[Running]) -> None:
        if not rows:
            self._record.unlink(missing_ok=True)
            return
        partial = self._record.with_name(self._record.name + ".new")
        partial.write_text(json.dumps([asdict(row) for row in rows]))
        partial.replace(self._record)


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc(5), field 22)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError as error:
        raise DemoError(f"process {pid} ended at once") from error
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":
        raise DemoError(f"process {pid} has ended")
    return int(fields[19])


def is_running(running: Running) -> bool:
    """Return whether a recorded process still runs; one that waits to be reaped does not."""
    try:
        reaped, _ = os.waitpid(running.pid, os.WNOHANG)
        if reaped:
            return False
    except ChildProcessError:
        pass  # an earlier demo's child
    try:
        return start_ticks(running.pid) == running.start_ticks
    except DemoError:
        return False
