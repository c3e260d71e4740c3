"""Prove the audit chain from a database file and what is known of the chain elsewhere; believe neither."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server.store import audit
from pilotage_server.store.audit import START, Head

# The MyProxy gateway's rows once named no token, and are known by the certificate's serial number.
BY_SERIAL = "'serial ' || credential_id || ' ' || "
ISSUED = (
    f"(SELECT coalesce(json_extract(facts, '$.jti'), {BY_SERIAL} json_extract(facts, '$.serial')) AS name, seq,"  # noqa: S608
    " credential_id, lease_id FROM audit WHERE act IN (?1, ?2, ?3))"
)
ISSUANCES = (
    "(SELECT jti AS name, credential_id, lease_id FROM issuances UNION ALL"  # noqa: S608
    f" SELECT {BY_SERIAL} serial, credential_id, lease_id FROM issuances WHERE jti LIKE 'myproxy-%')"
)
UNRECORDED = (
    f"SELECT i.issuance_id FROM (SELECT *, {BY_SERIAL} serial AS old FROM issuances) i"  # noqa: S608
    f" LEFT JOIN {ISSUED} a ON a.name = i.jti LEFT JOIN {ISSUED} b ON b.name = i.old"
    " WHERE a.name IS NULL AND b.name IS NULL AND i.issue_time >= (SELECT time FROM audit WHERE seq = 1) LIMIT 1"
)
UNISSUED = (
    f"SELECT a.seq FROM {ISSUED} a LEFT JOIN {ISSUANCES} i USING (name)"  # noqa: S608
    " WHERE i.credential_id IS NOT a.credential_id OR i.lease_id IS NOT a.lease_id ORDER BY a.seq LIMIT 1"
)


class Proof(msgspec.Struct, frozen=True):
    """An unbroken chain: where it ends, and how many places of it were known from elsewhere."""

    head: Head
    known: int


class _Line(msgspec.Struct):
    """What a line of the audit log says of the chain; other lines have neither."""

    seq: int = 0
    digest: str = ""
    logger: str = ""


def prove(path: Path, known: Iterable[Head]) -> Proof:
    """Walk the whole chain; raise AUDIT_BROKEN naming the first row that is not what it should be.

    `known` are places of the chain told by somebody else, collected before the call: the anchor and log lines.
    """
    expected: dict[int, bytes] = {}
    for place in known:
        if expected.setdefault(place.seq, place.digest) != place.digest:
            raise _broken(place.seq, "the anchor and the logs name different rows there")
    with opened(path) as connection:
        head = _walk(connection, expected)
        _compare(connection)
    return Proof(head, len(expected))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading one state of it, whoever writes meanwhile."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        why = "cannot be opened" if path.exists() else "is not there; the first `pilotage-server run` makes it"
        raise refuse(Reason.STORE_UNAVAILABLE, f"The database {path} {why}.") from error
    try:
        connection.execute("BEGIN")
        yield connection
    except (sqlite3.Error, UnicodeError, ValueError) as error:
        raise refuse(Reason.AUDIT_BROKEN, f"The audit in {path} cannot be read ({type(error).__name__}).") from error
    finally:
        connection.close()


def _walk(connection: sqlite3.Connection, expected: Mapping[int, bytes]) -> Head:
    last = Head()
    rows = audit.raw_rows(connection)
    while True:
        try:
            content, digest = next(rows)
        except StopIteration:
            break
        except (sqlite3.Error, UnicodeError) as error:
            raise _broken(last.seq + 1, "it cannot be read") from error
        seq = content[0]
        if seq != last.seq + 1:
            raise _broken(last.seq + 1, f"it is missing; row {seq} follows row {last.seq}")
        if content[-1] != last.digest:
            raise _broken(seq, "it was not written after the row before it" if last.seq else "it is not the first")
        if digest != audit.digest_of(content):
            raise _broken(seq, "it was changed")
        last = Head(last.seq + 1, bytes(digest) if isinstance(digest, bytes) else START)
        if expected.get(last.seq, last.digest) != last.digest:
            raise _broken(seq, "the anchor or the log knows another row there")
    gone = [seq for seq in expected if seq > last.seq]
    if gone:
        raise _broken(last.seq + 1, f"it is missing, and all after it; the anchor or the log knows row {max(gone)}")
    return last


def _compare(connection: sqlite3.Connection) -> None:
    """Hold the issuances, by which tokens are spent, against the chain."""
    acts = (audit.Act.ISSUED.value, audit.Act.RENEWED.value, audit.Act.KEY_RETRIEVED.value)
    row = connection.execute(UNISSUED, acts).fetchone()
    if row is not None:
        raise _broken(row[0], "the proxy it tells of is not among the issuances")
    row = connection.execute(UNRECORDED, acts).fetchone()
    if row is not None:
        raise refuse(Reason.AUDIT_BROKEN, f"The audit has no row for the issuance {row[0]}.")


def logged(file: IO[bytes]) -> Iterator[Head]:
    """Yield the places of the chain that a log names; a line that is none of ours, or cut off, says nothing."""
    for line in file:
        try:
            said = msgspec.json.decode(line, type=_Line)
            if said.logger == "pilotage.audit" and said.seq > 0 and said.digest:
                yield Head(said.seq, bytes.fromhex(said.digest))
        except (msgspec.MsgspecError, ValueError):
            continue


def _broken(seq: object, why: str) -> PilotageError:
    return refuse(Reason.AUDIT_BROKEN, f"The audit is broken at row {seq}: {why}.")
