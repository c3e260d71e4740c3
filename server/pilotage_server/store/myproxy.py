"""Statements on what the MyProxy gateway stores: names of credentials, holders of user names, wrong guesses."""

import datetime
import enum
import hashlib
import sqlite3

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.store import credentials
from pilotage_server.store.credentials import StoredCredential
from pilotage_server.store.times import from_microseconds, microseconds

LONGEST_LIST = 1000
BATCH = 500
MOST_GUESSES = 10
GUESS_WINDOW = datetime.timedelta(minutes=15)


class Seal(enum.IntEnum):
    """What besides the service's key opens a credential's sealed key."""

    PASSPHRASE = 1
    SERVICE = 2
    """Nothing does: the owner asked for a credential that is taken without a pass phrase."""
    UPLOADED = 3
    """The service's key opens the file that the owner uploaded, and the pass phrase the key within."""


class Room(msgspec.Struct, frozen=True):
    """How much one owner may have."""

    credentials: int
    usernames: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What MyProxy's clients know of a credential. `max_seconds` 0 leaves the proxies' life to the server."""

    credential_id: str
    username: str
    name: str
    description: str
    max_seconds: int
    retrievers: str | None
    trusted_retrievers: str | None
    renewers: str | None
    key_retrievers: str | None
    seal: Seal
    salt: bytes

    @property
    def bound(self) -> bytes:
        """Return what a sealed key is bound to, so that nobody who can write the database widens a policy."""
        shown = msgspec.structs.astuple(msgspec.structs.replace(self, description=""))
        return hashlib.sha256(b"pilotage myproxy entry v1\0" + msgspec.msgpack.encode(shown)).digest()


COLUMNS = (
    "credential_id, username, name, description, max_seconds, retrievers, trusted_retrievers, renewers, key_retrievers,"
    " seal, salt"
)
OWN_COLUMNS = ", ".join(f"own.{column.strip()}" for column in COLUMNS.split(","))
KEPT = (
    f"SELECT {OWN_COLUMNS} FROM myproxy_entries AS own JOIN credentials AS held USING (credential_id)"  # noqa: S608
    " WHERE held.sealed IS NOT NULL AND held.destroy_time IS NULL"
)
LIVE = f"{KEPT} AND own.username = ?"
OTHERWISE = f"{KEPT} AND own.seal <> ? AND substr(held.sealed, 1, ?) <> ? LIMIT ?"
FIND = f"{LIVE} AND own.name = ?"
OF_OWNER = f"{LIVE} AND held.owner_dn = ? ORDER BY own.name LIMIT {LONGEST_LIST}"
LIVE_AT = f"SELECT 1 FROM ({LIVE}) WHERE name = ?"  # noqa: S608
AT = "SELECT credential_id FROM myproxy_entries WHERE username = ? AND name = ?"
INSERT = f"INSERT INTO myproxy_entries ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
REMOVE = "DELETE FROM myproxy_entries WHERE credential_id = ?"
COUNT = (
    "SELECT count(*) FROM myproxy_entries JOIN credentials USING (credential_id)"
    " WHERE owner_dn = ? AND sealed IS NOT NULL"
)
PRUNE = (
    "DELETE FROM myproxy_entries WHERE credential_id IN (SELECT credential_id FROM credentials WHERE sealed IS NULL)"
)
RESALT = "UPDATE myproxy_entries SET seal = ?, salt = ? WHERE credential_id = ?"
HOLDER = "SELECT owner_dn FROM myproxy_usernames WHERE username = ?"
CLAIM = "INSERT INTO myproxy_usernames (username, owner_dn, claim_time) VALUES (?, ?, ?)"
NAMES_OF = "SELECT count(*) FROM myproxy_usernames WHERE owner_dn = ?"
GUESSES = "SELECT count, first_time FROM myproxy_guesses WHERE target = ?"
GUESS = (
    "INSERT INTO myproxy_guesses (target, count, first_time) VALUES (?, ?, ?)"
    " ON CONFLICT (target) DO UPDATE SET count = excluded.count, first_time = excluded.first_time"
)
RIGHT = "DELETE FROM myproxy_guesses WHERE target = ?"
FORGET_GUESSES = "DELETE FROM myproxy_guesses WHERE first_time < ?"


def find(connection: sqlite3.Connection, username: str, name: str) -> tuple[Entry, StoredCredential] | None:
    """Return a credential that can be used, by its names."""
    row = connection.execute(FIND, (username, name)).fetchone()
    return None if row is None else (_entry(row), credentials.get(connection, row[0]))


def of_owner(connection: sqlite3.Connection, username: str, owner_dn: str) -> list[tuple[Entry, StoredCredential]]:
    """Return what an owner has under a user name, by credential name."""
    entries = [_entry(row) for row in connection.execute(OF_OWNER, (username, owner_dn)).fetchall()]
    return [(entry, credentials.get(connection, entry.credential_id)) for entry in entries]


def check_room(
    connection: sqlite3.Connection, username: str, name: str, owner_dn: str, room: Room, *, claim: bool
) -> None:
    """Raise USERNAME_TAKEN or CREDENTIAL_LIMIT where this owner cannot store under this name.

    `claim` says whether a user name that is free may be taken.
    """
    held_by = holder(connection, username)
    if held_by is None and not claim:
        raise refuse(Reason.USERNAME_TAKEN, "The operator gives out user names here, and has not given this one.")
    if held_by not in (None, owner_dn):
        raise refuse(Reason.USERNAME_TAKEN, f"The user name {username} belongs to somebody else; choose another (-l).")
    if held_by is None and connection.execute(NAMES_OF, (owner_dn,)).fetchone()[0] >= room.usernames:
        raise refuse(Reason.CREDENTIAL_LIMIT, f"You hold {room.usernames} user names already; use one of those (-l).")
    is_new = connection.execute(LIVE_AT, (username, name)).fetchone() is None
    if is_new and connection.execute(COUNT, (owner_dn,)).fetchone()[0] >= room.credentials:
        raise refuse(Reason.CREDENTIAL_LIMIT)


def put(
    connection: sqlite3.Connection,
    entry: Entry,
    stored: StoredCredential,
    sealed: bytes,
    room: Room,
    now: datetime.datetime,
) -> str:
    """Store a credential under its names, and destroy the one that is there; return that one's id, or nothing.

    The first who stores something under a user name holds it from then on. Raises what `check_room` raises.
    """
    check_room(connection, entry.username, entry.name, stored.owner_dn, room, claim=True)
    if holder(connection, entry.username) is None:
        connection.execute(CLAIM, (entry.username, stored.owner_dn, microseconds(now)))
    row = connection.execute(AT, (entry.username, entry.name)).fetchone()
    previous = "" if row is None else str(row[0])
    if previous and not remove(connection, previous, now):
        # Somebody destroyed it otherwise, and its names were still here.
        previous = ""
    credentials.add(connection, stored, sealed)
    connection.execute(INSERT, msgspec.structs.astuple(entry))
    return previous


def remove(connection: sqlite3.Connection, credential_id: str, now: datetime.datetime) -> bool:
    """Destroy a credential and free its name; tell whether this call did it."""
    done = credentials.destroy(connection, credential_id, now)
    connection.execute(REMOVE, (credential_id,))
    return done


def reseal(connection: sqlite3.Connection, entry: Entry, before: bytes, after: bytes) -> bool:
    """Replace a sealed key and its salt; tell whether it was still the one that was opened."""
    if credentials.sealed_key(connection, entry.credential_id) != before:
        return False
    credentials.reseal(connection, entry.credential_id, before, after)
    connection.execute(RESALT, (entry.seal, entry.salt, entry.credential_id))
    return True


def sealed_otherwise(connection: sqlite3.Connection, prefix: bytes) -> list[tuple[Entry, StoredCredential]]:
    """Return some credentials that open without a pass phrase and whose sealed form begins with something else."""
    values = (Seal.PASSPHRASE, len(prefix), prefix, BATCH)
    entries = [_entry(row) for row in connection.execute(OTHERWISE, values).fetchall()]
    return [(entry, credentials.get(connection, entry.credential_id)) for entry in entries]


def holder(connection: sqlite3.Connection, username: str) -> str | None:
    """Return who holds a user name."""
    row = connection.execute(HOLDER, (username,)).fetchone()
    return None if row is None else str(row[0])


def guess(connection: sqlite3.Connection, username: str, name: str, now: datetime.datetime) -> None:
    """Count a guess before it is looked at, whether or not there is such a credential; raise PASSPHRASE_LOCKED."""
    target = _target(username, name)
    row = connection.execute(GUESSES, (target,)).fetchone()
    count, first = (0, now) if row is None else (int(row[0]), from_microseconds(row[1]))
    if not first <= now < first + GUESS_WINDOW:
        count, first = 0, now
    if count >= MOST_GUESSES:
        raise refuse(Reason.PASSPHRASE_LOCKED)
    connection.execute(GUESS, (target, count + 1, microseconds(first)))


def guessed_right(connection: sqlite3.Connection, username: str, name: str) -> None:
    """Forget the wrong guesses at a name."""
    connection.execute(RIGHT, (_target(username, name),))


def prune(connection: sqlite3.Connection, now: datetime.datetime) -> None:
    """Forget old guesses, and names of credentials that are gone."""
    connection.execute(FORGET_GUESSES, (microseconds(now - GUESS_WINDOW),))
    connection.execute(PRUNE)


def _target(username: str, name: str) -> bytes:
    return hashlib.sha256(f"{len(username)}:{username}{name}".encode()).digest()


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        credential_id=row[0],
        username=row[1],
        name=row[2],
        description=row[3],
        max_seconds=row[4],
        retrievers=row[5],
        trusted_retrievers=row[6],
        renewers=row[7],
        key_retrievers=row[8],
        seal=Seal(row[9]),
        salt=bytes(row[10]),
    )
