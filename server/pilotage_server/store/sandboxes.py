"""Who may see which sandbox. The bytes lie in files named by their digest, once for all owners."""

import datetime
import sqlite3
from collections.abc import Iterable

from pilotage_server.store.times import microseconds


def grant(connection: sqlite3.Connection, owner_id: int, sha256: str, size: int, now: datetime.datetime) -> None:
    """Let an owner see a sandbox."""
    connection.execute(
        "INSERT INTO sandbox (owner_id, sha256, size_bytes, create_us) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (owner_id, sha256, size, microseconds(now)),
    )


def visible(connection: sqlite3.Connection, owner_dns: Iterable[str], sha256: str) -> bool:
    """Return whether an owner, who may have several DNs, may see a sandbox."""
    query = "SELECT 1 FROM sandbox JOIN owner USING (owner_id) WHERE dn = ? AND sha256 = ?"
    return any(connection.execute(query, (dn, sha256)).fetchone() is not None for dn in owner_dns)


def known(connection: sqlite3.Connection, sha256: str) -> bool:
    """Return whether anybody may see a sandbox."""
    return connection.execute("SELECT 1 FROM sandbox WHERE sha256 = ? LIMIT 1", (sha256,)).fetchone() is not None
