"""The wrapped retrieval keys of jobs after a rotation: which are of another key, and one in another's place."""

import sqlite3

import msgspec

# Version and key id are the first nine bytes; older forms begin with chance.
STALE = (
    "SELECT job_seq, job_id, dn, credential_id, wrapped FROM job_key JOIN job USING (job_seq) JOIN owner USING"
    " (owner_id) WHERE job_seq > ? AND substr(wrapped, 1, 9) <> ? ORDER BY job_seq LIMIT ?"
)
REPLACE = "UPDATE job_key SET wrapped = ? WHERE job_seq = ?"
WRAPPED_WITH = "SELECT substr(wrapped, 1, 9), count(*) FROM job_key GROUP BY 1"
SCRUB = "PRAGMA secure_delete = ON"


class StaleKey(msgspec.Struct, frozen=True):
    """A retrieval key that is wrapped with another key than the present one, and what it is bound to."""

    job_seq: int
    job_id: str
    owner_dn: str
    credential_id: str
    wrapped: bytes


def stale(connection: sqlite3.Connection, current_prefix: bytes, after: int, limit: int) -> list[StaleKey]:
    """Return keys that do not begin with the present prefix, of jobs that follow the number `after`."""
    return [StaleKey(*row) for row in connection.execute(STALE, (after, current_prefix, limit))]


def replace(connection: sqlite3.Connection, job_seq: int, wrapped: bytes) -> None:
    """Put another wrapped form of the same key in its place, overwriting the bytes in the file."""
    connection.execute(SCRUB)
    connection.execute(REPLACE, (wrapped, job_seq))


def wrapped_with(connection: sqlite3.Connection) -> dict[bytes, int]:
    """Return how many retrieval keys begin with which prefix."""
    return {bytes(row[0]): int(row[1]) for row in connection.execute(WRAPPED_WITH)}
