"""Threads that do for the event loop what would hold it up: signatures, and waiting for the disk.

The same as `ThreadPoolExecutor` and `run_in_executor`, for less: their two futures a piece of work, each with locks
and callbacks, cost as much as a short piece of work does.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class _Work(Generic[T]):
    """One piece of work, and the future its caller waits for."""

    __slots__ = ("_error", "_future", "_loop", "_value", "_work")

    def __init__(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self._future: asyncio.Future[T] = loop.create_future()
        self._value: T
        self._error: BaseException | None = None

    @property
    def future(self) -> asyncio.Future[T]:
        return self._future

    def run(self) -> None:
        """Do it, in a thread of the pool."""
        if self._future.cancelled():
            return
        try:
            self._value = self._work()
        except BaseException as error:  # whatever it is, it belongs to the caller and not to this thread
            self._error = error
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:
            # The loop was closed meanwhile; nobody waits any more.
            return

    def _settle(self) -> None:
        if self._future.cancelled():
            return
        if self._error is not None:
            self._future.set_exception(self._error)
        else:
            self._future.set_result(self._value)


class Workers:
    """A few threads, each begun when all before it have work. Use from one event loop."""

    def __init__(self, name: str, threads: int = 1) -> None:
        self._name = name
        self._most = threads
        # The queue holds work of every result type; each settles its own future.
        self._queue: SimpleQueue[_Work[object] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Run something in a thread and return what it returns, or raise what it raises.

        Work that has begun goes on when its caller is cancelled; work that has not is left out.
        """
        if self._closed:
            raise RuntimeError(f"the {self._name} threads have ended")
        piece = _Work(work, asyncio.get_running_loop())
        self._unfinished += 1
        try:
            self._queue.put(piece)  # type: ignore[arg-type]
            if len(self._threads) < min(self._unfinished, self._most):
                self._start()
            return await piece.future
        finally:
            self._unfinished -= 1

    def _start(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"{self._name}_{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self, *, wait: bool = True) -> None:
        """End the threads when they have done what is queued; wait for that unless told not to."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self) -> None:
        while (piece := self._queue.get()) is not None:
            piece.run()
            # Else the last piece of work, with all it knows, is kept until the next.
            del piece
