"""Threads beside the event loop: what they return, raise, leave out, and how they end."""

import asyncio
import gc
import threading
import weakref

import pytest

from pilotage_server.workers import Workers

pytestmark = pytest.mark.asyncio


async def test_work_runs_in_another_thread_and_its_value_comes_back() -> None:
    workers = Workers("test")
    name = await workers.run(lambda: threading.current_thread().name)
    assert name == "test_0"
    workers.close()


async def test_what_work_raises_is_raised_to_its_caller_and_the_thread_lives_on() -> None:
    workers = Workers("test")

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await workers.run(fail)
    assert await workers.run(lambda: 7) == 7
    workers.close()


async def test_a_second_thread_begins_when_the_first_has_work_and_there_is_never_a_third() -> None:
    workers = Workers("test", threads=2)
    for _ in range(3):
        assert await workers.run(lambda: threading.current_thread().name) == "test_0"
    meeting = threading.Barrier(2)

    def meet() -> str:
        meeting.wait(10)
        return threading.current_thread().name

    met = await asyncio.gather(*(workers.run(meet) for _ in range(4)))
    assert set(met) == {"test_0", "test_1"}
    workers.close()


async def test_work_of_a_caller_who_has_gone_is_left_out() -> None:
    workers = Workers("test")
    done: list[str] = []
    hold = threading.Event()
    first = asyncio.create_task(workers.run(lambda: hold.wait(10)))
    second = asyncio.create_task(workers.run(lambda: done.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    hold.set()
    assert await first
    await workers.run(lambda: done.append("third"))
    assert done == ["third"]
    workers.close()


async def test_closing_finishes_what_is_queued_and_takes_no_more() -> None:
    workers = Workers("test")
    hold = threading.Event()
    tasks = [asyncio.create_task(workers.run(work)) for work in (lambda: hold.wait(10), lambda: True)]
    await asyncio.sleep(0)
    hold.set()
    workers.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test_")]
    assert await asyncio.gather(*tasks) == [True, True]
    with pytest.raises(RuntimeError):
        await workers.run(lambda: True)


async def test_a_thread_keeps_nothing_of_the_work_it_has_done() -> None:
    class Known:
        """Something that work knows of."""

    workers, known = Workers("test"), Known()
    gone = weakref.ref(known)
    assert await workers.run(lambda known=known: known is not None)  # type: ignore[misc]
    del known
    gc.collect()
    assert gone() is None
    workers.close()
