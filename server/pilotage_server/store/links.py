"""Links between DNs of one person: a row is one DN's consent to another, and a link is two of them."""

import datetime
import sqlite3

import msgspec

from pilotage_server.store.times import from_microseconds, microseconds


class Link(msgspec.Struct, frozen=True):
    """What one DN said of another; without `link_time` the other has not said so."""

    dn: str
    other_dn: str
    ask_time: datetime.datetime
    link_time: datetime.datetime | None


COLUMNS = "dn, other_dn, ask_time, link_time"
OF = f"SELECT {COLUMNS} FROM links WHERE dn = ? OR other_dn = ? ORDER BY other_dn, dn"  # noqa: S608
LINKED = f"SELECT {COLUMNS} FROM links WHERE link_time IS NOT NULL"  # noqa: S608
ASKED = "SELECT 1 FROM links WHERE dn = ? AND other_dn = ? AND (ask_time > ? OR link_time IS NOT NULL)"
ASK = (
    "INSERT INTO links (dn, other_dn, ask_time) VALUES (?, ?, ?)"
    " ON CONFLICT (dn, other_dn) DO UPDATE SET ask_time = excluded.ask_time WHERE link_time IS NULL"
)
JOIN = "UPDATE links SET link_time = ? WHERE link_time IS NULL AND (dn, other_dn) IN (VALUES (?, ?), (?, ?))"
CUT = "DELETE FROM links WHERE (dn, other_dn) IN (VALUES (?1, ?2), (?2, ?1))"
FORGET = "DELETE FROM links WHERE link_time IS NULL AND ask_time <= ?"


def of(connection: sqlite3.Connection, dn: str) -> list[Link]:
    """Return what a DN said of others and others of it."""
    return [_link(row) for row in connection.execute(OF, (dn, dn))]


def linked(connection: sqlite3.Connection) -> list[Link]:
    """Return every link, from both its ends."""
    return [_link(row) for row in connection.execute(LINKED)]


def ask(connection: sqlite3.Connection, dn: str, other: str, now: datetime.datetime) -> None:
    """Note a DN's consent to another."""
    connection.execute(ASK, (dn, other, microseconds(now)))


def asked(connection: sqlite3.Connection, dn: str, other: str, since: datetime.datetime) -> bool:
    """Tell whether a DN's consent to another still holds."""
    return connection.execute(ASKED, (dn, other, microseconds(since))).fetchone() is not None


def join(connection: sqlite3.Connection, dn: str, other: str, now: datetime.datetime) -> bool:
    """Make a link of two consents; tell whether it is new."""
    return connection.execute(JOIN, (microseconds(now), dn, other, other, dn)).rowcount > 0


def cut(connection: sqlite3.Connection, dn: str, other: str) -> bool:
    """Forget both consents; tell whether there was any."""
    return connection.execute(CUT, (dn, other)).rowcount > 0


def forget_unanswered(connection: sqlite3.Connection, since: datetime.datetime) -> None:
    """Forget consents that are too old to be answered."""
    connection.execute(FORGET, (microseconds(since),))


def _link(row: sqlite3.Row) -> Link:
    return Link(row[0], row[1], from_microseconds(row[2]), None if row[3] is None else from_microseconds(row[3]))
