"""Files: blocking work off the event loop, names that last, and what goes wrong in our words."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking file work in a thread; a caller that is cancelled still waits for its end.

    So nobody closes a file, or lets go of a lock, while a thread is writing.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def disk_error(error: OSError) -> PilotageError:
    """Return DISK_FULL for a full disk or quota, else STORE_UNAVAILABLE."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return refuse(Reason.DISK_FULL)
    return refuse(Reason.STORE_UNAVAILABLE, f"The state directory cannot be used: {os.strerror(error.errno or 0)}.")


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
