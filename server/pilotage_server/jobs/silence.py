"""Pilots that went without a good-bye: they count no more among those that may be registered with one key."""

import datetime

from pilotage_server.clock import Clock
from pilotage_server.store import pilots
from pilotage_server.store.database import Database

SILENCE = datetime.timedelta(hours=1)
"""A pilot asks for work or reports every minute; one that did neither for so long, and holds no lease, is gone."""
BATCH = 200


class SilentPilots:
    """Look for them. One that comes back is told to register anew, and its repeated request makes it what it was."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def forget(self) -> int:
        """Count those that are silent now no more; return how many these were."""
        since = self._clock() - SILENCE
        found = await self._database.read(lambda c: pilots.silent(c, since), slow=True)
        forgotten = 0
        for first in range(0, len(found), BATCH):
            batch = found[first : first + BATCH]
            forgotten += await self._database.write(lambda c, some=batch: pilots.forget_silent(c, some, since))  # type: ignore[misc]
        return forgotten
