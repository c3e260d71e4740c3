"""Who goes next: the owner with the least recent use, then priority that grows with age.

Two numbers are stored so that time never changes their order, and nothing has to be recomputed:

* An owner's *score* is `log2(use) + t / HALF_LIFE` where `use` is core-seconds decayed to time t. Both
  terms move together as time passes, so the order of two owners changes only when one is charged. 0 is no use at all.
* A job's *rank* is its time of birth less its priority in units of AGING: a step of priority is worth
  as much as AGING of waiting, so nobody starves. The smallest goes first.
"""

import datetime
import math
import sqlite3

from pilotage_server.jobs.job_class import fits
from pilotage_server.retrieval import Admitted
from pilotage_server.store import queue
from pilotage_server.store.times import microseconds
from pilotage_server.workload import Offer, Requirements

HALF_LIFE = datetime.timedelta(days=1)
AGING = datetime.timedelta(minutes=10)
LARGEST_CACHE = 100_000


def rank(priority: int, create_time: datetime.datetime) -> int:
    """Return what orders an owner's jobs; the smallest goes first."""
    return microseconds(create_time) - priority * (AGING // datetime.timedelta(microseconds=1))


def _weight(core_seconds: float, time: datetime.datetime) -> float:
    return math.log2(core_seconds) + time.timestamp() / HALF_LIFE.total_seconds()


def charge(score: float, core_seconds: float, time: datetime.datetime) -> float:
    """Return an owner's score after using something at a time."""
    if core_seconds <= 0:
        return score
    added = _weight(core_seconds, time)
    high, low = max(score, added), min(score, added)
    return high + math.log2(1 + 2.0 ** (low - high))


def refund(score: float, core_seconds: float, time: datetime.datetime) -> float:
    """Undo a charge: the same amount at the same time."""
    if core_seconds <= 0:
        return score
    share = 2.0 ** min(_weight(core_seconds, time) - score, 0.0)
    # Rounding leaves up to 1e-9 of a use that was all there was.
    return score + math.log2(1 - share) if share < 1 - 1e-9 else 0.0


class Broker:
    """Match an offer against what waits. The cost grows with the kinds of work waiting, not with the jobs."""

    def __init__(self) -> None:
        # A class number is a hash of its requirements, so an entry can never become wrong.
        self._classes: dict[int, Requirements] = {}

    def requirements(self, connection: sqlite3.Connection, class_id: int) -> Requirements:
        """Return the requirements of a class."""
        found = self._classes.get(class_id)
        if found is None:
            if len(self._classes) >= LARGEST_CACHE:
                self._classes.clear()
            found = self._classes[class_id] = queue.get_class(connection, class_id)
        return found

    def choose(self, connection: sqlite3.Connection, offer: Offer, wall_left: float, admitted: Admitted) -> int | None:
        """Return the number of the job this offer should get, or None when none fits.

        `admitted` says of which VOs the pilot gets credentials.
        """
        best: tuple[int, int] | None = None
        owner: int | None = None
        for head in queue.heads(connection):
            if owner is not None and head.owner_id != owner:
                break
            if not fits(self.requirements(connection, head.class_id), offer, wall_left, admitted):
                continue
            owner = head.owner_id
            candidate = queue.first(connection, head.class_id, head.owner_id)
            if candidate is not None and (best is None or candidate < best):
                best = candidate
        return None if best is None else best[1]
