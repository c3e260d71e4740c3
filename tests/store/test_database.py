"""The store pump: what is answered is durable, what fails fails alone, and one process holds the file."""

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from alembic import command
from sqlalchemy import MetaData

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server.jobs.job_class import class_id
from pilotage_server.store import credentials, migrate, queue, schema_credentials, schema_jobs
from pilotage_server.store.credentials import Place
from pilotage_server.store.database import Database
from pilotage_server.store.migrate import Kind
from pilotage_server.workload import Requirements

pytestmark = pytest.mark.asyncio


def make_table(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS thing (number INTEGER PRIMARY KEY, body BLOB)")


def put(number: int, body: bytes = b"") -> Callable[[sqlite3.Connection], int]:
    def op(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO thing VALUES (?, ?)", (number, body))
        return number

    return op


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT number FROM thing ORDER BY number")]


def child_says(code: str, name: str) -> str:
    """Run code in a process of its own and return what it prints."""
    command = [sys.executable, "-c", code, name]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(tmp_path / "jobs.sqlite", Kind.JOBS, busy_seconds=0.2)
    await opened.write(make_table)
    yield opened
    await opened.close()


async def test_what_arrives_together_shares_a_commit(database: Database) -> None:
    commits: list[str] = []
    database._writer.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    assert await asyncio.gather(*(database.write(put(number)) for number in range(100))) == list(range(100))
    assert len(commits) == 1
    assert await database.read(numbers) == list(range(100))


async def test_a_failing_operation_fails_alone_and_leaves_nothing(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        put(50)(connection)
        put(1)(connection)

    results = await asyncio.gather(
        database.write(put(1)), database.write(half), database.write(put(2)), return_exceptions=True
    )
    assert results[0] == 1
    assert isinstance(results[1], sqlite3.IntegrityError)
    assert results[2] == 2
    assert await database.read(numbers) == [1, 2]


async def test_a_read_sees_only_what_is_committed(database: Database) -> None:
    seen: list[list[int]] = []

    async def look() -> None:
        seen.append(await database.read(numbers))

    writing = asyncio.ensure_future(database.write(put(1)))
    await look()
    await writing
    await look()
    assert seen == [[], [1]]
    assert await database.read(numbers, slow=True) == [1]


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(PilotageError) as refused:
        await database.read(put(1))
    assert refused.value.reason is Reason.STORE_UNAVAILABLE
    assert await database.read(numbers) == []


async def test_a_callback_is_told_even_when_its_caller_has_gone(database: Database) -> None:
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    ran = asyncio.Event()

    def op(connection: sqlite3.Connection) -> int:
        ran.set()
        return put(7)(connection)

    caller = asyncio.ensure_future(database.write(op, committed=told.set_result))
    await ran.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await told == 7
    assert await database.read(numbers) == [7]


async def test_a_caller_that_goes_before_its_turn_has_done_nothing(database: Database) -> None:
    caller = asyncio.ensure_future(database.write(put(7)))
    await asyncio.sleep(0)
    caller.cancel()
    await database.write(put(8))
    assert await database.read(numbers) == [8]


async def test_a_full_disk_fails_the_whole_batch_and_the_store_lives_on(database: Database) -> None:
    pages = await database.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())
    results = await asyncio.gather(
        database.write(put(1)),
        database.write(put(2, bytes(100_000))),
        database.write(put(3)),
        return_exceptions=True,
    )
    # The big one may fail alone or, when SQLite undoes the transaction, with its neighbours; never by halves.
    kept = await database.read(numbers)
    for number, result in zip((1, 2, 3), results, strict=True):
        if isinstance(result, PilotageError):
            assert result.reason is Reason.DISK_FULL
            assert number not in kept
        else:
            assert number in kept
    assert isinstance(results[1], PilotageError)
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
    assert await database.write(put(4, bytes(100_000))) == 4


async def test_an_operation_that_ends_its_savepoint_fails_its_batch_and_the_store_lives_on(database: Database) -> None:
    def meddle(connection: sqlite3.Connection) -> None:
        put(2)(connection)
        connection.execute("RELEASE op")

    results = await asyncio.gather(
        database.write(put(1)), database.write(meddle), database.write(put(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [sqlite3.OperationalError] * 3
    assert await database.read(numbers) == []
    assert await database.write(put(4)) == 4


async def test_what_comes_while_a_commit_runs_shares_the_next_one(database: Database) -> None:
    commits: list[str] = []
    database._writer.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    later: list[asyncio.Future[int]] = []

    def op(connection: sqlite3.Connection) -> int:
        later.extend(asyncio.ensure_future(database.write(put(number))) for number in range(1, 50))
        return put(0)(connection)

    assert await database.write(op) == 0
    assert await asyncio.gather(*later) == list(range(1, 50))
    assert len(commits) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.root
async def test_a_really_full_disk_says_so_and_loses_nothing_that_was_answered(small_disk: Path) -> None:
    database = Database.open(small_disk / "jobs.sqlite", Kind.CREDENTIALS)
    await database.write(make_table)
    answered: list[int] = []

    async def fill() -> None:
        for number in range(100):
            answered.append(await database.write(put(number, bytes(50_000))))

    with pytest.raises(PilotageError) as refused:
        await fill()
    assert refused.value.reason is Reason.DISK_FULL
    assert await database.read(numbers) == answered
    await database.close()
    assert shutil.disk_usage(small_disk).total <= 1024 * 1024


async def test_somebody_elses_lock_is_waited_for_off_the_loop_and_then_refused(
    database: Database, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    turns = 0
    waiting = asyncio.ensure_future(database.write(put(1)))
    while not waiting.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 10
    with pytest.raises(PilotageError) as refused:
        await waiting
    assert refused.value.reason is Reason.STORE_UNAVAILABLE
    other.execute("ROLLBACK")
    other.close()
    assert await database.write(put(1)) == 1


async def test_closing_finishes_what_has_arrived_and_refuses_what_comes_later(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "jobs.sqlite", Kind.JOBS)
    await database.write(make_table)
    pending = [asyncio.ensure_future(database.write(put(number))) for number in range(500)]
    await asyncio.sleep(0)
    await database.close()
    assert [task.result() for task in pending] == list(range(500))
    with pytest.raises(PilotageError) as refused:
        await database.write(put(1000))
    assert refused.value.reason is Reason.STORE_UNAVAILABLE
    again = Database.open(tmp_path / "jobs.sqlite", Kind.JOBS)
    assert len(await again.read(numbers)) == 500
    await again.close()


async def test_a_second_process_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(PilotageError, match="Another process"):
        Database.open(tmp_path / "jobs.sqlite", Kind.JOBS)
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from pilotage.errors import PilotageError
        from pilotage_server.store.database import Database
        try:
            Database.open(Path(sys.argv[1]), "jobs")
        except PilotageError as error:
            print(error.reason.name)
    """)
    name = str(tmp_path / "jobs.sqlite")
    assert child_says(code, name).strip() == "STORE_UNAVAILABLE"


CHILD = """
import asyncio, sys
from pathlib import Path
from pilotage_server.store.database import Database

async def one(database, number):
    def op(connection):
        connection.execute("INSERT INTO thing VALUES (?, ?)", (number, b"a" * 100))
        connection.execute("INSERT INTO thing VALUES (?, ?)", (-number, b"b" * 100))
    await database.write(op)
    print(number, flush=True)

async def main():
    database = Database.open(Path(sys.argv[1]), "jobs")
    await database.write(lambda c: c.execute("CREATE TABLE thing (number INTEGER PRIMARY KEY, body BLOB)"))
    for start in range(1, 1_000_000, 50):
        await asyncio.gather(*(one(database, number) for number in range(start, start + 50)))

asyncio.run(main())
"""


def killed_while_writing(name: Path) -> list[int]:
    """Let a process write until it has answered 300 times, kill it, and return all it answered."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(name)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    answered = [int(child.stdout.readline()) for _ in range(300)]
    child.send_signal(signal.SIGKILL)
    answered += [int(line) for line in child.stdout.read().splitlines() if line]
    child.wait()
    return answered


async def test_a_killed_process_keeps_all_that_it_answered_and_nothing_by_halves(tmp_path: Path) -> None:
    name = tmp_path / "jobs.sqlite"
    answered = killed_while_writing(name)
    database = Database.open(name, Kind.JOBS)
    kept = set(await database.read(numbers))
    await database.close()
    assert set(answered) <= kept
    assert all(-number in kept for number in kept)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"certainly not a database" * 100)
    with pytest.raises(PilotageError) as refused:
        Database.open(tmp_path / "jobs.sqlite", Kind.JOBS)
    assert refused.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_newer_releases_database_is_refused_and_the_lock_let_go(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "jobs.sqlite", Kind.JOBS)
    await database.write(lambda c: c.execute("UPDATE alembic_version SET version_num = 'jobs_9999'") and None)
    await database.close()
    for _ in range(2):
        with pytest.raises(PilotageError, match="newer release"):
            Database.open(tmp_path / "jobs.sqlite", Kind.JOBS)


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode for path in folder.iterdir()}


async def test_the_files_are_the_servers_alone(database: Database, tmp_path: Path) -> None:
    await database.write(put(1))
    modes = modes_in(tmp_path)
    assert modes.keys() >= {"jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite.lock"}
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes


async def test_commits_are_synced_and_foreign_keys_hold(database: Database) -> None:
    def pragmas(connection: sqlite3.Connection) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert await database.write(pragmas) == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize(
    ("kind", "metadata"), [(Kind.JOBS, schema_jobs.metadata), (Kind.CREDENTIALS, schema_credentials.metadata)]
)
async def test_the_revisions_make_exactly_the_schema(tmp_path: Path, kind: Kind, metadata: MetaData) -> None:
    """Compare the SQL of every table and index, checks included; Alembic's own comparison skips checks."""
    migrate.upgrade(tmp_path / "migrated.sqlite", kind)
    with migrate.engine(tmp_path / "made.sqlite").begin() as connection:
        metadata.create_all(connection)
    assert statements(tmp_path / "migrated.sqlite") == statements(tmp_path / "made.sqlite")


def statements(name: Path) -> dict[str, set[str]]:
    """Return for each table and index its parts, whatever their order and white space."""
    with contextlib.closing(sqlite3.connect(name)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND sql NOT NULL")
        return {name: {part.strip(" \t,") for part in sql.splitlines() if part.strip()} for name, sql in rows}


async def test_file_size_limits_are_full_disks(tmp_path: Path) -> None:
    """Run in a child, since a limit on file sizes holds for the whole process."""
    code = textwrap.dedent("""
        import asyncio, resource, sys
        from pathlib import Path
        from pilotage.errors import PilotageError
        from pilotage_server.store.database import Database

        async def main():
            database = Database.open(Path(sys.argv[1]), "jobs")
            await database.write(lambda c: c.execute("CREATE TABLE thing (body BLOB)"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
            try:
                for _ in range(100):
                    await database.write(lambda c: c.execute("INSERT INTO thing VALUES (?)", (bytes(50_000),)))
                    print("stored")
            except PilotageError as error:
                print(error.reason.name)
            print(await database.read(lambda c: c.execute("SELECT COUNT(*) FROM thing").fetchone()[0]))
        asyncio.run(main())
    """)
    name = str(tmp_path / "jobs.sqlite")
    *stored, reason, count = child_says(code, name).split()
    assert reason in ("DISK_FULL", "STORE_UNAVAILABLE")
    assert int(count) == len(stored) > 0


async def test_an_older_jobs_database_keeps_its_leases_and_events(tmp_path: Path) -> None:
    """From the first revision to the newest: what a server left is still there, and leases know their credential."""
    name = tmp_path / "jobs.sqlite"
    made = migrate.engine(name)
    with made.begin() as connection:
        config = migrate.configuration(Kind.JOBS)
        config.attributes["connection"] = connection
        command.upgrade(config, "jobs_0001")
        for statement in (
            "INSERT INTO owner (owner_id, dn, open_jobs) VALUES (1, '/CN=a', 1)",
            "INSERT INTO job_class (class_id, requirements) VALUES (1, x'')",
            "INSERT INTO job (job_seq, job_id, owner_id, class_id, state, max_attempts, lease_id, rank, credential_id,"
            " credential_expire_us, vo, fqan, reason, message, create_us)"
            " VALUES (1, 'j', 1, 1, 7, 3, 'l', 0, 'c', 0, '', '', '', '', 0)",
            "INSERT INTO pilot (pilot_id, dn, thumbprint, request_id, offer, register_us, seen_us)"
            " VALUES ('p', '/CN=p', x'', 'r', x'', 0, 0)",
            "INSERT INTO pilot (pilot_id, dn, thumbprint, request_id, offer, register_us, seen_us, end_us)"
            " VALUES ('q', '/CN=p', x'', 's', x'', 0, 0, 1)",
            "INSERT INTO lease (lease_id, job_seq, attempt, pilot_id, charged, start_us, expire_us, account)"
            " VALUES ('l', 1, 1, 'p', 0, 0, 0, '')",
            "INSERT INTO event (job_seq, time_us, from_state, to_state, attempt, actor, reason, message)"
            " VALUES (1, 5, 0, 2, 0, 'owner', '', ''), (1, 6, 2, 3, 0, 'owner', '', '')",
        ):
            connection.exec_driver_sql(statement)
    made.dispose()
    migrate.upgrade(name, Kind.JOBS)
    with contextlib.closing(sqlite3.connect(name)) as connection:
        moves = connection.execute("SELECT time_us, to_state FROM event ORDER BY event_seq").fetchall()
        assert moves == [(5, 2), (6, 3)]
        query = "SELECT lease_id, credential_id, issued, stop_reason FROM lease_credential"
        assert connection.execute(query).fetchall() == [("l", "c", 0, "")]
        # The pilot that has not said good-bye is there, and counted; the other one is not.
        assert connection.execute("SELECT pilot_id FROM live_pilot").fetchall() == [("p",)]
        assert connection.execute("SELECT dn, thumbprint, live FROM pilot_count").fetchall() == [("/CN=p", b"", 1)]
        connection.execute("INSERT INTO event VALUES (3, 1, 7, 7, 7, 1, 'server', 'CREDENTIAL_EXPIRED', '')")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT INTO event VALUES (4, 1, 7, 7, 7, 1, 'server', '', '')")
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


REQUIREMENTS = b'{"site":"","cores":1,"memory_bytes":0,"disk_bytes":0,"wall_seconds":600,"tags":["a"]}'


async def test_an_older_jobs_databases_classes_learn_their_vo(tmp_path: Path) -> None:
    """A job that waited before the upgrade is in the class that an equal one submitted now would be in."""
    name = tmp_path / "jobs.sqlite"
    before = class_id(msgspec.json.decode(REQUIREMENTS, type=Requirements))
    made = migrate.engine(name)
    with made.begin() as connection:
        config = migrate.configuration(Kind.JOBS)
        config.attributes["connection"] = connection
        command.upgrade(config, "jobs_0002")
        connection.exec_driver_sql("INSERT INTO owner (owner_id, dn, open_jobs) VALUES (1, '/CN=a', 4)")
        connection.exec_driver_sql("INSERT INTO job_class VALUES (?, ?)", (before, REQUIREMENTS))
        connection.exec_driver_sql("INSERT INTO queue VALUES (?, 1, 4)", (before,))
        for number, (vo, state) in enumerate((("demo", 3), ("demo", 3), ("other", 3), ("", 3), ("demo", 4))):
            connection.exec_driver_sql(
                "INSERT INTO job (job_id, owner_id, class_id, state, max_attempts, rank, credential_id,"
                " credential_expire_us, vo, fqan, reason, message, create_us)"
                " VALUES (?, 1, ?, ?, 3, 0, 'c', 0, ?, '', '', '', 0)",
                (f"j{number}", before, state, vo),
            )
    made.dispose()
    database = Database.open(name, Kind.JOBS)
    waiting: dict[str, int] = {}
    for head in await database.read(queue.heads):
        needs = await database.read(lambda c, i=head.class_id: queue.get_class(c, i))  # type: ignore[misc]
        assert class_id(needs) == head.class_id
        assert needs == msgspec.structs.replace(msgspec.json.decode(REQUIREMENTS, type=Requirements), vos=needs.vos)
        (count,) = await database.read(
            lambda c, i=head.class_id: c.execute("SELECT queued FROM queue WHERE class_id = ?", (i,)).fetchone()  # type: ignore[misc]
        )
        waiting["".join(needs.vos)] = count
        # The same requirements come again, and are known.
        await database.write(lambda c, n=needs: queue.put_class(c, class_id(n), n))  # type: ignore[misc]
    assert waiting == {"demo": 2, "other": 1, "": 1}
    kinds = "SELECT vo, COUNT(DISTINCT class_id) FROM job GROUP BY vo ORDER BY vo"
    assert await database.read(lambda c: c.execute(kinds).fetchall()) == [("", 1), ("demo", 1), ("other", 1)]
    assert await database.read(lambda c: c.execute("PRAGMA foreign_key_check").fetchall()) == []
    await database.close()


async def test_an_older_credentials_database_keeps_its_issuances_and_bounds_no_renewal_by_them(tmp_path: Path) -> None:
    name = tmp_path / "credentials.sqlite"
    made = migrate.engine(name)
    with made.begin() as connection:
        config = migrate.configuration(Kind.CREDENTIALS)
        config.attributes["connection"] = connection
        command.upgrade(config, "c0006_myproxy")
        connection.exec_driver_sql(
            "INSERT INTO credentials (credential_id, owner_dn, name, vo, fqans, key_kind, limited, chain, create_time,"
            " expire_time) VALUES ('c', '/CN=a', '', 'demo', '[]', 1, 0, x'90', 0, 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO issuances VALUES ('i', 'c', 'jti', 'job', 'lease', 2, '/CN=p', '77', 5, 6, 'ipv4:1.2.3.4:5')"
        )
    made.dispose()
    database = Database.open(name, Kind.CREDENTIALS)
    (kept,) = await database.read(lambda c: credentials.issuances_of(c, "c", Place(), 10))
    assert (kept.jti, kept.attempt, kept.pilot_dn, kept.serial, kept.peer) == (
        "jti",
        2,
        "/CN=p",
        "77",
        "ipv4:1.2.3.4:5",
    )
    assert (kept.max_seconds, kept.limited, kept.path_length) == (None, False, None)
    assert await database.read(lambda c: credentials.narrowest(c, "lease")) is None
    assert await database.read(lambda c: credentials.is_used(c, "jti"))
    await database.close()
