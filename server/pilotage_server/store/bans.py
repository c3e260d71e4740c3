"""Bans, which stay until an admin lifts them, and the strikes that lead to them."""

import datetime
import sqlite3

import msgspec

from pilotage_server.store.times import from_microseconds, microseconds


class Ban(msgspec.Struct, frozen=True):
    """Who is banned: a DN or FQAN; with `key`, a thumbprint in hex, only callers who prove that key."""

    subject: str
    key: str
    why: str
    by_dn: str
    time: datetime.datetime


COLUMNS = "subject, key, why, by_dn, time"
ADD = f"INSERT INTO bans ({COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
ALL = f"SELECT {COLUMNS} FROM bans ORDER BY subject, key"  # noqa: S608
PAGE = f"SELECT {COLUMNS} FROM bans WHERE (subject, key) > (?, ?) ORDER BY subject, key LIMIT ?"  # noqa: S608
LIFT = "DELETE FROM bans WHERE subject = ?"
STRIKE = "INSERT INTO strikes (dn, key, time) VALUES (?, ?, ?)"
STRIKES = "SELECT count(*) FROM strikes WHERE dn = ? AND time > ?"
STRIKES_OF_KEY = f"{STRIKES} AND key = ?"
FORGIVE = "DELETE FROM strikes WHERE dn = ?"
PRUNE = "DELETE FROM strikes WHERE time <= ?"


def add(connection: sqlite3.Connection, ban: Ban) -> bool:
    """Store a ban; tell whether it is new."""
    values = (ban.subject, ban.key, ban.why, ban.by_dn, microseconds(ban.time))
    return connection.execute(ADD, values).rowcount == 1


def everyone(connection: sqlite3.Connection) -> list[Ban]:
    """Return all bans."""
    return [_ban(row) for row in connection.execute(ALL)]


def page(connection: sqlite3.Connection, subject: str, key: str, most: int) -> list[Ban]:
    """Return bans in their order, from behind one on."""
    return [_ban(row) for row in connection.execute(PAGE, (subject, key, most))]


def lift(connection: sqlite3.Connection, subject: str) -> bool:
    """Remove the bans of a subject, its keys' included, and its strikes; tell whether there was a ban."""
    connection.execute(FORGIVE, (subject,))
    return connection.execute(LIFT, (subject,)).rowcount > 0


def strike(
    connection: sqlite3.Connection, dn: str, key: str, now: datetime.datetime, since: datetime.datetime
) -> tuple[int, int]:
    """Note a strike; return how many there were since then: of this key, and of the DN with whatever key."""
    connection.execute(STRIKE, (dn, key, microseconds(now)))
    of_key = connection.execute(STRIKES_OF_KEY, (dn, microseconds(since), key)).fetchone()[0]
    of_dn = connection.execute(STRIKES, (dn, microseconds(since))).fetchone()[0]
    return of_key, of_dn


def prune_strikes(connection: sqlite3.Connection, since: datetime.datetime) -> None:
    """Forget strikes that count no more."""
    connection.execute(PRUNE, (microseconds(since),))


def _ban(row: sqlite3.Row) -> Ban:
    return Ban(row[0], row[1], row[2], row[3], from_microseconds(row[4]))
