"""Writes that a thread prepares: that thread writes when it is alone, the pump in company; once and whole anyway."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server.store.database import Database
from pilotage_server.store.migrate import Kind
from pilotage_server.workers import Workers

pytestmark = pytest.mark.asyncio

MINUTE = 60


def put(number: int) -> Callable[[sqlite3.Connection], int]:
    def op(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO thing VALUES (?)", (number,))
        return number

    return op


def put_prepared(connection: sqlite3.Connection, number: int) -> int:
    return put(number)(connection)


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT number FROM thing ORDER BY number")]


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(tmp_path / "jobs.sqlite", Kind.JOBS, busy_seconds=0.2)
    await opened.write(lambda connection: connection.execute("CREATE TABLE thing (number INTEGER PRIMARY KEY)"))
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def threads() -> AsyncIterator[Workers]:
    made = Workers("test", 2)
    yield made
    made.close()


def commits_of(database: Database) -> list[str]:
    seen: list[str] = []
    database._writer.set_trace_callback(lambda text: seen.append(text) if text == "COMMIT" else None)
    return seen


async def test_a_lone_write_happens_where_it_was_prepared(database: Database, threads: Workers) -> None:
    places: list[str] = []
    told: list[int] = []

    def here(value: int) -> int:
        places.append(threading.current_thread().name)
        return value

    def op(connection: sqlite3.Connection, number: int) -> int:
        return put(here(number))(connection)

    assert await database.write_prepared(threads, lambda: here(7), op, committed=told.append) == 7
    assert places == ["test_0", "test_0"]
    assert told == [7]
    assert await database.read(numbers) == [7]


async def test_those_in_company_share_commits_and_each_is_done_once(database: Database, threads: Workers) -> None:
    commits = commits_of(database)
    told: list[int] = []
    asked = [database.write_prepared(threads, lambda n=n: n, put_prepared, told.append) for n in range(100)]  # type: ignore[misc]
    asked += [database.write(put(number), told.append) for number in range(100, 200)]
    assert await asyncio.gather(*asked) == list(range(200))
    assert sorted(told) == await database.read(numbers) == list(range(200))
    assert len(commits) < 100


async def test_what_cannot_be_prepared_is_not_written(database: Database, threads: Workers) -> None:
    def fail() -> int:
        raise refuse(Reason.RETRIEVAL_KEY_WRONG)

    with pytest.raises(PilotageError, match="RETRIEVAL_KEY_WRONG"):
        await database.write_prepared(threads, fail, put_prepared)
    assert await database.read(numbers) == []
    assert await database.write(put(1)) == 1


async def test_a_lone_write_that_fails_leaves_nothing_and_the_store_lives_on(
    database: Database, threads: Workers
) -> None:
    def half(connection: sqlite3.Connection, number: int) -> int:
        put(number)(connection)
        raise refuse(Reason.TOKEN_USED)

    told: list[int] = []
    with pytest.raises(PilotageError, match="TOKEN_USED"):
        await database.write_prepared(threads, lambda: 1, half, told.append)
    with pytest.raises(sqlite3.IntegrityError):
        await database.write_prepared(threads, lambda: 2, lambda c, n: (put(n)(c), put(n)(c)))
    assert await database.read(numbers) == told == []
    assert await database.write_prepared(threads, lambda: 3, put_prepared) == 3


async def test_a_write_that_comes_while_a_thread_writes_has_its_turn_after_it(
    database: Database, threads: Workers
) -> None:
    begun, hold = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: sqlite3.Connection, number: int) -> int:
        loop.call_soon_threadsafe(begun.set)
        assert hold.wait(MINUTE)
        return put(number)(connection)

    first = asyncio.create_task(database.write_prepared(threads, lambda: 1, slow))
    await begun.wait()
    others = [asyncio.create_task(database.write(put(2)))]
    others += [asyncio.create_task(database.write_prepared(threads, lambda: 3, put_prepared))]
    await asyncio.sleep(0.01)
    assert await database.read(numbers) == []
    assert not any(task.done() for task in (first, *others))
    hold.set()
    assert await asyncio.gather(first, *others) == [1, 2, 3]
    assert await database.read(numbers) == [1, 2, 3]


async def test_threads_do_not_keep_the_turn_from_a_write_that_waits(database: Database, threads: Workers) -> None:
    begun, hold, released, ran = asyncio.Event(), threading.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    order: list[int] = []

    def slow(connection: sqlite3.Connection, number: int) -> int:
        loop.call_soon_threadsafe(begun.set)
        assert hold.wait(MINUTE)
        return put(number)(connection)

    def late() -> int:
        assert released.wait(MINUTE)
        return 3

    def noted(connection: sqlite3.Connection, number: int) -> int:
        order.append(number)
        ran.set()
        return put(number)(connection)

    asked = [asyncio.create_task(database.write_prepared(threads, lambda: 1, slow))]
    await begun.wait()
    asked += [asyncio.create_task(database.write(lambda connection: noted(connection, 2)))]
    asked += [asyncio.create_task(database.write_prepared(threads, late, noted))]
    await asyncio.sleep(0.01)
    # The loop stands still here, so it cannot see that the first has ended before the third comes.
    hold.set()
    with database._turn:
        released.set()
    assert not ran.wait(0.2)
    assert [await task for task in asked] == [1, 2, 3]
    assert order == [2, 3]


async def test_a_thread_that_comes_while_a_batch_is_committed_leaves_its_write_to_the_pump(
    database: Database, threads: Workers
) -> None:
    hold = threading.Event()
    commit, places = database._commit, []

    def slow() -> None:
        assert hold.wait(MINUTE)
        commit()

    def op(connection: sqlite3.Connection, number: int) -> int:
        places.append(threading.current_thread().name)
        return put(number)(connection)

    database._commit = slow  # type: ignore[method-assign]
    first = asyncio.create_task(database.write(put(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(database.write_prepared(threads, lambda: 2, op))
    await asyncio.sleep(0)
    # Both threads are free when they meet, so the one that came has left its write.
    meeting = threading.Barrier(2, timeout=MINUTE)
    await asyncio.gather(*(threads.run(meeting.wait) for _ in range(2)))
    hold.set()
    assert [await first, await second] == [1, 2]
    assert places == ["MainThread"]


async def test_a_caller_that_goes_while_it_is_prepared_has_written_nothing(
    database: Database, threads: Workers
) -> None:
    begun, hold = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def prepare() -> int:
        loop.call_soon_threadsafe(begun.set)
        assert hold.wait(MINUTE)
        return 1

    caller = asyncio.create_task(database.write_prepared(threads, prepare, put_prepared))
    await begun.wait()
    caller.cancel()
    hold.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await database.write_prepared(threads, lambda: 2, put_prepared)
    assert await database.read(numbers) == [2]


async def test_a_callback_is_told_of_a_lone_write_whose_caller_has_gone(database: Database, threads: Workers) -> None:
    begun, hold = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()

    def slow(connection: sqlite3.Connection, number: int) -> int:
        loop.call_soon_threadsafe(begun.set)
        assert hold.wait(MINUTE)
        return put(number)(connection)

    caller = asyncio.create_task(database.write_prepared(threads, lambda: 1, slow, told.set_result))
    await begun.wait()
    caller.cancel()
    hold.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await told == 1
    assert await database.read(numbers) == [1]


async def test_somebody_elses_lock_is_waited_for_in_the_thread_and_then_refused(
    database: Database, threads: Workers, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    turns = 0
    waiting = asyncio.create_task(database.write_prepared(threads, lambda: 1, put_prepared))
    while not waiting.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 10
    with pytest.raises(PilotageError, match="STORE_UNAVAILABLE"):
        await waiting
    other.execute("ROLLBACK")
    other.close()
    assert await database.write_prepared(threads, lambda: 1, put_prepared) == 1


async def test_closing_waits_for_what_is_prepared_and_refuses_what_comes_later(tmp_path: Path) -> None:
    database, threads = Database.open(tmp_path / "jobs.sqlite", Kind.JOBS), Workers("test", 2)
    await database.write(lambda connection: connection.execute("CREATE TABLE thing (number INTEGER PRIMARY KEY)"))
    asked = [
        asyncio.create_task(database.write_prepared(threads, lambda n=n: n, put_prepared))  # type: ignore[misc]
        for n in range(50)
    ]
    await asyncio.sleep(0)
    await database.close()
    threads.close()
    assert [task.result() for task in asked] == list(range(50))
    with pytest.raises(PilotageError, match="STORE_UNAVAILABLE"):
        await database.write_prepared(threads, lambda: 100, put_prepared)
    again = Database.open(tmp_path / "jobs.sqlite", Kind.JOBS)
    assert len(await again.read(numbers)) == 50
    await again.close()


async def test_a_full_disk_is_told_and_the_store_lives_on(database: Database, threads: Workers) -> None:
    pages = await database.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 1}").fetchone())

    def large(connection: sqlite3.Connection, rows: int) -> None:
        connection.executemany("INSERT INTO thing VALUES (?)", ((number,) for number in range(rows)))

    with pytest.raises(PilotageError, match="DISK_FULL"):
        await database.write_prepared(threads, lambda: 100_000, large)
    assert await database.read(numbers) == []
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
    assert await database.write_prepared(threads, lambda: 4, put_prepared) == 4
