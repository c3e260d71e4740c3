"""The audit chain by itself: it grows at its end, and whatever is done to it afterwards is found, and where."""

import contextlib
import datetime
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server.credentials import proving
from pilotage_server.credentials.abuse import AbuseLimits
from pilotage_server.credentials.anchor import AnchorFile
from pilotage_server.credentials.ledger import Ledger, Note
from pilotage_server.store import audit, credentials
from pilotage_server.store.audit import Act, Entry, Filter, Head
from pilotage_server.store.credentials import Issuance, StoredCredential
from pilotage_server.store.database import Database
from pilotage_server.store.migrate import Kind
from pilotage_server.tokens import TokenKeys
from support.desks import ALICE, START

ROWS = 9
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
REST = audit.CONTENT.removeprefix("seq, ") + ", digest"
COLUMNS = [*audit.CONTENT.split(", "), "digest"]


def clock() -> datetime.datetime:
    return START


@pytest_asyncio.fixture
async def path(tmp_path: Path) -> Path:
    """A chain of a stored credential, proxies and refusals, and a policy; closed."""
    path = tmp_path / "credentials.sqlite"
    database = Database.open(path, Kind.CREDENTIALS)
    ledger = Ledger(database, AnchorFile(tmp_path / "anchor"), TokenKeys(KEY), AbuseLimits(), clock)
    await ledger.begin("policy", {"service": "id"})
    await ledger.write(store_credential)
    for number in range(ROWS - 3):
        await ledger.write(spend(number) if number % 2 else refuse_one(number))
    await ledger.anchor()
    await database.close()
    return path


def store_credential(connection: sqlite3.Connection, note: Note) -> None:
    later = START + datetime.timedelta(days=1)
    stored = StoredCredential("c", ALICE.dn, "", "demo", (), 1, False, (b"chain",), START, later)
    credentials.add(connection, stored, b"sealed")
    note(Entry(act=Act.STORED, actor_dn=ALICE.dn, owner_dn=ALICE.dn, credential_id="c"))


def spend(number: int) -> Callable[[sqlite3.Connection, Note], None]:
    issuance = Issuance(
        f"i{number}", "c", f"jti{number}", "job", "lease", 1, "/CN=pilot", str(number), START, START, "ipv4:1.2.3.4:5"
    )
    names = {"credential_id": "c", "job_id": "job", "lease_id": "lease"}

    def op(connection: sqlite3.Connection, note: Note) -> None:
        credentials.issue(connection, issuance)
        note(Entry(act=Act.ISSUED, actor_dn="/CN=pilot", facts={"jti": issuance.jti}, **names))

    return op


def refuse_one(number: int) -> Callable[[sqlite3.Connection, Note], None]:
    entry = Entry(act=Act.RETRIEVAL_REFUSED, actor_dn="/CN=pilot", reason="TOKEN_USED", facts={"n": str(number)})
    return lambda _, note: note(entry)


@contextlib.contextmanager
def tampering(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy as somebody who may write the file, and its schema."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for name in ("audit_stays", "audit_keeps", "audit_grows"):
            connection.execute(f"DROP TRIGGER {name}")
        yield connection


def broken(path: Path, known: tuple[Head, ...] = ()) -> str:
    """Prove a chain that is not whole; return what is said."""
    with pytest.raises(PilotageError) as caught:
        proving.prove(path, known)
    assert caught.value.reason is Reason.AUDIT_BROKEN
    return caught.value.message


def anchor(path: Path) -> Head:
    found = AnchorFile(path.with_name("anchor")).read([KEY.public_key()])
    assert found is not None
    return found


@pytest.mark.asyncio
async def test_a_whole_chain_is_proven_with_its_anchor(path: Path) -> None:
    proof = proving.prove(path, [anchor(path)])
    assert (proof.head.seq, proof.known) == (ROWS, 1)
    assert proof.head == anchor(path)


@pytest.mark.asyncio
@pytest.mark.parametrize("seq", [1, 4, ROWS])
@pytest.mark.parametrize("column", COLUMNS)
async def test_any_changed_field_of_any_row_is_found_and_named(path: Path, column: str, seq: int) -> None:
    with tampering(path) as connection:
        (old,) = connection.execute(f"SELECT {column} FROM audit WHERE seq = ?", (seq,)).fetchone()
        changed = old + 1000 if isinstance(old, int) else old + b"x" if isinstance(old, bytes) else old + "x"
        connection.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (changed, seq))
    # A row that took another number is missed where it was.
    assert f"broken at row {seq}:" in broken(path)


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [b"alice", 5, 5.0, b"\xff"])
async def test_a_field_of_another_type_is_found(path: Path, value: object) -> None:
    with tampering(path) as connection:
        connection.execute("UPDATE audit SET actor_dn = ? WHERE seq = 3", (value,))
    assert "broken at row 3: it was changed" in broken(path)


@pytest.mark.asyncio
async def test_text_that_is_none_is_found(path: Path) -> None:
    with tampering(path) as connection:
        connection.execute("UPDATE audit SET actor_dn = CAST(X'ff' AS TEXT) WHERE seq = 3")
    assert "broken at row 3: it cannot be read" in broken(path)


@pytest.mark.asyncio
async def test_a_row_taken_out_of_the_middle_is_found(path: Path) -> None:
    with tampering(path) as connection:
        connection.execute("DELETE FROM audit WHERE seq = 5")
    assert "row 5: it is missing; row 6 follows row 4" in broken(path)


@pytest.mark.asyncio
async def test_rows_that_changed_places_are_found(path: Path) -> None:
    with tampering(path) as connection:
        for old, new in ((4, 100), (5, 4), (100, 5)):
            connection.execute("UPDATE audit SET seq = ? WHERE seq = ?", (new, old))
    assert "broken at row 4" in broken(path)


@pytest.mark.asyncio
@pytest.mark.parametrize("kept", [0, 1, ROWS - 1])
async def test_a_tail_cut_off_is_found_by_the_anchor(path: Path, kept: int) -> None:
    known = anchor(path)
    with tampering(path) as connection:
        connection.execute("DELETE FROM issuances")
        connection.execute("DELETE FROM audit WHERE seq > ?", (kept,))
    assert f"row {kept + 1}: it is missing, and all after it" in broken(path, (known,))


@pytest.mark.asyncio
async def test_a_chain_computed_anew_is_found_by_the_anchor(path: Path) -> None:
    known = anchor(path)
    with tampering(path) as connection:
        rows = [row for row, _ in audit.raw_rows(connection)]
        connection.execute("DELETE FROM audit")
        previous = audit.START
        for row in rows:
            content = (*row[:3], "/CN=somebody else" if row[0] == 4 else row[3], *row[4:-1], previous)
            previous = audit.digest_of(content)
            connection.execute(audit.APPEND, (*content, previous))
    proving.prove(path, [])
    assert f"row {ROWS}: the anchor or the log knows another row" in broken(path, (known,))


@pytest.mark.asyncio
async def test_a_proxy_without_a_row_and_a_row_without_a_proxy_are_found(path: Path) -> None:
    copy = path.with_name("copy.sqlite")
    shutil.copy(path, copy)
    with contextlib.closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE issuances SET jti = 'another' WHERE jti = 'jti3'")
    assert "the proxy it tells of is not among the issuances" in broken(copy)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO issuances SELECT 'more', credential_id, 'jti99', job_id, lease_id, attempt,"
            " pilot_dn, serial, issue_time, expire_time, peer, max_seconds, limited, path_length FROM issuances LIMIT 1"
        )
    assert "no row for the issuance more" in broken(path)


@pytest.mark.asyncio
async def test_rows_of_the_gateway_that_name_no_token_are_known_by_the_serial(path: Path) -> None:
    """As they were once written; a key that was given out has the same serial each time."""
    database = Database.open(path, Kind.CREDENTIALS)
    ledger = Ledger(database, AnchorFile(path.with_name("anchor")), TokenKeys(KEY), AbuseLimits(), clock)
    for number, act, serial in ((1, Act.ISSUED, "77"), (2, Act.KEY_RETRIEVED, "5"), (3, Act.KEY_RETRIEVED, "5")):
        issuance = Issuance(f"g{number}", "c", f"myproxy-{number}", "", "", 0, "/CN=x", serial, START, START, "::1")
        entry = Entry(act=act, credential_id="c", facts={"through": "myproxy", "serial": serial})

        def op(connection: sqlite3.Connection, note: Note, row: Issuance = issuance, told: Entry = entry) -> None:
            credentials.issue(connection, row)
            note(told)

        await ledger.write(op)
    await database.close()
    assert proving.prove(path, []).head.seq == ROWS + 3
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE issuances SET serial = '78' WHERE serial = '77'")
    assert f"row {ROWS + 1}: the proxy it tells of is not among the issuances" in broken(path)


@pytest.mark.asyncio
async def test_an_honest_program_cannot_change_a_row(path: Path) -> None:
    statements = (
        "UPDATE audit SET actor_dn = 'x' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 2",
        "REPLACE INTO audit SELECT * FROM audit WHERE seq = 9",
        f"INSERT INTO audit SELECT seq + 9, {REST} FROM audit WHERE seq = 2",
        f"INSERT INTO audit SELECT seq + 1, {REST} FROM audit WHERE seq = 9",
    )
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            with pytest.raises(sqlite3.IntegrityError, match="audit"):
                connection.execute(statement)
    proving.prove(path, [anchor(path)])


@pytest.mark.asyncio
async def test_an_act_that_fails_leaves_neither_itself_nor_a_row(path: Path) -> None:
    database = Database.open(path, Kind.CREDENTIALS)
    ledger = Ledger(database, AnchorFile(path.with_name("anchor")), TokenKeys(KEY), AbuseLimits(), clock)
    with pytest.raises(PilotageError, match="TOKEN_USED"):
        await ledger.write(spend(1))

    def note_first(connection: sqlite3.Connection, note: Note) -> None:
        note(Entry(act=Act.ISSUED))
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        await ledger.write(note_first)
    assert (await database.read(audit.head)).seq == ROWS
    await ledger.write(spend(99))
    await database.close()
    assert proving.prove(path, []).head.seq == ROWS + 1


@pytest.mark.asyncio
async def test_pages_run_from_the_newest_and_filters_hold(path: Path) -> None:
    database = Database.open(path, Kind.CREDENTIALS)
    ledger = Ledger(database, AnchorFile(path.with_name("anchor")), TokenKeys(KEY), AbuseLimits(), clock)
    first = await ledger.page(Filter(), 2**62, 3)
    assert [row.head.seq for row in first] == [9, 8, 7]
    assert [row.head.seq for row in await ledger.page(Filter(), 7, 100)] == [6, 5, 4, 3, 2, 1]
    assert {row.entry.act for row in await ledger.page(Filter(act="proxy issued"), 2**62, 100)} == {Act.ISSUED}
    assert [row.head.seq for row in await ledger.page(Filter(actor_dn=ALICE.dn), 2**62, 100)] == [3]
    assert [row.entry.act for row in await ledger.page(Filter(job_id="job", credential_id="c"), 2**62, 1)] == [
        Act.ISSUED
    ]
    await database.close()


@pytest.mark.asyncio
async def test_a_server_does_not_begin_on_a_chain_its_anchor_does_not_know(path: Path) -> None:
    anchors = AnchorFile(path.with_name("anchor"))
    with tampering(path) as connection:
        connection.execute("DELETE FROM audit WHERE seq = ?", (ROWS,))
    database = Database.open(path, Kind.CREDENTIALS)
    with pytest.raises(PilotageError, match="AUDIT_BROKEN"):
        await Ledger(database, anchors, TokenKeys(KEY), AbuseLimits(), clock).begin("policy", {"service": "id"})
    anchors.path.unlink()
    await Ledger(database, anchors, TokenKeys(KEY), AbuseLimits(), clock).begin("policy", {"service": "id"})
    (row,) = await Ledger(database, anchors, TokenKeys(KEY), AbuseLimits(), clock).page(Filter(), 2**62, 1)
    assert row.entry.act is Act.UNANCHORED
    await database.close()


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"seq": 1, "digest": "zz", "time": "", "signature": ""}'])
def test_an_anchor_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "anchor").write_text(text)
    with pytest.raises(PilotageError, match="AUDIT_BROKEN"):
        AnchorFile(tmp_path / "anchor").read([KEY.public_key()])


def test_an_anchor_of_another_key_or_with_another_number_is_refused(tmp_path: Path) -> None:
    anchors = AnchorFile(tmp_path / "anchor")
    assert anchors.read([KEY.public_key()]) is None
    anchors.write(Head(7, b"d" * 32), KEY, START)
    assert anchors.path.stat().st_mode & 0o777 == 0o600
    assert anchors.read([KEY.public_key()]) == Head(7, b"d" * 32)
    with pytest.raises(PilotageError, match="not signed by this service"):
        anchors.read([Ed25519PrivateKey.generate().public_key()])
    anchors.path.write_text(anchors.path.read_text().replace('"seq":7', '"seq":6'))
    with pytest.raises(PilotageError, match="not signed by this service"):
        anchors.read([KEY.public_key()])


def test_a_log_tells_the_rows_it_names_and_nothing_else(tmp_path: Path) -> None:
    lines = (
        b'{"event": "proxy issued", "logger": "pilotage.audit", "seq": 3, "digest": "0303"}',
        b'{"event": "proxy issued", "logger": "another", "seq": 4, "digest": "0404"}',
        b'{"event": "session opened", "logger": "pilotage.audit"}',
        b"not JSON",
        b'{"event": "proxy issued", "logger": "pilotage.audit", "seq": 5, "dig',
    )
    (tmp_path / "log").write_bytes(b"\n".join(lines))
    with (tmp_path / "log").open("rb") as file:
        assert list(proving.logged(file)) == [Head(3, b"\3\3")]
