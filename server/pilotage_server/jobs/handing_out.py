"""Leases reach their pilot or nobody: what was leased to a caller who hung up meanwhile is offered again at once."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.states import JobState
from pilotage_server.clock import Clock
from pilotage_server.jobs.broker import Broker
from pilotage_server.jobs.moves import Moves
from pilotage_server.jobs.notices import Changes, Notices
from pilotage_server.jobs.outcomes import Verdict
from pilotage_server.store import jobs, leases
from pilotage_server.store.database import Database
from pilotage_server.workload import Grant

log = structlog.get_logger("pilotage.leases")

HUNG_UP = Verdict(JobState.ACTIVATED, Reason.PILOT_LOST.name, "The pilot hung up before it was told of the job.")


class Acquired(msgspec.Struct, frozen=True):
    """What a pilot got; nothing, when it waited in vain."""

    grants: tuple[Grant, ...]
    drain: bool


class HandingOut:
    """Lease in transactions whose caller may be cancelled at any moment."""

    def __init__(self, database: Database, notices: Notices, matcher: Broker, clock: Clock) -> None:
        self._database = database
        self._notices = notices
        self._broker = matcher
        self._clock = clock
        self._returning: set[asyncio.Task[None]] = set()

    async def lease(self, take: Callable[[Moves], Acquired]) -> Acquired:
        """Run what leases jobs; if the caller has gone when that is durable, or goes then, take them back."""
        changes, now = Changes(), self._clock()
        leased: list[Acquired] = []
        gone = False

        def committed(acquired: Acquired) -> None:
            self._notices.tell(changes)
            leased.append(acquired)
            if gone:
                self._return(acquired)

        try:
            return await self._database.write(
                lambda c: take(Moves(c, self._broker, changes, "server", now)), committed=committed
            )
        except asyncio.CancelledError:
            gone = True
            for acquired in leased:
                self._return(acquired)
            raise

    def _return(self, acquired: Acquired) -> None:
        """Take back leases of which nobody was told: no token of theirs has left."""
        if acquired.grants:
            task = asyncio.create_task(self._take_back([grant.lease_id for grant in acquired.grants]))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _take_back(self, lease_ids: Sequence[str]) -> None:
        changes, now = Changes(), self._clock()

        def take_back(moves: Moves) -> None:
            for lease_id in lease_ids:
                lease = leases.find(moves.connection, lease_id)
                if lease is not None and lease.live:
                    moves.give_back(jobs.by_seq(moves.connection, lease.job_seq), lease, HUNG_UP)

        try:
            await self._database.write(
                lambda c: take_back(Moves(c, self._broker, changes, "server", now)),
                committed=lambda _: self._notices.tell(changes),
            )
        except PilotageError as error:
            # The leases end by themselves then, with an attempt each.
            log.warning("leases of a caller who hung up not taken back", reason=error.reason.name)
