"""A payload's standard output and error, on their way to the server.

A server that is away never slows a payload down: what it prints goes to a bounded spool file, and from there to
the server whenever it listens. What is beyond the bound is read and dropped, and the log says that it was cut.
"""

import asyncio
import logging
import os
from pathlib import Path

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_pilot.lease import Stream
from pilotage_pilot.retry import PASSING, Delays
from pilotage_pilot.session import Session

log = logging.getLogger(__name__)

CHUNK = 128 << 10
PAUSE_SECONDS = 1.0


class LogStream:
    """One stream of one attempt."""

    def __init__(self, session: Session, lease_id: str, stream: Stream, spool: Path, limit: int) -> None:
        self._session = session
        self._lease_id = lease_id
        self._stream = stream
        self._limit = limit
        self._spool = os.open(spool, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._size = 0
        self._truncated = False
        self._ended = False
        self._more = asyncio.Event()

    def close(self) -> None:
        """Close the spool."""
        os.close(self._spool)

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Take what the payload prints until it has closed the pipe."""
        try:
            while data := await reader.read(CHUNK):
                kept = data[: self._limit - self._size]
                self._truncated = self._truncated or len(kept) < len(data)
                if kept and not self._write(kept):
                    self._limit, self._truncated = self._size, True
                self._more.set()
        finally:
            self._ended = True
            self._more.set()

    def _write(self, data: bytes) -> bool:
        """Add to the spool; a full disk cuts the log, not the payload."""
        try:
            self._size += os.write(self._spool, data)
        except OSError as error:
            log.error("log spool of lease %s: %s", self._lease_id, error)
            return False
        return True

    async def send(self) -> None:
        """Send the spool as it grows, until the stream has ended and the server has all of it."""
        sent, told, pauses = 0, False, Delays()
        while True:
            await self._more.wait()
            self._more.clear()
            while sent < self._size or (self._ended and self._truncated and not told):
                last = self._ended and self._size - sent <= CHUNK
                data = os.pread(self._spool, min(CHUNK, self._size - sent), sent)
                try:
                    sent = await self._session.append_log(
                        self._lease_id, self._stream, sent, data, truncated=last and self._truncated
                    )
                except PilotageError as error:
                    if error.reason is Reason.LOG_OFFSET and sent:
                        sent = 0
                    elif error.reason not in PASSING:
                        log.warning("log of lease %s is not sent any more: %s", self._lease_id, error)
                        return
                    await asyncio.sleep(next(pauses))
                    continue
                pauses.reset()
                told = last
            if self._ended:
                return
            await asyncio.sleep(PAUSE_SECONDS)
