"""The life of a job: one row for each move, never changed."""

import sqlite3

from pilotage.states import JobState
from pilotage_server.store.times import from_microseconds
from pilotage_server.workload import JobEvent


def append(
    connection: sqlite3.Connection,
    job_seq: int,
    source: JobState | None,
    target: JobState,
    *,
    time_us: int,
    attempt: int,
    actor: str,
    reason: str,
    message: str,
) -> None:
    """Write one move."""
    connection.execute(
        "INSERT INTO event (job_seq, time_us, from_state, to_state, attempt, actor, reason, message)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (job_seq, time_us, int(source or 0), int(target), attempt, actor, reason, message),
    )


def page(connection: sqlite3.Connection, job_seq: int, after: int, limit: int) -> list[JobEvent]:
    """Return at most `limit` moves of a job that follow the event `after`, oldest first."""
    rows = connection.execute(
        "SELECT event_seq, time_us, from_state, to_state, attempt, actor, reason, message FROM event"
        " WHERE job_seq = ? AND event_seq > ? ORDER BY event_seq LIMIT ?",
        (job_seq, after, limit),
    )
    return [
        JobEvent(
            event_id=seq,
            event_time=from_microseconds(time_us),
            from_state=JobState(source) if source else None,
            to_state=JobState(target),
            attempt=attempt,
            actor=actor,
            reason=reason,
            message=message,
        )
        for seq, time_us, source, target, attempt, actor, reason, message in rows
    ]


def noted_since(connection: sqlite3.Connection, job_seq: int, since_us: int, until_us: int, most: int) -> int:
    """Return how many of a job's last `most` events moved nothing and are of this time, both ends included."""
    (count,) = connection.execute(
        "SELECT count(*) FROM (SELECT time_us, from_state, to_state FROM event WHERE job_seq = ?"
        " ORDER BY event_seq DESC LIMIT ?) WHERE from_state = to_state AND time_us BETWEEN ? AND ?",
        (job_seq, most, since_us, until_us),
    ).fetchone()
    return int(count)
