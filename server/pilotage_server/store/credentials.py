"""Statements on stored credentials and on the proxies made of them."""

import datetime
import sqlite3
from collections.abc import Sequence

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.store.times import from_microseconds, microseconds


class StoredCredential(msgspec.Struct, frozen=True):
    """A credential without its sealed key; `expire_time` is when it stops being of use."""

    credential_id: str
    owner_dn: str
    name: str
    vo: str
    fqans: tuple[str, ...]
    key_kind: int
    limited: bool
    chain: tuple[bytes, ...]
    create_time: datetime.datetime
    expire_time: datetime.datetime
    destroy_time: datetime.datetime | None = None
    revoke_time: datetime.datetime | None = None


class Issuance(msgspec.Struct, frozen=True):
    """One proxy made from a credential, the token that was honoured for it, and the policy that held."""

    issuance_id: str
    credential_id: str
    jti: str
    job_id: str
    lease_id: str
    attempt: int
    pilot_dn: str
    serial: str
    issue_time: datetime.datetime
    expire_time: datetime.datetime
    peer: str
    max_seconds: int | None = None
    limited: bool = False
    path_length: int | None = None


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of a list ended: lists run from the newest to the oldest."""

    microseconds: int = 2**62
    row_id: str = ""


COLUMNS = "credential_id, owner_dn, name, vo, fqans, key_kind, limited, chain, create_time, expire_time, destroy_time"
INSERT = f"INSERT INTO credentials ({COLUMNS}, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
SELECT = f"SELECT {COLUMNS}, revoke_time FROM credentials LEFT JOIN revocations USING (credential_id)"  # noqa: S608
BY_ID = f"{SELECT} WHERE credential_id = ?"
WITH_KEY = (
    f"SELECT {COLUMNS}, revoke_time, sealed FROM credentials LEFT JOIN revocations USING (credential_id)"  # noqa: S608
    " WHERE credential_id = ?"
)
LIVE = f"{SELECT} WHERE sealed IS NOT NULL AND expire_time > ? AND credential_id > ? ORDER BY credential_id LIMIT ?"
KEPT_AFTER_END = datetime.timedelta(hours=2)
"""For how long what has ended is not erased yet: by a clock that is an hour ahead it only seems to have."""
REVOKED = "INSERT INTO revocations (credential_id, revoke_time) VALUES (?, ?) ON CONFLICT DO NOTHING"
NOT_REVOKED = "DELETE FROM revocations WHERE credential_id = ?"
OF_OWNER = (
    f"{SELECT} WHERE owner_dn IN (SELECT value FROM json_each(?)) AND destroy_time IS NULL"  # noqa: S608
    " AND (create_time, credential_id) < (?, ?) ORDER BY create_time DESC, credential_id DESC LIMIT ?"
)
SEALED = "SELECT sealed FROM credentials WHERE credential_id = ?"
RESEAL = "UPDATE credentials SET sealed = ? WHERE credential_id = ? AND sealed = ?"
SEALED_WITH = "SELECT substr(sealed, 2, 8), count(*) FROM credentials WHERE sealed IS NOT NULL GROUP BY 1"
DESTROY = "UPDATE credentials SET sealed = NULL, destroy_time = ? WHERE credential_id = ? AND destroy_time IS NULL"
ERASE = (
    "UPDATE credentials SET sealed = NULL WHERE sealed IS NOT NULL AND expire_time < ?"
    " RETURNING credential_id, owner_dn"
)
SCRUB = "PRAGMA secure_delete = ON"
ISSUANCE_COLUMNS = (
    "issuance_id, credential_id, jti, job_id, lease_id, attempt, pilot_dn, serial, issue_time, expire_time, peer,"
    " max_seconds, limited, path_length"
)
ISSUE = (
    f"INSERT INTO issuances ({ISSUANCE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
    " ON CONFLICT (jti) DO NOTHING"
)
# Each proxy of a lease is held to the policy of the one before it, so the last is under the narrowest.
NARROWEST = "SELECT max_seconds, limited, path_length FROM issuances WHERE lease_id = ? ORDER BY rowid DESC LIMIT 1"
USED = "SELECT 1 FROM issuances WHERE jti = ?"
ISSUANCES_OF = (
    f"SELECT {ISSUANCE_COLUMNS} FROM issuances WHERE credential_id = ?"  # noqa: S608
    " AND (issue_time, issuance_id) < (?, ?) ORDER BY issue_time DESC, issuance_id DESC LIMIT ?"
)
NEWEST = f"SELECT {ISSUANCE_COLUMNS} FROM issuances ORDER BY rowid DESC LIMIT ?"  # noqa: S608


def add(connection: sqlite3.Connection, stored: StoredCredential, sealed: bytes) -> None:
    """Store a new credential."""
    connection.execute(
        INSERT,
        (
            stored.credential_id,
            stored.owner_dn,
            stored.name,
            stored.vo,
            msgspec.json.encode(stored.fqans).decode(),
            stored.key_kind,
            stored.limited,
            msgspec.msgpack.encode(stored.chain),
            microseconds(stored.create_time),
            microseconds(stored.expire_time),
            None,
            sealed,
        ),
    )


def get(connection: sqlite3.Connection, credential_id: str) -> StoredCredential:
    """Return a credential, destroyed or not."""
    row = connection.execute(BY_ID, (credential_id,)).fetchone()
    if row is None:
        raise refuse(Reason.CREDENTIAL_NOT_FOUND)
    return _credential(row)


def find_with_key(connection: sqlite3.Connection, credential_id: str) -> tuple[StoredCredential, bytes | None] | None:
    """Return a credential, destroyed or not, and its sealed key if it still has one; None when there is none."""
    row = connection.execute(WITH_KEY, (credential_id,)).fetchone()
    return None if row is None else (_credential(row), None if row[12] is None else bytes(row[12]))


def of_owner(
    connection: sqlite3.Connection, owner_dns: Sequence[str], after: Place, limit: int
) -> list[StoredCredential]:
    """Return the credentials of an owner, who may have several DNs, that were not destroyed, newest first."""
    names = msgspec.json.encode(owner_dns).decode()
    rows = connection.execute(OF_OWNER, (names, after.microseconds, after.row_id, limit))
    return [_credential(row) for row in rows]


def live_after(
    connection: sqlite3.Connection, now: datetime.datetime, after: str, limit: int
) -> list[StoredCredential]:
    """Return credentials that could still be issued from, in the order of their ids, from one on."""
    return [_credential(row) for row in connection.execute(LIVE, (microseconds(now), after, limit))]


def set_revoked(connection: sqlite3.Connection, credential_id: str, now: datetime.datetime, *, revoked: bool) -> None:
    """Note that a credential was found revoked, or that its authority took that back."""
    if revoked:
        connection.execute(REVOKED, (credential_id, microseconds(now)))
    else:
        connection.execute(NOT_REVOKED, (credential_id,))


def sealed_key(connection: sqlite3.Connection, credential_id: str) -> bytes:
    """Return the sealed key of a credential that still has one."""
    row = connection.execute(SEALED, (credential_id,)).fetchone()
    if row is None:
        raise refuse(Reason.CREDENTIAL_NOT_FOUND)
    if row[0] is None:
        raise refuse(Reason.CREDENTIAL_DESTROYED)
    return bytes(row[0])


def reseal(connection: sqlite3.Connection, credential_id: str, before: bytes, after: bytes) -> None:
    """Put another sealed form of the same key in the place of the one read; one that changed meanwhile stays."""
    connection.execute(SCRUB)
    connection.execute(RESEAL, (after, credential_id, before))


def sealed_with(connection: sqlite3.Connection) -> dict[bytes, int]:
    """Return how many credentials are sealed with which service key, by the key's id in the sealed form."""
    return {bytes(row[0]): int(row[1]) for row in connection.execute(SEALED_WITH)}


def destroy(connection: sqlite3.Connection, credential_id: str, now: datetime.datetime) -> bool:
    """Erase the sealed key, overwriting the bytes in the file; tell whether this call did it."""
    connection.execute(SCRUB)
    return connection.execute(DESTROY, (microseconds(now), credential_id)).rowcount == 1


def erase_expired(connection: sqlite3.Connection, now: datetime.datetime) -> list[tuple[str, str]]:
    """Erase the sealed keys of credentials that ended two hours ago; return which, each with its owner."""
    connection.execute(SCRUB)
    return [(row[0], row[1]) for row in connection.execute(ERASE, (microseconds(now - KEPT_AFTER_END),))]


def is_used(connection: sqlite3.Connection, jti: str) -> bool:
    """Tell whether a token was honoured before."""
    return connection.execute(USED, (jti,)).fetchone() is not None


def issue(connection: sqlite3.Connection, issuance: Issuance) -> None:
    """Spend a token and record the proxy made for it: one row, so one cannot be without the other.

    Raises TOKEN_USED when the token was honoured before, CREDENTIAL_DESTROYED when the owner was faster.
    """
    sealed_key(connection, issuance.credential_id)
    values = (
        issuance.issuance_id,
        issuance.credential_id,
        issuance.jti,
        issuance.job_id,
        issuance.lease_id,
        issuance.attempt,
        issuance.pilot_dn,
        issuance.serial,
        microseconds(issuance.issue_time),
        microseconds(issuance.expire_time),
        issuance.peer,
        issuance.max_seconds,
        issuance.limited,
        issuance.path_length,
    )
    if connection.execute(ISSUE, values).rowcount != 1:
        raise refuse(Reason.TOKEN_USED)


Narrowest = tuple[datetime.timedelta, bool, int | None]
"""A policy of several: the shortest life, whether any is limited, the shortest path length."""


def narrowest(connection: sqlite3.Connection, lease_id: str) -> Narrowest | None:
    """Return the narrowest policy of a lease's proxies so far; None before the first."""
    row = connection.execute(NARROWEST, (lease_id,)).fetchone()
    if row is None or row[0] is None:
        return None
    return datetime.timedelta(seconds=row[0]), bool(row[1]), row[2]


def issuances_of(connection: sqlite3.Connection, credential_id: str, after: Place, limit: int) -> list[Issuance]:
    """Return the proxies made of a credential, newest first."""
    rows = connection.execute(ISSUANCES_OF, (credential_id, after.microseconds, after.row_id, limit))
    return [_issuance(row) for row in rows]


def newest_issuances(connection: sqlite3.Connection, most: int) -> list[Issuance]:
    """Return the last proxies of all, in the order they were recorded, newest first."""
    return [_issuance(row) for row in connection.execute(NEWEST, (most,))]


def _issuance(row: sqlite3.Row) -> Issuance:
    return Issuance(
        issuance_id=row[0],
        credential_id=row[1],
        jti=row[2],
        job_id=row[3],
        lease_id=row[4],
        attempt=row[5],
        pilot_dn=row[6],
        serial=row[7],
        issue_time=from_microseconds(row[8]),
        expire_time=from_microseconds(row[9]),
        peer=row[10],
        max_seconds=row[11],
        limited=bool(row[12]),
        path_length=row[13],
    )


def _credential(row: sqlite3.Row) -> StoredCredential:
    return StoredCredential(
        credential_id=row[0],
        owner_dn=row[1],
        name=row[2],
        vo=row[3],
        fqans=msgspec.json.decode(row[4], type=tuple[str, ...]),
        key_kind=row[5],
        limited=bool(row[6]),
        chain=msgspec.msgpack.decode(row[7], type=tuple[bytes, ...]),
        create_time=from_microseconds(row[8]),
        expire_time=from_microseconds(row[9]),
        destroy_time=None if row[10] is None else from_microseconds(row[10]),
        revoke_time=None if row[11] is None else from_microseconds(row[11]),
    )
