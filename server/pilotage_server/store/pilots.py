"""Pilots: who registered, with which key, and what they offer."""

import datetime
import sqlite3
from collections.abc import Sequence

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.store.times import microseconds
from pilotage_server.workload import Offer


class PilotRow(msgspec.Struct, frozen=True):
    """A registered pilot, bound to the key it logged in with."""

    pilot_id: str
    dn: str
    thumbprint: bytes
    offer: Offer
    drain: bool
    register_us: int
    end_us: int | None
    live: bool
    """Neither gone nor silent for long."""


ROW = """
SELECT pilot.pilot_id, dn, thumbprint, offer, drain, register_us, end_us, live_pilot.pilot_id IS NOT NULL
FROM pilot LEFT JOIN live_pilot USING (pilot_id)
"""
IS_SILENT = """
FROM live_pilot JOIN pilot USING (pilot_id)
WHERE seen_us < ? AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.pilot_id = pilot.pilot_id AND lease.end_us IS NULL)
"""
SILENT = f"SELECT pilot_id {IS_SILENT}"
SILENT_ONE = f"SELECT dn, thumbprint {IS_SILENT} AND pilot_id = ?"


# The tuples of a statement hold whatever the columns do; only this module takes them apart.
def _row(found: tuple) -> PilotRow:  # type: ignore[type-arg]
    pilot_id, dn, thumbprint, offer, drain, register_us, end_us, live = found
    decoded = msgspec.json.decode(offer, type=Offer)
    return PilotRow(pilot_id, dn, thumbprint, decoded, bool(drain), register_us, end_us, bool(live))


def register(
    connection: sqlite3.Connection,
    *,
    pilot_id: str,
    dn: str,
    thumbprint: bytes,
    request_id: str,
    offer: Offer,
    most: int,
    now: datetime.datetime,
) -> str:
    """Store a pilot and return its id; a repeat returns the first one's, which is there again if it had been silent.

    Raises REQUEST_ID_REUSED when the same request came with another offer, or the pilot has said good-bye;
    TOO_MANY_PILOTS when `most` of this DN with this key are there.
    """
    found = connection.execute(
        ROW + "WHERE dn = ? AND thumbprint = ? AND request_id = ?", (dn, thumbprint, request_id)
    ).fetchone()
    if found is not None:
        before = _row(found)
        if before.offer != offer or before.end_us is not None:
            raise refuse(Reason.REQUEST_ID_REUSED)
        if not before.live:
            seen(connection, before.pilot_id, now)
            _come(connection, before.pilot_id, dn, thumbprint, most)
        return before.pilot_id
    connection.execute(
        "INSERT INTO pilot (pilot_id, dn, thumbprint, request_id, offer, register_us, seen_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (pilot_id, dn, thumbprint, request_id, msgspec.json.encode(offer), microseconds(now), microseconds(now)),
    )
    _come(connection, pilot_id, dn, thumbprint, most)
    return pilot_id


def _come(connection: sqlite3.Connection, pilot_id: str, dn: str, thumbprint: bytes, most: int) -> None:
    """Count a pilot, or raise TOO_MANY_PILOTS."""
    (live,) = connection.execute(
        "INSERT INTO pilot_count (dn, thumbprint, live) VALUES (?, ?, 1)"
        " ON CONFLICT (dn, thumbprint) DO UPDATE SET live = live + 1 RETURNING live",
        (dn, thumbprint),
    ).fetchone()
    if live > most:
        raise refuse(
            Reason.TOO_MANY_PILOTS, f"{most} pilots of this certificate and key are registered; no more may be."
        )
    connection.execute("INSERT INTO live_pilot (pilot_id) VALUES (?)", (pilot_id,))


def _go(connection: sqlite3.Connection, pilot_id: str, dn: str, thumbprint: bytes) -> None:
    """Count a pilot no more, if it was."""
    if connection.execute("DELETE FROM live_pilot WHERE pilot_id = ?", (pilot_id,)).rowcount:
        one = (dn, thumbprint)
        connection.execute("DELETE FROM pilot_count WHERE dn = ? AND thumbprint = ? AND live = 1", one)
        connection.execute("UPDATE pilot_count SET live = live - 1 WHERE dn = ? AND thumbprint = ?", one)


def owned(connection: sqlite3.Connection, pilot_id: str, dn: str, thumbprint: bytes) -> PilotRow:
    """Return this caller's pilot, present or gone; anybody else's answers PILOT_NOT_REGISTERED."""
    found = connection.execute(
        ROW + "WHERE pilot.pilot_id = ? AND dn = ? AND thumbprint = ?", (pilot_id, dn, thumbprint)
    ).fetchone()
    if found is None:
        raise refuse(Reason.PILOT_NOT_REGISTERED)
    return _row(found)


def present(connection: sqlite3.Connection, pilot_id: str, dn: str, thumbprint: bytes) -> PilotRow:
    """Return this caller's pilot that has not said good-bye, or PILOT_NOT_REGISTERED."""
    row = owned(connection, pilot_id, dn, thumbprint)
    if row.end_us is not None:
        raise refuse(Reason.PILOT_NOT_REGISTERED, "This pilot has said good-bye; register anew.")
    if not row.live:
        raise refuse(Reason.PILOT_NOT_REGISTERED, "This pilot was not heard of for long; register anew.")
    return row


def by_id(connection: sqlite3.Connection, pilot_id: str) -> PilotRow:
    """Return a pilot that a lease names."""
    return _row(connection.execute(ROW + "WHERE pilot.pilot_id = ?", (pilot_id,)).fetchone())


def seen(connection: sqlite3.Connection, pilot_id: str, now: datetime.datetime) -> None:
    """Note that a pilot was heard of."""
    connection.execute("UPDATE pilot SET seen_us = ? WHERE pilot_id = ?", (microseconds(now), pilot_id))


def leave(connection: sqlite3.Connection, pilot: PilotRow, now: datetime.datetime) -> None:
    """Note that a pilot is gone."""
    connection.execute(
        "UPDATE pilot SET end_us = ? WHERE pilot_id = ? AND end_us IS NULL", (microseconds(now), pilot.pilot_id)
    )
    _go(connection, pilot.pilot_id, pilot.dn, pilot.thumbprint)


def silent(connection: sqlite3.Connection, since: datetime.datetime) -> list[str]:
    """Return the live pilots without leases that were last heard of before that time. Looks at all there are."""
    return [str(pilot_id) for (pilot_id,) in connection.execute(SILENT, (microseconds(since),))]


def forget_silent(connection: sqlite3.Connection, pilot_ids: Sequence[str], since: datetime.datetime) -> int:
    """Count these pilots no more unless they were heard of meanwhile, and return how many that are."""
    forgotten = 0
    for pilot_id in pilot_ids:
        found = connection.execute(SILENT_ONE, (microseconds(since), pilot_id)).fetchone()
        if found is not None:
            _go(connection, pilot_id, *found)
            forgotten += 1
    return forgotten


def set_drain(connection: sqlite3.Connection, pilot_id: str, drain: bool) -> None:
    """Tell a pilot to finish what it has and leave, or not to."""
    connection.execute("UPDATE pilot SET drain = ? WHERE pilot_id = ?", (int(drain), pilot_id))
