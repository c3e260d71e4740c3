"""The queue of files that SSM sends from: `dirq`'s simple directory queue.

QUEUE/<8 hex digits of a time>/<14 hex digits: time, microseconds, one more>, an element under a temporary name first.
The names here come from the message and not from the clock, so that exporting a period again finds its messages there
and adds none twice.
"""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper.accounting.apel import Message
from pilotage_helper.accounting.whole import sync

GRANULARITY = 60
TRIES = 4096


def add(queue: Path, message: Message) -> bool:
    """Put a message into the queue; tell whether it was not there yet. Modes are the umask's, as dirq's own are.

    Raises EXPORT_FAILED when the folder or the disk does not take it; then nothing of it is there.
    """
    folder = queue / f"{message.last_end - message.last_end % GRANULARITY:08x}"
    temporary = folder / f"{message.last_end:08x}{secrets.token_hex(3)}.tmp"
    try:
        _write(queue, temporary, message.text)
        try:
            return _take_name(folder, temporary, message)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            sync(folder)
    except OSError as error:
        raise refuse(Reason.EXPORT_FAILED, f"{queue}: {error.strerror}") from error


def _write(queue: Path, temporary: Path, text: bytes) -> None:
    for _ in range(TRIES):
        # Only the queue itself is the site's to make: a mistyped path is refused. And whoever takes the
        # last element out of a folder removes the folder, perhaps between these two lines.
        with contextlib.suppress(FileExistsError):
            temporary.parent.mkdir()
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            break
    else:
        raise refuse(Reason.EXPORT_FAILED, f"{queue}: its folders go as fast as they are made")
    with open(descriptor, "wb") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _take_name(folder: Path, temporary: Path, message: Message) -> bool:
    first = int(hashlib.sha256(message.text).hexdigest()[:8], 16)
    for i in range(TRIES):
        micro, last = divmod((first + i) % 16_000_000, 16)
        element = folder / f"{message.last_end:08x}{micro:05x}{last:x}"
        try:
            os.link(temporary, element)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if element.read_bytes() != message.text:
                    continue
            return False
        return True
    raise refuse(Reason.EXPORT_FAILED, f"{folder} is full of other messages")
