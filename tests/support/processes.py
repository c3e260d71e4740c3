"""The helper's processes by their roles, whichever program each of them is."""

import contextlib
import time
from pathlib import Path


def children(pid: int) -> list[int]:
    """The children of a process' main thread; none when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def uids(pid: int) -> tuple[int, ...]:
    """Real, effective, saved and file system uid; empty when the process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                return tuple(int(word) for word in line.split()[1:])
    return ()


def monitor_of(front: int, seconds: float = 60) -> int:
    """The root child of the front."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for child in children(front):
            if uids(child) == (0, 0, 0, 0):
                return child
        time.sleep(0.002)
    raise AssertionError(f"process {front} has no child that is root")


def state(pid: int) -> str:
    """The letter of a process' state; X when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "X"
