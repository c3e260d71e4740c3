"""Leases: one attempt at one job, held by one pilot. At most one lease of a job is live."""

import datetime
import sqlite3

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.states import JobState, Outcome
from pilotage_server.store.times import microseconds
from pilotage_server.workload import AttemptResult, Usage


class LeaseRow(msgspec.Struct, frozen=True):
    """A lease and the pilot it is bound to, by name and by key."""

    lease_id: str
    job_seq: int
    attempt: int
    pilot_id: str
    pilot_dn: str
    thumbprint: bytes
    charged: float
    start_us: int
    expire_us: int
    usage: Usage
    account: str
    uid: int
    end_us: int | None
    outcome: Outcome | None
    result: AttemptResult | None
    end_state: JobState | None
    credential_id: str
    stop_reason: str

    @property
    def live(self) -> bool:
        """Return whether nothing has ended it yet."""
        return self.end_us is None


class Term(msgspec.Struct, frozen=True):
    """Whose a live lease is, and until when."""

    pilot_dn: str
    expire_us: int


TERM = "SELECT dn, lease.expire_us FROM lease JOIN pilot USING (pilot_id) WHERE lease_id = ? AND lease.end_us IS NULL"
ROW = """
SELECT lease_id, job_seq, attempt, lease.pilot_id, dn, thumbprint, charged, start_us, lease.expire_us, usage, account,
       uid, lease.end_us, outcome, result, end_state, credential_id, stop_reason
FROM lease JOIN pilot USING (pilot_id) JOIN lease_credential USING (lease_id)
"""


# The tuples of a statement hold whatever the columns do; only this module takes them apart.
def _row(found: tuple) -> LeaseRow:  # type: ignore[type-arg]
    lease_id, job_seq, attempt, pilot_id, dn, thumbprint, charged, start_us, expire_us, *rest = found
    usage, account, uid, end_us, outcome, result, end_state, credential_id, stop_reason = rest
    return LeaseRow(
        lease_id=lease_id,
        job_seq=job_seq,
        attempt=attempt,
        pilot_id=pilot_id,
        pilot_dn=dn,
        thumbprint=thumbprint,
        charged=charged,
        start_us=start_us,
        expire_us=expire_us,
        usage=Usage() if usage is None else msgspec.json.decode(usage, type=Usage),
        account=account,
        uid=uid,
        end_us=end_us,
        outcome=None if outcome is None else Outcome(outcome),
        result=None if result is None else msgspec.json.decode(result, type=AttemptResult),
        end_state=None if end_state is None else JobState(end_state),
        credential_id=credential_id,
        stop_reason=stop_reason,
    )


def insert(
    connection: sqlite3.Connection,
    *,
    lease_id: str,
    job_seq: int,
    attempt: int,
    pilot_id: str,
    credential_id: str,
    charged: float,
    now: datetime.datetime,
    expire: datetime.datetime,
) -> None:
    """Store a new lease; the database refuses a second live one of the same job."""
    connection.execute(
        "INSERT INTO lease (lease_id, job_seq, attempt, pilot_id, charged, start_us, expire_us, account)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, '')",
        (lease_id, job_seq, attempt, pilot_id, charged, microseconds(now), microseconds(expire)),
    )
    connection.execute(
        "INSERT INTO lease_credential (lease_id, credential_id) VALUES (?, ?)", (lease_id, credential_id)
    )


def find(connection: sqlite3.Connection, lease_id: str) -> LeaseRow | None:
    """Return a lease, live or ended."""
    found = connection.execute(ROW + "WHERE lease_id = ?", (lease_id,)).fetchone()
    return None if found is None else _row(found)


def term(connection: sqlite3.Connection, lease_id: str) -> Term | None:
    """Return the term of a live lease; None when it has ended, or there is none."""
    found = connection.execute(TERM, (lease_id,)).fetchone()
    return None if found is None else Term(*found)


def held(
    connection: sqlite3.Connection, lease_id: str, dn: str, thumbprint: bytes, pilot_id: str | None = None
) -> LeaseRow:
    """Return a lease, live or ended, that is this pilot's: its name, its key and, where said, its registration.

    Raises LEASE_NOT_FOUND or LEASE_FOREIGN.
    """
    lease = find(connection, lease_id)
    if lease is None:
        raise refuse(Reason.LEASE_NOT_FOUND)
    if (lease.pilot_dn, lease.thumbprint) != (dn, thumbprint) or pilot_id not in (None, lease.pilot_id):
        raise refuse(Reason.LEASE_FOREIGN)
    return lease


def live(
    connection: sqlite3.Connection, lease_id: str, dn: str, thumbprint: bytes, pilot_id: str | None = None
) -> LeaseRow:
    """Return a live lease of this pilot; raises as `held`, or LEASE_EXPIRED or LEASE_ENDED."""
    lease = held(connection, lease_id, dn, thumbprint, pilot_id)
    if not lease.live:
        raise refuse(Reason.LEASE_EXPIRED if lost(lease) else Reason.LEASE_ENDED)
    return lease


def lost(lease: LeaseRow) -> bool:
    """Return whether the server took the lease away, as against the pilot ending it."""
    return lease.outcome is Outcome.LOST and lease.result is not None and lease.result.reason == Reason.PILOT_LOST.name


def of_pilot(connection: sqlite3.Connection, pilot_id: str) -> list[LeaseRow]:
    """Return the live leases of a pilot."""
    found = connection.execute(ROW + "WHERE lease.pilot_id = ? AND lease.end_us IS NULL", (pilot_id,))
    return [_row(row) for row in found]


def count_of_pilot(connection: sqlite3.Connection, pilot_id: str) -> int:
    """Return how many live leases a pilot holds."""
    query = "SELECT COUNT(*) FROM lease WHERE pilot_id = ? AND end_us IS NULL"
    return int(connection.execute(query, (pilot_id,)).fetchone()[0])


def expired(connection: sqlite3.Connection, now: datetime.datetime, limit: int) -> list[LeaseRow]:
    """Return live leases whose time is over, the oldest first."""
    found = connection.execute(
        ROW + "WHERE lease.end_us IS NULL AND lease.expire_us <= ? ORDER BY lease.expire_us LIMIT ?",
        (microseconds(now), limit),
    )
    return [_row(row) for row in found]


def report(
    connection: sqlite3.Connection,
    lease_id: str,
    *,
    expire: datetime.datetime,
    usage: Usage,
    account: str,
    uid: int,
) -> None:
    """Prolong a live lease and note what its pilot says of it."""
    connection.execute(
        "UPDATE lease SET expire_us = MAX(expire_us, ?), usage = ?, account = ?, uid = ?"
        " WHERE lease_id = ? AND end_us IS NULL",
        (microseconds(expire), msgspec.json.encode(usage), account, uid, lease_id),
    )


def end(
    connection: sqlite3.Connection,
    lease_id: str,
    *,
    now: datetime.datetime,
    result: AttemptResult | None,
    end_state: JobState,
) -> None:
    """End a live lease; without a result it was given back unstarted. LEASE_ENDED when it is over already."""
    changed = connection.execute(
        "UPDATE lease SET end_us = ?, outcome = ?, result = ?, end_state = ? WHERE lease_id = ? AND end_us IS NULL",
        (
            microseconds(now),
            None if result is None else int(result.outcome),
            None if result is None else msgspec.json.encode(result),
            int(end_state),
            lease_id,
        ),
    ).rowcount
    if changed != 1:
        raise refuse(Reason.LEASE_ENDED)


def spare(connection: sqlite3.Connection, until: datetime.datetime) -> int:
    """Let no live lease end before `until`: while the server was down, no pilot could report."""
    return connection.execute(
        "UPDATE lease SET expire_us = ?1 WHERE end_us IS NULL AND expire_us < ?1", (microseconds(until),)
    ).rowcount
