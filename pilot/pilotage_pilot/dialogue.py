"""The pilot's half of the talk with the wrapper (docs/helper-interface.md, "The wrapper's socket").

Everything that arrives here is the owner's word: lengths are bounded, the order of frames is fixed, values are
checked, the outputs go to one file that the pilot chose, and nothing names a path of the pilot.
"""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_pilot.lease import Usage

HEADER = struct.Struct("!cI")
MAX_BODY = 1 << 20
MAX_JSON = 64 << 10
CHUNK = 256 << 10

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class Manifest(msgspec.Struct, frozen=True):
    """What the wrapper is asked to do."""

    job_id: str
    attempt: int
    command: tuple[str, ...]
    environment: dict[str, str]
    outputs: tuple[str, ...]
    has_input: bool
    max_input_bytes: int
    max_unpacked_bytes: int
    max_output_bytes: int
    wall_seconds: float
    cores: int
    site: str


class Begun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frame S."""

    state: str
    pid: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]


class Exit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frame X: `exit_code` is -1 when a signal ended the payload."""

    exit_code: Annotated[int, msgspec.Meta(ge=-1, le=255)]
    signal: Annotated[int, msgspec.Meta(ge=0, le=64)]
    wall_seconds: Seconds
    cpu_user_seconds: Seconds
    cpu_system_seconds: Seconds
    max_rss_bytes: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]

    @property
    def usage(self) -> Usage:
        """Return the four numbers of usage."""
        return Usage(self.wall_seconds, self.cpu_user_seconds, self.cpu_system_seconds, self.max_rss_bytes)

    @property
    def process_code(self) -> int:
        """Return the exit code with which the wrapper itself ends after this."""
        return 128 + self.signal if self.signal else self.exit_code


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frame E."""

    reason: Annotated[str, msgspec.Meta(max_length=64)]
    message: Annotated[str, msgspec.Meta(max_length=4096)]


class Outputs(msgspec.Struct, frozen=True):
    """The archive that came: its digest and size."""

    sha256: str
    size_bytes: int


class Dialogue:
    """Sends what the wrapper needs and keeps what it says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.started = asyncio.Event()
        self.over = asyncio.Event()
        """Set when the payload has ended, by the wrapper's word."""
        self.ended = asyncio.Event()
        """Set when nothing more comes."""
        self.spoke = False
        self.exit: Exit | None = None
        self.failure: Failure | None = None
        self.fault: PilotageError | None = None
        self.outputs: Outputs | None = None
        self.done = False

    async def send(self, manifest: Manifest, source: Path | None) -> None:
        """Send manifest and input sandbox; that the wrapper hangs up early is for `listen` to explain."""
        try:
            await self._frame(b"M", msgspec.json.encode(manifest))
            if source is not None:
                async for data in _read(source):
                    await self._frame(b"I", data)
                await self._frame(b"I", b"")
        except OSError:
            return

    async def _frame(self, kind: bytes, body: bytes) -> None:
        if len(body) > MAX_BODY:
            raise refuse(Reason.JOB_TOO_LARGE, "The job's description is larger than a frame.")
        self._writer.write(HEADER.pack(kind, len(body)) + body)
        await self._writer.drain()

    async def listen(self, target: Path, max_output_bytes: int) -> None:
        """Take frames until the wrapper is done, failed, broke the rules (`fault`) or went away."""
        try:
            await self._listen(target, max_output_bytes)
        except (asyncio.IncompleteReadError, ConnectionError):
            if not (self.done or self.failure):
                self.fault = refuse(Reason.WRAPPER_PROTOCOL, "The wrapper ended without a word about it.")
        except msgspec.DecodeError as error:
            self.fault = refuse(Reason.WRAPPER_PROTOCOL, f"A frame of the wrapper cannot be read: {error}"[:500])
        except PilotageError as error:
            self.fault = error
        finally:
            self._writer.close()
            for event in (self.started, self.over, self.ended):
                event.set()

    async def _listen(self, target: Path, max_output_bytes: int) -> None:
        kind, body = await self._next(b"S", b"E")
        self.spoke = True
        if kind == b"S":
            msgspec.json.decode(body, type=Begun)
            self.started.set()
            kind, body = await self._next(b"X", b"E")
        if kind == b"X":
            self.exit = msgspec.json.decode(body, type=Exit)
            if (self.exit.exit_code == -1) != (self.exit.signal > 0):
                raise refuse(Reason.WRAPPER_PROTOCOL, "The wrapper reports both an exit code and a signal, or neither.")
            self.over.set()
            kind, body = await self._next(b"O", b"D", b"E")
        if kind == b"O":
            kind, body = await self._receive_outputs(body, target, max_output_bytes)
        if kind == b"E":
            self.failure = msgspec.json.decode(body, type=Failure)
            self.outputs = None
        else:
            self.done = True

    async def _receive_outputs(self, body: bytes, target: Path, limit: int) -> tuple[bytes, bytes]:
        digest, size, kind = hashlib.sha256(), 0, b"O"
        with await asyncio.to_thread(target.open, "xb") as file:
            while body and kind == b"O":
                size += len(body)
                if size > limit:
                    raise refuse(Reason.SANDBOX_TOO_LARGE, f"The outputs have more than {limit} bytes.")
                digest.update(body)
                await asyncio.to_thread(file.write, body)
                kind, body = await self._next(b"O", b"E")
        if kind == b"E":
            return kind, body
        self.outputs = Outputs(digest.hexdigest(), size)
        return await self._next(b"D", b"E")

    async def _next(self, *allowed: bytes) -> tuple[bytes, bytes]:
        kind, length = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        if kind not in allowed or length > (MAX_BODY if kind == b"O" else MAX_JSON):
            raise refuse(Reason.WRAPPER_PROTOCOL, f"The wrapper sent a frame {kind!r} of {length} bytes out of turn.")
        return kind, await self._reader.readexactly(length)


async def _read(source: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(source.open, "rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK):
            yield data
