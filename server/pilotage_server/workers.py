"""Threads that do for the event loop what would hold it up: signatures, and waiting for the disk.

The same as `ThreadPoolExecutor` and `run_in_executor`, for less: their two futures a piece of work, each with locks
and callbacks, cost as much as a short piece of work does.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class _Work(Generic[T]):
    """One piece of work, and who is told on the event loop what came of it."""

    __slots__ = ("_error", "_loop", "_then", "_value", "_work")

    def __init__(
        self,
        work: Callable[[], T],
        then: Callable[["_Work[T]"], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._work = work
        self._then = then
        self._loop = loop
        self._value: T
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it, in a thread of the pool."""
        try:
            self._value = self._work()
        except BaseException as error:  # whatever it is, it belongs to the caller and not to this thread
            self._error = error
        # The loop may have been closed meanwhile; then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._then, self)

    def result(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


Done = _Work
"""What `submit` hands over: its `result()` is that of the work."""


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
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def wanted() -> T | None:
            return None if future.cancelled() else work()

        def then(done: Done[T | None]) -> None:
            if not future.cancelled():
                try:
                    future.set_result(done.result())  # type: ignore[arg-type]  # None only of what nobody waits for
                except BaseException as error:
                    future.set_exception(error)

        self.submit(wanted, then)
        return await future

    def submit(self, work: Callable[[], T], then: Callable[[Done[T]], None]) -> None:
        """Run something in a thread, and `then` call back on the running event loop with what came of it."""
        if self._closed:
            raise RuntimeError(f"the {self._name} threads have ended")

        def finished(done: Done[T]) -> None:
            self._unfinished -= 1
            then(done)

        self._unfinished += 1
        self._queue.put(_Work(work, finished, asyncio.get_running_loop()))  # type: ignore[arg-type]
        if len(self._threads) < min(self._unfinished, self._most):
            self._start()

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
