"""How much of everything there is, by queries that an index answers alone: monitoring asks again and again."""

import datetime
import sqlite3
from collections.abc import Mapping

import msgspec

from pilotage.states import FINAL, JobState
from pilotage_server.store import audit
from pilotage_server.store.times import microseconds

JOBS = "SELECT state, count(*) FROM job INDEXED BY ix_job_credential WHERE end_us IS NULL GROUP BY state"
LEASES = "SELECT count(*), ifnull(sum(expire_us <= ?), 0) FROM lease INDEXED BY ix_lease_expire WHERE end_us IS NULL"
CREDENTIALS = (
    "SELECT count(*) FROM credentials INDEXED BY credentials_by_end WHERE sealed IS NOT NULL AND expire_time > ?"
)
PILOTS = "SELECT ifnull(sum(live), 0) FROM pilot_count"
BANS = "SELECT count(*) FROM bans"


class Work(msgspec.Struct, frozen=True):
    """Of the jobs database: jobs that are not over by state, and leases that go on or should have been swept."""

    jobs: Mapping[JobState, int]
    live_leases: int
    expired_leases: int
    pilots: int


class Credentials(msgspec.Struct, frozen=True):
    """Of the credentials database."""

    usable: int
    bans: int
    audit_rows: int


def work(connection: sqlite3.Connection, now: datetime.datetime) -> Work:
    """Count jobs and leases."""
    found = {JobState(state): int(count) for state, count in connection.execute(JOBS)}
    total, expired = connection.execute(LEASES, (microseconds(now),)).fetchone()
    open_states = {state: found.get(state, 0) for state in JobState if state not in FINAL}
    (pilots,) = connection.execute(PILOTS).fetchone()
    return Work(open_states, total - expired, expired, pilots)


def credentials(connection: sqlite3.Connection, now: datetime.datetime) -> Credentials:
    """Count credentials that can be issued from, bans and audit rows."""
    (usable,) = connection.execute(CREDENTIALS, (microseconds(now),)).fetchone()
    (bans,) = connection.execute(BANS).fetchone()
    return Credentials(usable, bans, audit.head(connection).seq)
