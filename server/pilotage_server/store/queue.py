"""What waits, by class of requirements and owner: the only thing a match looks at."""

import sqlite3

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.workload import Requirements


class Head(msgspec.Struct, frozen=True):
    """Jobs of one owner with equal requirements wait; `score` is the owner's recent use."""

    class_id: int
    owner_id: int
    score: float


def put_class(connection: sqlite3.Connection, class_id: int, requirements: Requirements) -> None:
    """Make a class known. An id stands for one set of requirements for ever."""
    body = msgspec.json.encode(requirements)
    row = connection.execute("SELECT requirements FROM job_class WHERE class_id = ?", (class_id,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO job_class (class_id, requirements) VALUES (?, ?)", (class_id, body))
    elif row[0] != body:
        raise refuse(Reason.JOB_SPEC_INVALID, "These requirements collide with others; change the disk size by a byte.")


def get_class(connection: sqlite3.Connection, class_id: int) -> Requirements:
    """Return the requirements of a class."""
    row = connection.execute("SELECT requirements FROM job_class WHERE class_id = ?", (class_id,)).fetchone()
    return msgspec.json.decode(row[0], type=Requirements)


def add(connection: sqlite3.Connection, class_id: int, owner_id: int, count: int) -> None:
    """Count jobs that begin to wait, or with a negative count cease to."""
    connection.execute(
        "INSERT INTO queue (class_id, owner_id, queued) VALUES (?1, ?2, MAX(?3, 0))"
        " ON CONFLICT DO UPDATE SET queued = queued + ?3",
        (class_id, owner_id, count),
    )


def heads(connection: sqlite3.Connection) -> list[Head]:
    """Return what waits, the owner with the least recent use first."""
    rows = connection.execute(
        "SELECT queue.class_id, queue.owner_id, owner.score FROM queue JOIN owner USING (owner_id)"
        " WHERE queued > 0 ORDER BY owner.score, queue.owner_id"
    )
    return [Head(*row) for row in rows]


def first(connection: sqlite3.Connection, class_id: int, owner_id: int) -> tuple[int, int] | None:
    """Return rank and number of the job of this class and owner that goes first."""
    row = connection.execute(
        "SELECT rank, job_seq FROM job WHERE class_id = ? AND owner_id = ? AND state = 3"
        " ORDER BY rank, job_seq LIMIT 1",
        (class_id, owner_id),
    ).fetchone()
    return None if row is None else (int(row[0]), int(row[1]))
