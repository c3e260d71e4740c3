"""One write of a batch: an operation in a savepoint of its own, and who is told what came of it."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

from pilotage.errors import refuse
from pilotage.reasons import Reason

T = TypeVar("T")


def store_error(error: sqlite3.Error) -> Exception:
    """Say in our words why SQLite did not do it; an error of ours in a statement stays what it is."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return refuse(Reason.DISK_FULL)
    if code == sqlite3.SQLITE_ERROR:
        return error
    return refuse(Reason.STORE_UNAVAILABLE, f"The database did not answer ({error.sqlite_errorname}).")


def raise_store_error(error: sqlite3.Error) -> NoReturn:
    told = store_error(error)
    if told is error:
        raise error
    raise told from error


class Write(Generic[T]):
    """An operation that waits for its turn, and the future its caller waits for."""

    def __init__(
        self,
        op: Callable[[sqlite3.Connection], T],
        committed: Callable[[T], None] | None,
        future: asyncio.Future[T],
    ) -> None:
        self.op = op
        self.committed = committed
        self.future = future
        self.value: T
        self.error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Run in a savepoint; on an exception undo this operation and nothing else."""
        connection.execute("SAVEPOINT op")
        self.run_alone(connection)
        # A full disk makes SQLite undo the whole transaction by itself.
        if self.error is not None and connection.in_transaction:
            connection.execute("ROLLBACK TO op")
        if connection.in_transaction:
            connection.execute("RELEASE op")

    def run_alone(self, connection: sqlite3.Connection) -> None:
        """Run in a transaction of its own; after an error that is to be undone."""
        try:
            self.value = self.op(connection)
        except Exception as error:
            self.error = store_error(error) if isinstance(error, sqlite3.OperationalError) else error

    @property
    def wanted(self) -> bool:
        """Tell whether somebody still waits for it."""
        return not self.future.cancelled()

    def settle(self) -> None:
        """Tell the caller, who may have gone, and whoever must know of what is now durable."""
        if self.error is not None:
            self.fail(self.error)
            return
        self._answer()
        if self.committed is not None:
            try:
                self.committed(self.value)
            except Exception as error:
                # The value is durable and the pump serves everybody: report, and go on.
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a callback after a commit failed", "exception": error}
                )

    def fail(self, error: Exception) -> None:
        """Tell the caller that nothing was done."""
        if not self.future.done():
            self.future.set_exception(error)

    def _answer(self) -> None:
        if not self.future.done():
            self.future.set_result(self.value)


class LaterWrite(Write[T]):
    """An operation for which nobody waits; `failed` is told when it was not done."""

    def __init__(
        self,
        op: Callable[[sqlite3.Connection], T],
        committed: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.op = op
        self.committed = committed
        self.error = None
        self._failed = failed

    @property
    def wanted(self) -> bool:
        """It always is."""
        return True

    def fail(self, error: Exception) -> None:
        """Tell of it on the event loop; whoever is told may have it written again."""
        asyncio.get_running_loop().call_soon(self._failed, error)

    def _answer(self) -> None:
        pass
