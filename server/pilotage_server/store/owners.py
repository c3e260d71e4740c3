"""Owners in the jobs database: who has jobs, how many, and how much they used lately."""

import sqlite3


def owner_id(connection: sqlite3.Connection, dn: str) -> int:
    """Return the number of an owner, making it at first sight."""
    row = connection.execute("SELECT owner_id FROM owner WHERE dn = ?", (dn,)).fetchone()
    if row is None:
        row = connection.execute("INSERT INTO owner (dn) VALUES (?) RETURNING owner_id", (dn,)).fetchone()
    return int(row[0])


def open_jobs(connection: sqlite3.Connection, owner: int) -> int:
    """Return how many of an owner's jobs are not final."""
    return int(connection.execute("SELECT open_jobs FROM owner WHERE owner_id = ?", (owner,)).fetchone()[0])


def score(connection: sqlite3.Connection, owner: int) -> float:
    """Return the logarithm of an owner's decayed use."""
    return float(connection.execute("SELECT score FROM owner WHERE owner_id = ?", (owner,)).fetchone()[0])


def set_score(connection: sqlite3.Connection, owner: int, value: float) -> None:
    """Store the logarithm of an owner's decayed use."""
    connection.execute("UPDATE owner SET score = ? WHERE owner_id = ?", (value, owner))
