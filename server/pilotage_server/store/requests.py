"""Submissions by their request id, so that a repeat answers as the first time did."""

import datetime
import hmac
import sqlite3

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.store.times import microseconds


def answered(connection: sqlite3.Connection, owner_dn: str, request_id: str, digest: bytes) -> tuple[str, ...] | None:
    """Return the jobs an earlier same request made; None for a new one, REQUEST_ID_REUSED for another one."""
    row = connection.execute(
        "SELECT digest, job_ids FROM request JOIN owner USING (owner_id) WHERE dn = ? AND request_id = ?",
        (owner_dn, request_id),
    ).fetchone()
    if row is None:
        return None
    if not hmac.compare_digest(row[0], digest):
        raise refuse(Reason.REQUEST_ID_REUSED)
    return msgspec.json.decode(row[1], type=tuple[str, ...])


def insert(
    connection: sqlite3.Connection,
    owner_id: int,
    request_id: str,
    digest: bytes,
    job_ids: tuple[str, ...],
    now: datetime.datetime,
) -> None:
    """Remember what a request made."""
    connection.execute(
        "INSERT INTO request (owner_id, request_id, digest, job_ids, create_us) VALUES (?, ?, ?, ?, ?)",
        (owner_id, request_id, digest, msgspec.json.encode(job_ids), microseconds(now)),
    )
