"""Sandboxes: content-addressed files, and per owner the right to see them.

Bytes come into a file that nobody can name, and get their name only when size, digest and every
member of the archive are right; a stream that is cut off leaves nothing.
"""

import asyncio
import hashlib
import os
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.sandbox import Limits, check_archive
from pilotage_server.clock import Clock
from pilotage_server.jobs.files import disk_error, in_thread, sync_directory
from pilotage_server.jobs.limits import KIB, MIB, JobLimits
from pilotage_server.jobs.specs import DIGEST
from pilotage_server.principal import Principal
from pilotage_server.store import jobs, leases, owners, sandboxes
from pilotage_server.store.database import Database

LARGEST_MESSAGE = MIB
CHUNK = 512 * KIB


class SandboxStore:
    """Take sandboxes in and give them out."""

    def __init__(
        self, database: Database, root: Path, limits: JobLimits, clock: Clock, names: Callable[[str], Sequence[str]]
    ) -> None:
        self._database = database
        self._root = root
        self._incoming = root / "incoming"
        self._limits = limits
        self._clock = clock
        self._names = names
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_behind in self._incoming.iterdir():
            left_behind.unlink()

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    async def upload(
        self, caller: Principal, sha256: str, size: int, lease_id: str, chunks: AsyncIterator[bytes]
    ) -> str:
        """Take an archive in for the caller, or with a lease, for the owner of the lease's job; return its digest."""
        if not DIGEST.fullmatch(sha256):
            raise refuse(Reason.INVALID_ARGUMENT, "sha256 is not a SHA-256 in lower-case hex.")
        most = self._limits.output_bytes if lease_id else self._limits.sandbox_bytes
        if size > most:
            raise refuse(Reason.SANDBOX_TOO_LARGE, f"The sandbox has {size} bytes; at most {most} are allowed.")
        await self._database.read(lambda c: _owner_of(c, caller, lease_id))
        name = self._incoming / str(uuid.uuid4())
        try:
            with await in_thread(lambda: _create(name)) as file:
                await self._receive(file, sha256, size, chunks)
                await in_thread(lambda: self._check(file))
            await self._keep(caller, name, sha256, size, lease_id)
        except OSError as error:
            raise disk_error(error) from error
        finally:
            name.unlink(missing_ok=True)
        return sha256

    async def _receive(self, file: BinaryIO, sha256: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """Write what comes, as far as it was announced, and see that it is what was announced."""
        digest = hashlib.sha256()
        received = 0

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]

        async for chunk in chunks:
            received += len(chunk)
            if len(chunk) > LARGEST_MESSAGE:
                raise refuse(Reason.INVALID_ARGUMENT, f"A message carries at most {LARGEST_MESSAGE} bytes.")
            if received > size:
                raise refuse(Reason.SANDBOX_TOO_LARGE, f"More than the announced {size} bytes came.")
            await in_thread(lambda chunk=chunk: take(chunk))  # type: ignore[misc]
        if received < size:
            raise refuse(Reason.SANDBOX_TRUNCATED, f"Only {received} of {size} bytes came.")
        if digest.hexdigest() != sha256:
            raise refuse(Reason.SANDBOX_DIGEST_MISMATCH)

    def _check(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        check_archive(file, Limits(self._limits.unpacked_bytes, self._limits.sandbox_members))

    async def _keep(self, caller: Principal, name: Path, sha256: str, size: int, lease_id: str) -> None:
        """Give the file its name and the owner the right to it: both, or neither."""
        # Whoever is cancelled waits for the end: before it nobody can say whether the right has been given.
        keeping = asyncio.ensure_future(self._keep_both(caller, name, sha256, size, lease_id))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await asyncio.wait([keeping])
            if not keeping.cancelled():
                keeping.exception()
            raise

    async def _keep_both(self, caller: Principal, name: Path, sha256: str, size: int, lease_id: str) -> None:
        now = self._clock()
        async with self._locks.setdefault(sha256, asyncio.Lock()):
            made = await in_thread(lambda: _link(name, self._path(sha256)))
            try:
                await self._database.write(
                    lambda c: sandboxes.grant(c, owners.owner_id(c, _owner_of(c, caller, lease_id)), sha256, size, now)
                )
            except Exception:
                if made and not await self._database.read(lambda c: sandboxes.known(c, sha256)):
                    self._path(sha256).unlink(missing_ok=True)
                raise

    async def download(self, caller: Principal, sha256: str, lease_id: str) -> AsyncIterator[bytes]:
        """Yield the bytes of a sandbox the caller may see, or with a lease, of the input of the lease's job."""
        names = self._names(caller.dn)
        allowed = await self._database.read(lambda c: _may_see(c, caller, names, sha256, lease_id))
        if not DIGEST.fullmatch(sha256) or not allowed:
            raise refuse(Reason.SANDBOX_NOT_FOUND)
        path = self._path(sha256)
        try:
            file = await in_thread(lambda: path.open("rb"))
        except OSError as error:
            raise disk_error(error) from error
        with file:
            while chunk := await in_thread(lambda: file.read(CHUNK)):
                yield chunk


def _owner_of(connection: sqlite3.Connection, caller: Principal, lease_id: str) -> str:
    """Return whose an uploaded sandbox is: the caller's, or the job owner's when the caller holds the lease."""
    if not lease_id:
        return caller.dn
    lease = leases.live(connection, lease_id, caller.dn, caller.thumbprint)
    return jobs.by_seq(connection, lease.job_seq).owner_dn


def _may_see(
    connection: sqlite3.Connection, caller: Principal, names: Sequence[str], sha256: str, lease_id: str
) -> bool:
    if not lease_id:
        return sandboxes.visible(connection, names, sha256)
    lease = leases.live(connection, lease_id, caller.dn, caller.thumbprint)
    return jobs.spec(connection, lease.job_seq).input_sandbox == sha256


def _create(name: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.fdopen(os.open(name, flags, 0o600), "w+b", buffering=0)


def _link(name: Path, path: Path) -> bool:
    """Give a complete file its final name for good; False when it was there already."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        os.link(name, path)
    except FileExistsError:
        return False
    sync_directory(path.parent)
    sync_directory(path.parent.parent)
    return True
