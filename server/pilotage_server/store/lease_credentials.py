"""What leases have to do with their credentials: the proxy the pilot holds, its renewal, and the order to stop."""

import datetime
import sqlite3

import msgspec

from pilotage_server.store.times import microseconds
from pilotage_server.workload import Offer


class LeaseProxy(msgspec.Struct, frozen=True):
    """The newest proxy of a live lease, and how its renewal stands."""

    job_seq: int
    expire_us: int
    renew_us: int | None
    error_us: int | None
    reason: str
    stop_reason: str


def proxy(connection: sqlite3.Connection, lease_id: str) -> LeaseProxy | None:
    """Return the proxy of a live lease; None when it has none, or is over."""
    row = connection.execute(
        "SELECT job_seq, held.expire_us, renew_us, error_us, reason, stop_reason"
        " FROM lease_credential AS held JOIN lease USING (lease_id)"
        " WHERE lease_id = ? AND end_us IS NULL AND held.expire_us IS NOT NULL",
        (lease_id,),
    ).fetchone()
    return None if row is None else LeaseProxy(*row)


class Issued(msgspec.Struct, frozen=True):
    """A proxy that a lease was given; one that suffices lives as long as its pilot wanted."""

    lease_id: str
    issue_time: datetime.datetime
    expire_time: datetime.datetime
    suffices: bool = False


class Plan(msgspec.Struct, frozen=True):
    """What decides whether and when the proxy of a live lease is renewed."""

    job_seq: int
    job_id: str
    credential_expire_us: int
    stop_reason: str
    issue_us: int | None
    offer: Offer


def plan(connection: sqlite3.Connection, lease_id: str) -> Plan | None:
    """Return what the renewal of a live lease's proxy goes by; None when the lease is over."""
    row = connection.execute(
        "SELECT job.job_seq, job_id, credential_expire_us, stop_reason, issue_us, offer"
        " FROM lease JOIN lease_credential USING (lease_id) JOIN job USING (job_seq)"
        " JOIN pilot ON pilot.pilot_id = lease.pilot_id WHERE lease.lease_id = ? AND lease.end_us IS NULL",
        (lease_id,),
    ).fetchone()
    if row is None:
        return None
    job_seq, job_id, ends, stop_reason, issue_us, offer = row
    return Plan(job_seq, job_id, ends, stop_reason, issue_us, msgspec.json.decode(offer, type=Offer))


def issued(connection: sqlite3.Connection, proxy: Issued, renew_time: datetime.datetime | None) -> None:
    """Note a new proxy; what went wrong with the one before is over."""
    renew = None if renew_time is None else microseconds(renew_time)
    connection.execute(
        "UPDATE lease_credential SET issue_us = ?, expire_us = ?, renew_us = ?, issued = issued + 1,"
        " error_us = NULL, reason = '', message = '' WHERE lease_id = ?",
        (microseconds(proxy.issue_time), microseconds(proxy.expire_time), renew, proxy.lease_id),
    )


def renewal_failed(
    connection: sqlite3.Connection,
    lease_id: str,
    now: datetime.datetime,
    ends: datetime.datetime,
    again: datetime.datetime | None,
    reason: str,
    message: str,
) -> None:
    """Note that a renewal was refused, until when the payload has a proxy, and when the pilot should try again."""
    due = None if again is None else microseconds(again)
    connection.execute(
        "UPDATE lease_credential SET expire_us = ?, renew_us = ?, error_us = ?, reason = ?, message = ?"
        " WHERE lease_id = ?",
        (microseconds(ends), due, microseconds(now), reason, message, lease_id),
    )


def renewal_due(connection: sqlite3.Connection, lease_id: str, now: datetime.datetime) -> bool:
    """Return whether the proxy of a lease is to be renewed now."""
    query = "SELECT 1 FROM lease_credential WHERE lease_id = ? AND renew_us <= ?"
    return connection.execute(query, (lease_id, microseconds(now))).fetchone() is not None


def stop(connection: sqlite3.Connection, credential_id: str, reason: str) -> int:
    """Have every live lease that was given with this credential ended; return how many are new to it.

    A job that got this credential while its lease was ending for want of another one has none again.
    """
    return connection.execute(
        "UPDATE lease_credential SET credential_id = ?1, stop_reason = ?2, renew_us = NULL WHERE lease_id IN ("
        "  SELECT lease_id FROM lease_credential JOIN lease USING (lease_id)"
        "  WHERE credential_id = ?1 AND stop_reason = '' AND end_us IS NULL"
        "  UNION ALL SELECT held.lease_id FROM job JOIN lease_credential AS held ON held.lease_id = job.lease_id"
        "  WHERE job.credential_id = ?1 AND job.end_us IS NULL AND stop_reason <> '' AND held.credential_id <> ?1)",
        (credential_id, reason),
    ).rowcount


def stopping(connection: sqlite3.Connection, owner_id: int) -> list[int]:
    """Return the numbers of an owner's jobs whose attempts must end for want of a credential."""
    found = connection.execute(
        "SELECT job.job_seq FROM lease JOIN lease_credential USING (lease_id) JOIN job USING (job_seq)"
        " WHERE lease.end_us IS NULL AND stop_reason <> '' AND owner_id = ?",
        (owner_id,),
    )
    return [int(seq) for (seq,) in found]
