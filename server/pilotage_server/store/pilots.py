"""Pilots: who registered, with which key, and what they offer."""

import datetime
import sqlite3

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


ROW = "SELECT pilot_id, dn, thumbprint, offer, drain, register_us, end_us FROM pilot "


# The tuples of a statement hold whatever the columns do; only this module takes them apart.
def _row(found: tuple) -> PilotRow:  # type: ignore[type-arg]
    pilot_id, dn, thumbprint, offer, drain, register_us, end_us = found
    return PilotRow(pilot_id, dn, thumbprint, msgspec.json.decode(offer, type=Offer), bool(drain), register_us, end_us)


def register(
    connection: sqlite3.Connection,
    *,
    pilot_id: str,
    dn: str,
    thumbprint: bytes,
    request_id: str,
    offer: Offer,
    now: datetime.datetime,
) -> str:
    """Store a pilot and return its id; a repeat returns the first one's.

    Raises REQUEST_ID_REUSED when the same request came with another offer, or the pilot has said good-bye.
    """
    found = connection.execute(
        ROW + "WHERE dn = ? AND thumbprint = ? AND request_id = ?", (dn, thumbprint, request_id)
    ).fetchone()
    if found is not None:
        before = _row(found)
        if before.offer != offer or before.end_us is not None:
            raise refuse(Reason.REQUEST_ID_REUSED)
        return before.pilot_id
    connection.execute(
        "INSERT INTO pilot (pilot_id, dn, thumbprint, request_id, offer, register_us, seen_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (pilot_id, dn, thumbprint, request_id, msgspec.json.encode(offer), microseconds(now), microseconds(now)),
    )
    return pilot_id


def owned(connection: sqlite3.Connection, pilot_id: str, dn: str, thumbprint: bytes) -> PilotRow:
    """Return this caller's pilot, present or gone; anybody else's answers PILOT_NOT_REGISTERED."""
    found = connection.execute(
        ROW + "WHERE pilot_id = ? AND dn = ? AND thumbprint = ?", (pilot_id, dn, thumbprint)
    ).fetchone()
    if found is None:
        raise refuse(Reason.PILOT_NOT_REGISTERED)
    return _row(found)


def present(connection: sqlite3.Connection, pilot_id: str, dn: str, thumbprint: bytes) -> PilotRow:
    """Return this caller's pilot that has not said good-bye, or PILOT_NOT_REGISTERED."""
    row = owned(connection, pilot_id, dn, thumbprint)
    if row.end_us is not None:
        raise refuse(Reason.PILOT_NOT_REGISTERED, "This pilot has said good-bye; register anew.")
    return row


def by_id(connection: sqlite3.Connection, pilot_id: str) -> PilotRow:
    """Return a pilot that a lease names."""
    return _row(connection.execute(ROW + "WHERE pilot_id = ?", (pilot_id,)).fetchone())


def seen(connection: sqlite3.Connection, pilot_id: str, now: datetime.datetime) -> None:
    """Note that a pilot was heard of."""
    connection.execute("UPDATE pilot SET seen_us = ? WHERE pilot_id = ?", (microseconds(now), pilot_id))


def leave(connection: sqlite3.Connection, pilot_id: str, now: datetime.datetime) -> None:
    """Note that a pilot is gone."""
    connection.execute(
        "UPDATE pilot SET end_us = ? WHERE pilot_id = ? AND end_us IS NULL", (microseconds(now), pilot_id)
    )


def set_drain(connection: sqlite3.Connection, pilot_id: str, drain: bool) -> None:
    """Tell a pilot to finish what it has and leave, or not to."""
    connection.execute("UPDATE pilot SET drain = ? WHERE pilot_id = ?", (int(drain), pilot_id))
