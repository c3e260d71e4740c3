"""The pilot's private folder: one pilot at a time, one folder per attempt, nothing left behind.

Proxies, input and output archives and log spools lie below `attempts/`. A predecessor that was killed
could not remove its own; whoever gets the lock removes them before taking work.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason

log = logging.getLogger(__name__)


class Workspace:
    """Owns the folder while the pilot runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._attempts = root / "attempts"
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts = os.lstat(root)
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
                raise _unusable(root, "it must be a folder of the pilot's account that nobody else may enter (0700)")
            self._lock = os.open(root / "pilot.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise _unusable(root, "another pilot works in it") from None
        except OSError as error:
            raise _unusable(root, str(error.strerror)) from error

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def sweep(self) -> int:
        """Remove what a crashed predecessor left and return how many attempts that were."""
        try:
            left = [entry.name for entry in os.scandir(self._attempts)] if self._attempts.is_dir() else []
            for name in left:
                shutil.rmtree(self._attempts / name)
            self._attempts.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(self._attempts, f"what a predecessor left cannot be removed: {error}") from error
        if left:
            log.warning("removed the files of %d attempts that a predecessor did not finish", len(left))
        return len(left)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[Path]:
        """Give one attempt its folder, and remove it with everything in it on every way out."""
        try:
            folder = Path(tempfile.mkdtemp(prefix="a-", dir=self._attempts))
        except OSError as error:
            raise _unusable(self._attempts, str(error.strerror)) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, onerror=_complain)


def _complain(function: object, path: str, info: object) -> None:
    log.error("could not be removed: %s", path)


def _unusable(path: Path, why: str) -> PilotageError:
    return refuse(Reason.WORKSPACE_UNUSABLE, f"{path}: {why}.")
