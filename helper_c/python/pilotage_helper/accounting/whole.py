"""Files that are there whole or not at all."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pilotage.errors import refuse
from pilotage.reasons import Reason

MODE = 0o640
"""Records hold people's names, so they are not for everybody; the caller's umask may narrow it."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes its name only when the block has ended well; what had the name stays until then.

    Raises EXPORT_FAILED when the name is taken by something that is no regular file, or the disk does not take it.
    """
    new = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise refuse(Reason.EXPORT_FAILED, f"{path} is there and is no regular file")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
            sync(path.parent)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise refuse(Reason.EXPORT_FAILED, f"{path}: {error.strerror}") from error


def sync(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
