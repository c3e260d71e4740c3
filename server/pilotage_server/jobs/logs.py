"""What payloads printed: one file for each stream of each attempt."""

import asyncio
import enum
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.jobs.files import disk_error, in_thread
from pilotage_server.jobs.limits import KIB, JobLimits

CHUNK = 256 * KIB
LARGEST_OFFSET = 2**62


class Stream(enum.IntEnum):
    """Which of the payload's two streams; numbers of `pilotage.v1.LogStream`."""

    STDOUT = 1
    STDERR = 2


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a stream that begins at `offset`; `truncated` when the stream was cut after what is stored."""

    data: bytes
    offset: int
    truncated: bool


class LogStore:
    """Append and read. A stream never grows beyond the limit: the rest is dropped and marked so."""

    def __init__(self, root: Path, limits: JobLimits) -> None:
        self._root = root
        self._limit = limits.log_bytes
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, job_id: str, attempt: int, stream: Stream) -> Path:
        # The last digits of an id are random, the first are the time.
        name = str(uuid.UUID(job_id))
        return self._root / name[-2:] / name / f"{attempt}.{stream.name.lower()}"

    async def append(
        self, job_id: str, attempt: int, stream: Stream, offset: int, data: bytes, *, truncated: bool
    ) -> int:
        """Add bytes at an offset and return the offset at which the next ones go.

        Bytes that are there already are ignored; a gap is refused with LOG_OFFSET. What lies beyond the limit
        is dropped, and answered as if it were stored, so that the pilot goes on instead of sending it again.
        """
        if len(data) > CHUNK:
            raise refuse(Reason.INVALID_ARGUMENT, f"A log chunk is longer than {CHUNK} bytes.")
        _check_offset(offset)
        path = self._path(job_id, attempt, stream)
        lock = self._locks.setdefault(path, asyncio.Lock())
        async with lock:
            try:
                return await in_thread(lambda: self._append(path, offset, data, truncated))
            except OSError as error:
                raise disk_error(error) from error

    def _append(self, path: Path, offset: int, data: bytes, truncated: bool) -> int:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if offset > size and size < self._limit:
                raise refuse(Reason.LOG_OFFSET, f"The log holds {size} bytes; the chunk begins at {offset}.")
            fresh = data[size - offset :] if offset <= size else b""
            kept = memoryview(fresh)[: max(self._limit - size, 0)]
            stored = 0
            try:
                while stored < len(kept):
                    stored += os.write(descriptor, kept[stored:])
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if truncated or len(kept) < len(fresh) or offset > size:
            _mark(path).touch(mode=0o600)
        return max(offset + len(data), size)

    async def read(self, job_id: str, attempt: int, stream: Stream, offset: int) -> Chunk:
        """Return what is stored from an offset on, at most one chunk; empty at the end."""
        _check_offset(offset)
        path = self._path(job_id, attempt, stream)
        return await in_thread(lambda: self._read(path, offset))

    def _read(self, path: Path, offset: int) -> Chunk:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(CHUNK)
        except FileNotFoundError:
            return Chunk(b"", offset, truncated=False)
        return Chunk(data, offset, truncated=_mark(path).exists())

    async def chunks(self, job_id: str, attempt: int, stream: Stream, offset: int) -> AsyncIterator[Chunk]:
        """Yield what is stored from an offset on, to the end as it is now."""
        while True:
            chunk = await self.read(job_id, attempt, stream, offset)
            if not chunk.data:
                return
            offset += len(chunk.data)
            yield chunk


def _check_offset(offset: int) -> None:
    if offset > LARGEST_OFFSET:
        raise refuse(Reason.INVALID_ARGUMENT, "The offset is beyond any file's end.")


def _mark(path: Path) -> Path:
    """Return the file whose being there says that the stream was cut."""
    return path.with_name(path.name + ".cut")
