"""What becomes of jobs when their credential can serve them no more, and when there is a new one.

CredentialService tells nothing but that a credential should be looked at; what it is worth is asked of it each time.
So a message that is lost costs a minute, until the next look at all of them.
"""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import msgspec
import structlog

from pilotage.errors import PilotageError, refuse
from pilotage.holding import SERVICE_FAULTS
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import JobState
from pilotage_server.clock import Clock
from pilotage_server.jobs.broker import Broker
from pilotage_server.jobs.credential_facts import CredentialDirectory, CredentialFacts, too_short
from pilotage_server.jobs.job_class import class_id
from pilotage_server.jobs.limits import JobLimits
from pilotage_server.jobs.moves import Moves
from pilotage_server.jobs.notices import Changes, Notices
from pilotage_server.jobs.outcomes import Verdict
from pilotage_server.jobs.wrapping import KEY_BYTES, KeyWrap
from pilotage_server.principal import Principal
from pilotage_server.store import jobs, lease_credentials, owners, queue
from pilotage_server.store.database import Database
from pilotage_server.store.jobs import JobRow
from pilotage_server.store.times import from_microseconds

T = TypeVar("T")
log = structlog.get_logger("pilotage.jobs")

BATCH = 200
GONE = {
    reason.name: reason
    for reason in (
        Reason.CREDENTIAL_NOT_FOUND,
        Reason.CREDENTIAL_DESTROYED,
        Reason.CREDENTIAL_REVOKED,
        Reason.CREDENTIAL_EXPIRED,
        Reason.CREDENTIAL_OWNER_BANNED,
    )
}
"""What no waiting job gets over. A stale CRL, say, passes, and holds nothing."""
WITHDRAWN = (
    Reason.CREDENTIAL_DESTROYED.name,
    Reason.CREDENTIAL_REVOKED.name,
    Reason.CREDENTIAL_OWNER_BANNED.name,
)
"""What ends payloads that run, too; one that has merely ended takes its proxies along by itself."""
PASSING = tuple(reason.name for reason in SERVICE_FAULTS)


class Rebound(msgspec.Struct, frozen=True):
    """What a new credential did for the jobs that waited for one."""

    released: int
    still_held: int


class CredentialDesk:
    """Hold jobs, stop attempts, release jobs."""

    def __init__(
        self,
        database: Database,
        credentials: CredentialDirectory,
        wrapping: KeyWrap,
        notices: Notices,
        limits: JobLimits,
        clock: Clock,
    ) -> None:
        self._database = database
        self._credentials = credentials
        self._wrapping = wrapping
        self._notices = notices
        self._limits = limits
        self._clock = clock
        self._broker = Broker()

    async def _move(self, actor: str, op: Callable[[Moves], T]) -> T:
        changes = Changes()
        now = self._clock()
        return await self._database.write(
            lambda c: op(Moves(c, self._broker, changes, actor, now)),
            committed=lambda _: self._notices.tell(changes),
        )

    async def look_at_all(self) -> None:
        """Look at every credential that a job waits for or runs with."""
        for credential_id, owner_dn in await self._database.read(jobs.credentials_in_use, slow=True):
            await self.look(credential_id, owner_dn)
        for credential_id, owner_dn in await self._database.read(lambda c: jobs.held_for(c, PASSING), slow=True):
            try:
                await self._look_again(credential_id, owner_dn)
            except PilotageError as error:
                log.error("held jobs not looked at", credential=credential_id, reason=error.reason.name)

    async def _look_again(self, credential_id: str, owner_dn: str) -> None:
        """Offer jobs again that were held for what has passed: their owners have nothing to do about that.

        Those whose credential cannot serve them for another reason are held for that one then.
        """
        facts = await self._credentials.describe(credential_id, owner_dn, fresh=True)
        if facts.reason and facts.reason not in GONE:
            return
        last = 0
        while True:

            def offer(moves: Moves, after: int = last) -> list[JobRow]:
                rows = jobs.held_with(moves.connection, credential_id, PASSING, after, BATCH)
                for row in rows:
                    moves.move(row, JobState.ACTIVATED)
                return rows

            rows = await self._move("server", offer)
            if rows:
                log.info("held jobs are offered again", credential=credential_id, count=len(rows))
            if len(rows) < BATCH:
                break
            last = rows[-1].job_seq
        await self.look(credential_id, owner_dn)

    async def look(self, credential_id: str, owner_dn: str) -> None:
        """Hold the jobs a credential cannot serve any more, and stop their attempts if it was withdrawn."""
        try:
            facts = await self._credentials.describe(credential_id, owner_dn)
        except PilotageError as error:
            if error.reason is not Reason.CREDENTIAL_NOT_FOUND:
                raise
            facts = None
        reason = Reason.CREDENTIAL_NOT_FOUND.name if facts is None else facts.reason
        if reason in WITHDRAWN:
            stopped = await self._database.write(lambda c: lease_credentials.stop(c, credential_id, reason))
            if stopped:
                log.warning("attempts are stopped", credential=credential_id, reason=reason, count=stopped)

        def why(moves: Moves, row: JobRow) -> Verdict | None:
            if reason in GONE:
                return Verdict(JobState.HELD, reason, GONE[reason].row.text)
            needs = self._broker.requirements(moves.connection, row.class_id)
            ends = from_microseconds(row.credential_expire_us)
            error = too_short(ends, needs.wall_seconds, self._limits, moves.now)
            return None if error is None else Verdict(JobState.HELD, error.reason.name, error.message)

        held, last = 0, 0
        while True:

            def hold(moves: Moves, after: int = last) -> tuple[int, int, bool]:
                rows = jobs.waiting_with(moves.connection, credential_id, after, BATCH)
                verdicts = [(row, why(moves, row)) for row in rows]
                for row, verdict in verdicts:
                    if verdict is not None:
                        moves.move(row, JobState.HELD, verdict)
                count = sum(verdict is not None for _, verdict in verdicts)
                return count, rows[-1].job_seq if rows else after, len(rows) == BATCH

            count, last, more = await self._move("server", hold)
            held += count
            if not more:
                break
        if held:
            log.warning("jobs are held", credential=credential_id, reason=reason or "too short", count=held)

    async def rebind(self, caller: Principal, credential_id: str, retrieval_key: Secret) -> Rebound:
        """Give the caller's jobs that wait for a credential this one, and release those that it outlives."""
        if caller.limited:
            raise refuse(Reason.LIMITED_PROXY_REFUSED)
        if len(retrieval_key.reveal()) != KEY_BYTES:
            raise refuse(Reason.INVALID_ARGUMENT, f"The retrieval key is not {KEY_BYTES} bytes long.")
        facts = await self._credentials.describe(credential_id, caller.dn, fresh=True)
        if facts.reason:
            raise refuse(Reason[facts.reason], facts.message)
        new = _New(credential_id, retrieval_key, facts)
        # A job keeps the identity that it was submitted to run as, whichever of its owner's names asks.
        owner_id = await self._database.write(lambda c: owners.owner_id(c, facts.owner_dn))
        await self._move("owner", lambda moves: self._rebind_stopping(moves, owner_id, new))
        released = still_held = last = 0
        while True:

            def release(moves: Moves, after: int = last) -> tuple[int, int, int, bool]:
                rows = jobs.held_after(moves.connection, owner_id, after, BATCH)
                wanted = [row for row in rows if new.fits(moves.connection, row)]
                done = sum(self._release(moves, row, new) for row in wanted)
                return done, len(wanted) - done, rows[-1].job_seq if rows else after, len(rows) == BATCH

            done, left, last, more = await self._move("owner", release)
            released += done
            still_held += left
            if not more:
                return Rebound(released, still_held)

    def _release(self, moves: Moves, row: JobRow, new: "_New") -> bool:
        needs = self._broker.requirements(moves.connection, row.class_id)
        if too_short(new.facts.expire_time, needs.wall_seconds, self._limits, moves.now) is not None:
            return False
        moves.move(self._bind(moves.connection, row, new), JobState.ACTIVATED)
        return True

    def _rebind_stopping(self, moves: Moves, owner_id: int, new: "_New") -> None:
        """Bind jobs whose attempts are about to end for want of the old one, so that they need not be held then."""
        for job_seq in lease_credentials.stopping(moves.connection, owner_id):
            row = jobs.by_seq(moves.connection, job_seq)
            if row.credential_id != new.credential_id and new.fits(moves.connection, row):
                self._bind(moves.connection, row, new)

    def _bind(self, connection: sqlite3.Connection, row: JobRow, new: "_New") -> JobRow:
        wrapped = self._wrapping.wrap(
            new.retrieval_key, job_id=row.job_id, owner_dn=row.owner_dn, credential_id=new.credential_id
        )
        # The new one may have attributes of other VOs besides, and then other pilots get it.
        needs = msgspec.structs.replace(self._broker.requirements(connection, row.class_id), vos=new.facts.vos)
        kind = class_id(needs)
        queue.put_class(connection, kind, needs)
        return jobs.rebind(connection, row, new.credential_id, new.facts.expire_time, wrapped, kind)


class _New(msgspec.Struct, frozen=True):
    """A credential that jobs may be bound to."""

    credential_id: str
    retrieval_key: Secret
    facts: CredentialFacts

    def fits(self, connection: sqlite3.Connection, row: JobRow) -> bool:
        """Return whether a job asked for just this VO and role."""
        return jobs.attribute(connection, row.job_seq) == (self.facts.vo, self.facts.fqan)
