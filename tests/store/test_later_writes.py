"""Writes that nobody waits for: in order with all others, soon, and told of when they fail."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server.store.database import Database
from pilotage_server.store.migrate import Kind
from pilotage_server.workers import Workers

pytestmark = pytest.mark.asyncio


def put(number: int) -> Callable[[sqlite3.Connection], None]:
    def op(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO thing (number) VALUES (?)", (number,))

    return op


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT number FROM thing ORDER BY place")]


class Heard:
    """Who was told what of later writes."""

    def __init__(self) -> None:
        self.written = 0
        self.errors: list[Exception] = []
        self.told = asyncio.Event()

    def committed(self, _: None) -> None:
        self.written += 1
        self.told.set()

    def failed(self, error: Exception) -> None:
        self.errors.append(error)
        self.told.set()


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(tmp_path / "jobs.sqlite", Kind.JOBS, busy_seconds=0.2)
    table = "CREATE TABLE thing (place INTEGER PRIMARY KEY, number INTEGER UNIQUE)"
    await opened.write(lambda connection: connection.execute(table))
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def heard() -> Heard:
    return Heard()


def commits_of(database: Database) -> list[str]:
    seen: list[str] = []
    database._writer.set_trace_callback(lambda text: seen.append(text) if text == "COMMIT" else None)
    return seen


async def test_many_that_nobody_waits_for_share_one_commit(database: Database, heard: Heard) -> None:
    commits = commits_of(database)
    for number in range(10):
        database.write_soon(put(number), heard.committed, heard.failed)
    assert heard.written == 0
    await asyncio.wait_for(heard.told.wait(), 60)
    assert await database.read(numbers) == list(range(10))
    assert (heard.written, heard.errors, len(commits)) == (10, [], 1)


async def test_what_is_written_after_them_comes_after_them_and_does_not_wait_for_their_time(
    database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilotage_server.store.database.SOON_SECONDS", 3600)
    database.write_soon(put(1), heard.committed, heard.failed)
    await database.write(put(2))
    assert await database.read(numbers) == [1, 2]
    assert heard.written == 1


async def test_a_thread_that_could_write_alone_does_not_overtake_them(
    database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilotage_server.store.database.SOON_SECONDS", 3600)
    threads = Workers("test")
    database.write_soon(put(1), heard.committed, heard.failed)
    await database.write_prepared(threads, lambda: 2, lambda connection, number: put(number)(connection))
    threads.close()
    assert await database.read(numbers) == [1, 2]


async def test_whoever_must_see_them_can_wait_for_them(
    database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilotage_server.store.database.SOON_SECONDS", 3600)
    commits = commits_of(database)
    await database.caught_up()
    assert commits == []
    database.write_soon(put(1), heard.committed, heard.failed)
    await database.caught_up()
    assert await database.read(numbers) == [1]
    await database.caught_up()
    assert len(commits) == 1


async def test_one_that_fails_fails_alone_and_is_told_of(database: Database, heard: Heard) -> None:
    others = Heard()
    database.write_soon(put(1), heard.committed, heard.failed)
    database.write_soon(put(1), others.committed, others.failed)
    database.write_soon(put(2), heard.committed, heard.failed)
    await asyncio.wait_for(others.told.wait(), 60)
    assert await database.read(numbers) == [1, 2]
    assert (heard.written, heard.errors) == (2, [])
    assert others.written == 0
    assert isinstance(others.errors[0], sqlite3.IntegrityError)


async def test_a_batch_that_fails_is_told_of_and_who_waits_for_it_does_not_fail_with_it(
    database: Database, heard: Heard, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database.write_soon(put(1), heard.committed, heard.failed)
    await database.caught_up()
    await asyncio.wait_for(heard.told.wait(), 60)
    (error,) = heard.errors
    assert isinstance(error, PilotageError)
    assert error.reason is Reason.STORE_UNAVAILABLE
    other.execute("ROLLBACK")
    other.close()
    assert await database.read(numbers) == []
    database.write_soon(put(1), heard.committed, heard.failed)
    await database.caught_up()
    assert await database.read(numbers) == [1]


async def test_closing_writes_them(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotage_server.store.database.SOON_SECONDS", 3600)
    opened = Database.open(tmp_path / "other.sqlite", Kind.JOBS)
    await opened.write(lambda c: c.execute("CREATE TABLE thing (place INTEGER PRIMARY KEY, number INTEGER)"))
    opened.write_soon(put(1), heard.committed, heard.failed)
    await opened.close()
    assert heard.written == 1
    with pytest.raises(PilotageError) as caught:
        opened.write_soon(put(2), heard.committed, heard.failed)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    connection = sqlite3.connect(tmp_path / "other.sqlite")
    assert numbers(connection) == [1]
    connection.close()
