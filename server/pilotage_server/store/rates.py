"""Rate limits that outlive a restart: one number a subject (a leaky bucket by virtual scheduling, ITU-T I.371).

The number is when the subject's allowance would be whole again, at most a minute ahead; so a clock that is put back
blocks nobody.
"""

import datetime
import enum
import sqlite3
from collections.abc import Iterable

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.store.times import microseconds

MINUTE = 60_000_000

FIND = "SELECT whole FROM rates WHERE scope = ? AND subject = ?"
PUT = (
    "INSERT INTO rates (scope, subject, whole) VALUES (?, ?, ?)"
    " ON CONFLICT (scope, subject) DO UPDATE SET whole = excluded.whole"
)
PRUNE = "DELETE FROM rates WHERE whole <= ? OR whole > ?"


class Scope(enum.StrEnum):
    """What is counted."""

    PILOT_ISSUES = "proxies to one pilot"
    OWNER_ISSUES = "proxies from one owner's credentials"
    REFUSALS = "refusals of one caller"
    OWNER_DELEGATIONS = "delegations of one owner"


class Rate(msgspec.Struct, frozen=True):
    """What one subject may do: so many a minute, at once or spread."""

    scope: Scope
    subject: str
    per_minute: int


def check(connection: sqlite3.Connection, rates: Iterable[Rate], now: datetime.datetime) -> None:
    """Raise RATE_LIMITED when one more would be too many now by any of these rates."""
    for rate in rates:
        _after_one_more(connection, rate, microseconds(now))


def take(connection: sqlite3.Connection, rates: Iterable[Rate], now: datetime.datetime) -> None:
    """Count one in each; raise RATE_LIMITED when it is one too many in any."""
    for rate in rates:
        whole = _after_one_more(connection, rate, microseconds(now))
        connection.execute(PUT, (rate.scope.value, rate.subject, whole))


def prune(connection: sqlite3.Connection, now: datetime.datetime) -> None:
    """Forget those whose allowance is whole."""
    connection.execute(PRUNE, (microseconds(now), microseconds(now) + MINUTE))


def _after_one_more(connection: sqlite3.Connection, rate: Rate, now: int) -> int:
    row = connection.execute(FIND, (rate.scope.value, rate.subject)).fetchone()
    each = max(1, MINUTE // rate.per_minute)
    # A number further ahead than a minute was written by a clock that has been put back since, and says nothing.
    known = row is not None and now < row[0] <= now + MINUTE
    whole = (row[0] if known else now) + each
    if whole > now + MINUTE:
        wait = (whole - now - MINUTE) / 1_000_000
        text = f"Too many {rate.scope.value}: at most {rate.per_minute} a minute. Try again in {wait:.1f} s."
        raise refuse(Reason.RATE_LIMITED, text)
    return whole
