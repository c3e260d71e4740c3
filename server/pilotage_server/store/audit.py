"""The audit chain: one row for each act on credentials, each bound to the row before it.

A row is appended in the transaction of the act that it records. Its digest covers everything in it and the digest of
its predecessor, so a row that is changed, moved, put in or taken out breaks the chain where that was done.
"""

import datetime
import enum
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from pilotage_server.store.times import from_microseconds, microseconds

PURPOSE = b"pilotage audit v1\0"
START = bytes(32)
"""What the first row names as its predecessor's digest."""


NO_FACTS: Mapping[str, str] = MappingProxyType({})


class Act(enum.StrEnum):
    """What was done or refused, in the words of the log."""

    STORED = "credential stored"
    DELEGATION_REFUSED = "delegation refused"
    ISSUED = "proxy issued"
    RETRIEVAL_REFUSED = "retrieval refused"
    RENEWED = "proxy renewed"
    RENEWAL_REFUSED = "renewal refused"
    DESTROYED = "credential destroyed"
    ACCESS_REFUSED = "access refused"
    REVOKED = "credential revoked"
    UNREVOKED = "credential no longer revoked"
    ERASED = "expired credential erased"
    POLICY = "policy set"
    LINK_ASKED = "link asked for"
    LINKED = "names linked"
    UNLINKED = "names unlinked"
    BANNED = "banned"
    UNBANNED = "ban lifted"
    CALL_REFUSED = "call refused"
    KEYS = "keys in use"
    KEY_RETRIEVED = "key retrieved"
    PASSPHRASE_CHANGED = "pass phrase changed"
    MYPROXY_REFUSED = "myproxy request refused"
    UNANCHORED = "audit begun without an anchor"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One act. `actor_dn` is empty for what the service does by itself; `actor_key` is a thumbprint in hex."""

    act: Act
    actor_dn: str = ""
    actor_key: str = ""
    peer: str = ""
    owner_dn: str = ""
    credential_id: str = ""
    job_id: str = ""
    lease_id: str = ""
    reason: str = ""
    facts: Mapping[str, str] = NO_FACTS


class Head(msgspec.Struct, frozen=True):
    """The end of the chain: how many rows there are, and the digest of the last."""

    seq: int = 0
    digest: bytes = START


class AuditRow(msgspec.Struct, frozen=True):
    """An entry in its place."""

    head: Head
    time: datetime.datetime
    entry: Entry


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted; what is empty admits all."""

    actor_dn: str = ""
    credential_id: str = ""
    job_id: str = ""
    act: str = ""


CONTENT = (
    "seq, time, act, actor_dn, actor_key, peer, owner_dn, credential_id, job_id, lease_id, reason, facts, previous"
)
HEAD = "SELECT seq, digest FROM audit ORDER BY seq DESC LIMIT 1"
APPEND = f"INSERT INTO audit ({CONTENT}, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
ALL = f"SELECT {CONTENT}, digest FROM audit ORDER BY seq"  # noqa: S608
PAGE = (
    f"SELECT {CONTENT}, digest FROM audit WHERE seq < :before"  # noqa: S608
    " AND (:actor_dn = '' OR actor_dn = :actor_dn) AND (:credential_id = '' OR credential_id = :credential_id)"
    " AND (:job_id = '' OR job_id = :job_id) AND (:act = '' OR act = :act) ORDER BY seq DESC LIMIT :most"
)
LAST_OF = f"SELECT {CONTENT}, digest FROM audit WHERE act = ? ORDER BY seq DESC LIMIT 1"  # noqa: S608


def head(connection: sqlite3.Connection) -> Head:
    """Return the end of the chain."""
    row = connection.execute(HEAD).fetchone()
    return Head() if row is None else Head(row[0], bytes(row[1]))


def append(connection: sqlite3.Connection, entry: Entry, now: datetime.datetime) -> AuditRow:
    """Add a row at the end."""
    last = head(connection)
    content = (
        last.seq + 1,
        microseconds(now),
        entry.act.value,
        entry.actor_dn,
        entry.actor_key,
        entry.peer,
        entry.owner_dn,
        entry.credential_id,
        entry.job_id,
        entry.lease_id,
        entry.reason,
        msgspec.json.encode(dict(entry.facts), order="sorted").decode(),
        last.digest,
    )
    made = Head(last.seq + 1, digest_of(content))
    connection.execute(APPEND, (*content, made.digest))
    return AuditRow(made, now, entry)


def digest_of(content: Sequence[object]) -> bytes:
    """Return the digest of a row: over MessagePack of all its columns but the digest, in order, the types included."""
    return hashlib.sha256(PURPOSE + msgspec.msgpack.encode(tuple(content))).digest()


def raw_rows(connection: sqlite3.Connection) -> Iterator[tuple[tuple[object, ...], object]]:
    """Yield every row as the file holds it, believing nothing: its content, and its digest."""
    for row in connection.execute(ALL):
        yield tuple(row[:-1]), row[-1]


def page(connection: sqlite3.Connection, wanted: Filter, before: int, most: int) -> list[AuditRow]:
    """Return rows from the newest before a number to the oldest."""
    values = msgspec.structs.asdict(wanted) | {"before": before, "most": most}
    return [_row(row) for row in connection.execute(PAGE, values)]


def last_of(connection: sqlite3.Connection, act: Act) -> AuditRow | None:
    """Return the newest row of an act."""
    row = connection.execute(LAST_OF, (act.value,)).fetchone()
    return None if row is None else _row(row)


def at(connection: sqlite3.Connection, seq: int) -> bytes | None:
    """Return the digest of a row, or None when there is no such row."""
    row = connection.execute("SELECT digest FROM audit WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else bytes(row[0])


def _row(row: sqlite3.Row) -> AuditRow:
    entry = Entry(
        act=Act(row[2]),
        actor_dn=row[3],
        actor_key=row[4],
        peer=row[5],
        owner_dn=row[6],
        credential_id=row[7],
        job_id=row[8],
        lease_id=row[9],
        reason=row[10],
        facts=msgspec.json.decode(row[11], type=dict[str, str]),
    )
    return AuditRow(Head(row[0], bytes(row[13])), from_microseconds(row[1]), entry)
