"""Spent challenges: one row each, for as long as the challenge would be accepted."""

import datetime
import sqlite3

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.store.times import microseconds

USE = "INSERT INTO used_challenges (nonce, expire_time) VALUES (?, ?) ON CONFLICT (nonce) DO NOTHING"
PRUNE = "DELETE FROM used_challenges WHERE expire_time < ?"


def use_challenge(connection: sqlite3.Connection, nonce: bytes, expire_time: datetime.datetime) -> None:
    """Spend a challenge; raise CHALLENGE_USED when somebody did before."""
    if connection.execute(USE, (nonce, microseconds(expire_time))).rowcount != 1:
        raise refuse(Reason.CHALLENGE_USED)


def prune_challenges(connection: sqlite3.Connection, now: datetime.datetime) -> int:
    """Forget challenges that are refused for their age anyway; return how many.

    A minute's grace: the clock of a replica may be behind.
    """
    return connection.execute(PRUNE, (microseconds(now - datetime.timedelta(minutes=1)),)).rowcount
