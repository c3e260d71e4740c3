"""After a rotation: wrap every retrieval key anew, a batch at a time, so that the old wrapping key can be destroyed."""

import sqlite3

import msgspec
import structlog

from pilotage.errors import PilotageError
from pilotage_server.jobs.wrapping import KeyWrap
from pilotage_server.store import job_keys
from pilotage_server.store.database import Database

log = structlog.get_logger("pilotage.jobs")

BATCH = 200


class Rewrapped(msgspec.Struct, frozen=True):
    """What a pass found: keys wrapped anew, and those that no key opens, whose jobs are held when they are due."""

    done: int
    lost: int


async def rewrap(database: Database, wrapping: KeyWrap) -> Rewrapped:
    """Wrap what is not wrapped with the present key; on return all of that is durable.

    When the key is replaced meanwhile, the pass begins anew. It may be cut off anywhere and run again.
    """
    done = 0
    while True:
        prefix, last, lost, more = wrapping.current_prefix, 0, 0, True
        while more and prefix == wrapping.current_prefix:

            def batch(connection: sqlite3.Connection, after: int = last) -> tuple[int, int, int, bool]:
                rows = job_keys.stale(connection, wrapping.current_prefix, after, BATCH)
                wrapped = sum(_rewrap_one(connection, row, wrapping) for row in rows)
                return wrapped, len(rows) - wrapped, rows[-1].job_seq if rows else after, len(rows) == BATCH

            wrapped, failed, last, more = await database.write(batch)
            done, lost = done + wrapped, lost + failed
        if prefix == wrapping.current_prefix:
            return Rewrapped(done, lost)


def _rewrap_one(connection: sqlite3.Connection, row: job_keys.StaleKey, wrapping: KeyWrap) -> bool:
    names = {"job_id": row.job_id, "owner_dn": row.owner_dn, "credential_id": row.credential_id}
    try:
        key = wrapping.unwrap(row.wrapped, **names)
    except PilotageError as error:
        log.warning("a retrieval key cannot be unwrapped", job=row.job_id, reason=error.reason.name)
        return False
    job_keys.replace(connection, row.job_seq, wrapping.wrap(key, **names))
    return True
