"""One SQLite file, one process, and the store pump that lets writers share a commit.

Handlers hand over operations; the pump runs all that have arrived in one transaction, each in a
savepoint of its own, commits in a thread, and answers only then. So one fsync serves many callers, a
failing operation fails alone, and nobody is told of something that a power cut could take back.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server.store import migrate
from pilotage_server.store.migrate import Kind
from pilotage_server.store.writes import LaterWrite, Write, raise_store_error, store_error
from pilotage_server.workers import Done, Workers

P = TypeVar("P")
T = TypeVar("T")

WINDOW_SECONDS = 0.002
"""How long a new batch gathers after one that had company; a lone caller never waits."""
BATCH = 200
SOON_SECONDS = 0.02
"""How long what `write_soon` was given waits for company at most."""
BUSY_SECONDS = 5.0


class Database:
    """A store of one kind. Use from one event loop."""

    def __init__(self, path: Path, lock: int, busy_seconds: float) -> None:
        self._path = path
        self._lock = lock
        self._busy_seconds = busy_seconds
        self._writer = self._connect(query_only=False)
        self._reader = self._connect(query_only=True)
        self._slow_reader = self._connect(query_only=True)
        self._commit_thread = Workers(f"commit-{path.stem}")
        self._read_thread = Workers(f"read-{path.stem}")
        # The pump holds writes of every result type; each settles its own future.
        self._waiting: deque[Write[object]] = deque()
        self._turn = threading.Lock()
        """Held by whoever has a transaction open on the writer: the pump, or a thread in `_write_alone`."""
        self._pumping = False
        self._soon = False
        self._later = 0
        self._held_up = False
        self._apart = 0
        self._had_company = False
        self._at_rest: asyncio.Future[None] | None = None
        self._closing = False

    @classmethod
    def open(cls, path: Path, kind: Kind | str, *, busy_seconds: float = BUSY_SECONDS) -> Self:
        """Lock, migrate and open a database file, making it when it is not there.

        Raises STORE_UNAVAILABLE when another process has it, or it cannot be migrated.
        """
        lock = _take_lock(path)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            migrate.upgrade(path, Kind(kind))
            return cls(path, lock, busy_seconds)
        except OSError as error:
            os.close(lock)
            raise refuse(
                Reason.STORE_UNAVAILABLE, f"The database {path} cannot be opened: {error.strerror}."
            ) from error
        except sqlite3.Error as error:
            os.close(lock)
            raise_store_error(error)
        except PilotageError:
            os.close(lock)
            raise

    def _connect(self, *, query_only: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=256)
        # The pump waits for a locked file in its thread, never on the event loop.
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA query_only = {'ON' if query_only else 'OFF'}")
        return connection

    async def write(self, op: Callable[[sqlite3.Connection], T], committed: Callable[[T], None] | None = None) -> T:
        """Run an operation in a transaction shared with its neighbours and return its result once durable.

        An exception of the operation undoes it alone and is raised here. `committed` is called on the event
        loop after the commit even when the caller has been cancelled meanwhile. A failed commit fails every
        operation of the batch with DISK_FULL or STORE_UNAVAILABLE, and none of them is done.
        """
        self._check_open()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._append(Write(op, committed, future))
        return await future

    async def write_prepared(
        self,
        threads: Workers,
        prepare: Callable[[], P],
        op: Callable[[sqlite3.Connection, P], T],
        committed: Callable[[T], None] | None = None,
    ) -> T:
        """Prepare something in a thread, then `write` what came of it: in that same thread, if nobody else writes then.

        So a lone caller waits for one thread, not for two after each other; those in company still share a commit.
        An exception of `prepare` is raised here, and nothing is written.
        """
        self._check_open()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        prepared: list[P] = []
        write = Write(lambda connection: op(connection, prepared[0]), committed, future)

        def work() -> bool:
            prepared.append(prepare())
            return not future.cancelled() and self._write_alone(write)

        def then(done: Done[bool]) -> None:
            self._apart -= 1
            try:
                if done.result():
                    write.settle()
                elif not future.cancelled():
                    self._append(write)
            except Exception as error:
                write.fail(error)
            if self._held_up:
                self._held_up = False
                self._begin()
            self._rest()

        self._apart += 1
        threads.submit(work, then)
        return await future

    def write_soon(
        self,
        op: Callable[[sqlite3.Connection], T],
        committed: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Have an operation done with the next batch, within SOON_SECONDS, and return at once.

        It is done before whatever is given to `write` after it; a crash before its commit loses it, and the caller
        must be able to mend that. Either `committed` or `failed` is called on the event loop.
        """
        self._check_open()

        def done(tell: Callable[[P], None]) -> Callable[[P], None]:
            def told(value: P) -> None:
                self._later -= 1
                tell(value)

            return told

        self._later += 1
        self._waiting.append(LaterWrite(op, done(committed), done(failed)))  # type: ignore[arg-type]
        if not (self._pumping or self._soon):
            self._soon = True
            asyncio.get_running_loop().call_later(SOON_SECONDS, self._write_waiting)

    async def caught_up(self) -> None:
        """Wait until what `write_soon` was given so far can be read, if it can be written."""
        if self._later:
            with contextlib.suppress(PilotageError):
                await self.write(lambda _: None)

    def _write_waiting(self) -> None:
        self._soon = False
        if self._waiting and not self._pumping:
            self._pumping = True
            self._begin()

    def _check_open(self) -> None:
        if self._closing:
            raise refuse(Reason.STORE_UNAVAILABLE, "The database is being closed.")

    def _append(self, write: Write[T]) -> None:
        self._waiting.append(write)  # type: ignore[arg-type]
        if not self._pumping:
            self._pumping = True
            self._call_for_batch()

    def _write_alone(self, write: Write[T]) -> bool:
        """Write in the calling thread, if it is nobody's turn; tell whether that was so. The outcome is in `write`."""
        # While the pump has work, this is some of it: else threads could keep the turn among themselves for long. With
        # others on their way, too: they share a commit.
        if self._pumping or self._waiting or self._apart > 1 or not self._turn.acquire(blocking=False):
            return False
        try:
            self._begin_patiently()
            write.run_alone(self._writer)
            if write.error is None:
                self._commit()
        except sqlite3.Error as error:
            write.error = store_error(error)
        finally:
            try:
                self._undo()
            finally:
                self._turn.release()
        return True

    async def read(self, op: Callable[[sqlite3.Connection], T], *, slow: bool = False) -> T:
        """Run queries on one snapshot of the committed state; `slow` ones go off the event loop."""
        self._check_open()
        if slow:
            return await self._read_thread.run(lambda: _snapshot(self._slow_reader, op))
        return _snapshot(self._reader, op)

    async def close(self) -> None:
        """Finish what has arrived, refuse what comes later, and let go of the file."""
        if self._closing:
            return
        self._closing = True
        self._write_waiting()
        try:
            if self._pumping or self._apart:
                self._at_rest = asyncio.get_running_loop().create_future()
                await self._at_rest
        finally:
            self._commit_thread.close()
            self._read_thread.close()
            for connection in (self._reader, self._slow_reader, self._writer):
                connection.close()
            os.close(self._lock)

    # The pump: callbacks, not a task, because each turn of the event loop that a lone write takes is dear.

    def _call_for_batch(self) -> None:
        """Begin a batch in the loop's next turn, so that what arrives in this one is of it; after company, later."""
        loop = asyncio.get_running_loop()
        if self._had_company and not self._closing:
            loop.call_later(WINDOW_SECONDS, self._begin)
        else:
            loop.call_soon(self._begin)

    def _begin(self) -> None:
        if not self._turn.acquire(blocking=False):
            # A thread writes alone; the end of that calls again.
            self._held_up = True
            return
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        batch = [write for write in batch if write.wanted]
        if not batch:
            self._end_turn()
            return
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                self._in_commit_thread(self._begin_patiently, self._perform, batch)
            else:
                self._fail(batch, error)
            return
        self._perform(batch)

    def _perform(self, batch: list[Write[object]]) -> None:
        """Run a batch in the transaction that was begun, and have it committed."""
        try:
            for write in batch:
                write.run(self._writer)
                if not self._writer.in_transaction:
                    raise write.error or refuse(Reason.STORE_UNAVAILABLE, "The database undid the transaction.")
        except Exception as error:
            self._fail(batch, error)
        else:
            self._in_commit_thread(self._commit, self._settle, batch)

    def _in_commit_thread(
        self, work: Callable[[], None], then: Callable[[list[Write[object]]], None], batch: list[Write[object]]
    ) -> None:
        """Do what may wait for the disk or for a lock off the loop, then go on with the batch, or fail it."""

        def done(it: Done[None]) -> None:
            try:
                it.result()
            except Exception as error:
                self._fail(batch, error)
            else:
                then(batch)

        self._commit_thread.submit(work, done)

    def _settle(self, batch: list[Write[object]]) -> None:
        for write in batch:
            write.settle()
        self._had_company = len(batch) > 1
        self._end_turn()

    def _fail(self, batch: list[Write[object]], error: Exception) -> None:
        """Undo a batch, and tell every caller of it."""
        try:
            self._undo()
        except sqlite3.Error:
            # Nothing more can be done with this connection; whoever comes is refused, and nobody hangs.
            self._closing = True
            batch += self._waiting
            self._waiting.clear()
        failure = store_error(error) if isinstance(error, sqlite3.Error) else error
        for write in batch:
            write.fail(failure)
        self._had_company = len(batch) > 1
        self._end_turn()

    def _end_turn(self) -> None:
        self._turn.release()
        if self._waiting:
            self._call_for_batch()
        else:
            self._pumping = False
            self._rest()

    def _rest(self) -> None:
        """Let `close` go on when nothing is under way any more."""
        if self._at_rest is not None and not (self._pumping or self._apart or self._at_rest.done()):
            self._at_rest.set_result(None)

    def _begin_patiently(self) -> None:
        """Wait for another program's lock (a backup, a person with a shell), in the commit thread."""
        self._writer.execute(f"PRAGMA busy_timeout = {int(self._busy_seconds * 1000)}")
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        finally:
            self._writer.execute("PRAGMA busy_timeout = 0")

    def _commit(self) -> None:
        """Make the transaction durable, in the commit thread: this waits for the disk."""
        self._writer.execute("COMMIT")

    def _undo(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")


def _snapshot(connection: sqlite3.Connection, op: Callable[[sqlite3.Connection], T]) -> T:
    try:
        connection.execute("BEGIN")
        try:
            return op(connection)
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise_store_error(error)


def _take_lock(path: Path) -> int:
    """Take the lock file beside the database for the life of this process."""
    name = path.with_name(path.name + ".lock")
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise refuse(Reason.STORE_UNAVAILABLE, f"The lock file {name} cannot be made: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise refuse(Reason.STORE_UNAVAILABLE, f"Another process has the database {path} open.") from error
    return lock
