"""How many connections there may be, and who has to go when one more comes.

A connection that has not yet said what it wants costs little and proves nothing; when there are too many, of one
address or of all, the oldest of them goes. One whose request has come is never thrown out: it has a deadline.
"""

import collections
from collections.abc import Callable

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason

MOST_SILENT = 512
MOST_SILENT_OF_A_HOST = 64
MOST_BUSY = 64
MOST_BUSY_OF_A_HOST = 24


class Guest(msgspec.Struct, eq=False):
    """A connection, and how to end it."""

    host: str
    leave: Callable[[], None]


class Doorman:
    """Count the connections."""

    def __init__(self) -> None:
        self._silent: dict[Guest, None] = {}
        self._busy: dict[Guest, None] = {}

    def enter(self, guest: Guest) -> None:
        """Let a connection in, and the oldest silent one out where there are too many."""
        same = [other for other in self._silent if other.host == guest.host]
        if len(same) >= MOST_SILENT_OF_A_HOST:
            self._put_out(same[0])
        elif len(self._silent) >= MOST_SILENT:
            # Those of the address that has most of them go first, so that one address cannot put out the others.
            most = collections.Counter(other.host for other in self._silent).most_common(1)[0][0]
            self._put_out(next(other for other in self._silent if other.host == most))
        self._silent[guest] = None

    def serve(self, guest: Guest) -> None:
        """Note that a connection's request has come; raise RATE_LIMITED when too many are being served."""
        self._silent.pop(guest, None)
        of_host = sum(1 for other in self._busy if other.host == guest.host)
        if len(self._busy) >= MOST_BUSY or of_host >= MOST_BUSY_OF_A_HOST:
            raise refuse(Reason.RATE_LIMITED)
        self._busy[guest] = None

    def left(self, guest: Guest) -> None:
        """Forget a connection."""
        self._silent.pop(guest, None)
        self._busy.pop(guest, None)

    def close(self) -> None:
        """End all of them."""
        for guest in (*self._silent, *self._busy):
            guest.leave()

    def _put_out(self, guest: Guest) -> None:
        del self._silent[guest]
        guest.leave()

    def __len__(self) -> int:
        return len(self._silent) + len(self._busy)
