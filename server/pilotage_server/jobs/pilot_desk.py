"""What pilots do: register, take jobs under leases, report on them and end them.

Every write is fenced: it holds only for the live lease, held by the pilot's own key, of the job's newest attempt.
"""

import asyncio
import datetime
import functools
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import structlog

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.states import JobState, Outcome
from pilotage_server import metrics
from pilotage_server.clock import Clock
from pilotage_server.jobs import reports
from pilotage_server.jobs.askers import Askers
from pilotage_server.jobs.broker import Broker
from pilotage_server.jobs.dispatch import Dispatch
from pilotage_server.jobs.handing_out import Acquired, HandingOut
from pilotage_server.jobs.ids import NewId, new_id
from pilotage_server.jobs.job_class import fits
from pilotage_server.jobs.lease_proxies import note_failed_renewal
from pilotage_server.jobs.limits import JobLimits, LeaseTimes
from pilotage_server.jobs.logs import LogStore, Stream
from pilotage_server.jobs.moves import Moves
from pilotage_server.jobs.notices import Changes, Notices
from pilotage_server.jobs.outcomes import Verdict
from pilotage_server.jobs.wrapping import KeyWrap
from pilotage_server.principal import Principal
from pilotage_server.retrieval import Admitted
from pilotage_server.store import jobs, lease_credentials, leases, pilots, sandboxes
from pilotage_server.store.database import Database
from pilotage_server.store.jobs import JobRow
from pilotage_server.store.leases import LeaseRow
from pilotage_server.store.pilots import PilotRow
from pilotage_server.store.times import from_microseconds
from pilotage_server.tokens import TokenKeys
from pilotage_server.workload import Answer, AttemptResult, Offer, Order, Report, Requirements, TokenAndKey

T = TypeVar("T")
log = structlog.get_logger("pilotage.leases")

SWEEP_BATCH = 200


class Beat(msgspec.Struct, frozen=True):
    """The answer to one heartbeat."""

    answers: tuple[Answer, ...]
    drain: bool


class PilotDesk:
    """Give out leases and take reports. It is the LeaseDirectory that CredentialService asks."""

    def __init__(
        self,
        database: Database,
        logs: LogStore,
        wrapping: KeyWrap,
        token_keys: TokenKeys,
        notices: Notices,
        limits: JobLimits,
        times: LeaseTimes,
        askers: Askers,
        clock: Clock,
        make_id: NewId = new_id,
    ) -> None:
        self._database = database
        self._logs = logs
        self._notices = notices
        self._limits = limits
        self._times = times
        self._askers = askers
        self._clock = clock
        self._new_id = make_id
        self._broker = Broker()
        self._handing_out = HandingOut(database, notices, self._broker, clock)
        self._dispatch = Dispatch(self._broker, wrapping, token_keys, limits, times, make_id)

    @property
    def times(self) -> LeaseTimes:
        """Return what pilots are told about when to call."""
        return self._times

    async def start(self) -> None:
        """Give the pilots time to report after the server was down, before any lease of theirs is swept."""
        until = self._clock() + datetime.timedelta(seconds=self._times.lease_seconds)
        spared = await self._database.write(lambda c: leases.spare(c, until))
        if spared:
            log.info("leases spared after a restart", count=spared)

    async def run(self) -> None:
        """Sweep expired leases until cancelled; a sweep that fails is tried again."""
        while True:
            await asyncio.sleep(self._times.sweep_seconds)
            try:
                await self.sweep()
            except PilotageError as error:
                metrics.background_failure("sweeping leases", error)
                log.error("sweep failed", reason=error.reason.name, message=error.message)

    async def _move(self, actor: str, op: Callable[[Moves], T]) -> T:
        """Run an operation that moves jobs, and tell of the changes once they are durable."""
        changes = Changes()
        now = self._clock()
        return await self._database.write(
            lambda c: op(Moves(c, self._broker, changes, actor, now)),
            committed=lambda _: self._notices.tell(changes),
        )

    async def register(self, caller: Principal, request_id: str, offer: Offer) -> str:
        """Make a pilot known and return its id."""
        if not 0 < len(request_id) <= 64 or not request_id.isprintable():
            raise refuse(Reason.INVALID_ARGUMENT, "request_id is not a UUID.")
        reports.check_offer(offer, self._limits)
        now = self._clock()
        return await self._database.write(
            lambda c: pilots.register(
                c,
                pilot_id=self._new_id(),
                dn=caller.dn,
                thumbprint=caller.thumbprint,
                request_id=request_id,
                offer=offer,
                most=self._limits.pilots_per_key,
                now=now,
            )
        )

    async def deregister(self, caller: Principal, pilot_id: str) -> None:
        """Say good-bye; what the pilot still holds is offered again."""

        def leave(moves: Moves) -> None:
            pilot = pilots.owned(moves.connection, pilot_id, caller.dn, caller.thumbprint)
            for lease in leases.of_pilot(moves.connection, pilot.pilot_id):
                row = jobs.by_seq(moves.connection, lease.job_seq)
                if row.state is JobState.SENT:
                    moves.give_back(row, lease, _given_back("The pilot said good-bye before it began."))
                else:
                    moves.end(row, lease, _lost(moves.connection, lease, "The pilot said good-bye."))
            pilots.leave(moves.connection, pilot, moves.now)

        await self._move("pilot", leave)

    async def acquire(self, caller: Principal, pilot_id: str, slots: int, wait_seconds: float) -> Acquired:
        """Lease at most `slots` jobs, waiting for the first as long as said, at most the longest wait."""
        if slots < 1:
            raise refuse(Reason.INVALID_ARGUMENT, "A pilot asks for at least one slot.")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(max(wait_seconds, 0.0), self._times.longest_wait_seconds)
        pilot = await self._database.read(lambda c: self._present(c, caller, pilot_id))

        # The same policy decides when the pilot comes for the credential: it is offered no job that it could not serve.
        admitted = self._askers.admitted(caller, pilot.offer)

        def takes(requirements: Requirements) -> bool:
            return fits(requirements, pilot.offer, self._wall_left(pilot), admitted)

        take = functools.partial(self._take, caller, pilot_id, slots, admitted)
        with self._notices.waiting(takes, slots) as place:
            while True:
                acquired = await self._handing_out.lease(take)
                place.served()
                if acquired.grants or acquired.drain:
                    return acquired
                left = deadline - loop.time()
                if left <= 0 or not await place.wait(left):
                    return acquired

    def _take(self, caller: Principal, pilot_id: str, slots: int, admitted: Admitted, moves: Moves) -> Acquired:
        pilot = self._present(moves.connection, caller, pilot_id)
        pilots.seen(moves.connection, pilot_id, moves.now)
        if pilot.drain:
            return Acquired((), drain=True)
        free = pilot.offer.slots - leases.count_of_pilot(moves.connection, pilot_id)
        if free < 1:
            raise refuse(Reason.TOO_MANY_LEASES)
        grants = self._dispatch.lease(moves, pilot, self._wall_left(pilot), min(slots, free), admitted)
        return Acquired(tuple(grants), drain=False)

    def _present(self, connection: sqlite3.Connection, caller: Principal, pilot_id: str) -> PilotRow:
        return pilots.present(connection, pilot_id, caller.dn, caller.thumbprint)

    def _wall_left(self, pilot: PilotRow) -> float:
        gone = self._clock() - from_microseconds(pilot.register_us)
        return pilot.offer.wall_seconds - gone.total_seconds()

    async def heartbeat(self, caller: Principal, pilot_id: str, told: Sequence[Report]) -> Beat:
        """Take the reports on all leases of a pilot and answer each."""
        if len(told) > self._limits.slots_per_pilot:
            raise refuse(Reason.INVALID_ARGUMENT, "There are more reports than a pilot can have leases.")
        for report in told:
            reports.check_usage(report.usage)
            reports.check_account(report.account)
            if report.renewal_failure:
                reports.check_reason(report.renewal_failure.reason)

        def beat(moves: Moves) -> Beat:
            pilot = self._present(moves.connection, caller, pilot_id)
            pilots.seen(moves.connection, pilot_id, moves.now)
            return Beat(tuple(self._report(moves, caller, pilot, report) for report in told), pilot.drain)

        return await self._move("pilot", beat)

    def _report(self, moves: Moves, caller: Principal, pilot: PilotRow, report: Report) -> Answer:
        try:
            lease, row = self._live(moves.connection, caller, report.lease_id, pilot.pilot_id)
        except PilotageError as error:
            return Answer(report.lease_id, Order.LOST, None, error.reason.name)
        if report.phase is not None:
            row = moves.advance(row, lease, report.phase)
        expire = moves.now + datetime.timedelta(seconds=self._times.lease_seconds)
        leases.report(
            moves.connection,
            lease.lease_id,
            expire=expire,
            usage=report.usage,
            account=report.account or lease.account,
            uid=report.uid or lease.uid,
        )
        if failure := report.renewal_failure:
            reason, held_until = Reason[failure.reason], failure.proxy_expire_time
            note_failed_renewal(moves, lease.lease_id, reason, failure.message, told_by="pilot", held_until=held_until)
        if row.cancel_requested:
            return Answer(lease.lease_id, Order.KILL, expire, Reason.CANCELLED_BY_OWNER.name)
        if lease.stop_reason:
            return Answer(lease.lease_id, Order.KILL, expire, lease.stop_reason)
        if pilot.offer.renews and lease_credentials.renewal_due(moves.connection, lease.lease_id, moves.now):
            return Answer(lease.lease_id, Order.RENEW, expire)
        return Answer(lease.lease_id, Order.CONTINUE, expire)

    def _live(
        self, connection: sqlite3.Connection, caller: Principal, lease_id: str, pilot_id: str
    ) -> tuple[LeaseRow, JobRow]:
        lease = leases.live(connection, lease_id, caller.dn, caller.thumbprint, pilot_id)
        return lease, jobs.by_seq(connection, lease.job_seq)

    async def finish(self, caller: Principal, pilot_id: str, lease_id: str, said: AttemptResult) -> JobState:
        """End an attempt and return the state its job went to; the same result again answers the same."""
        checked = reports.checked_result(said)

        def end(moves: Moves) -> JobState:
            lease = leases.held(moves.connection, lease_id, caller.dn, caller.thumbprint, pilot_id)
            result = reports.as_told(checked, lease.stop_reason)
            if not lease.live:
                return _repeated(lease, result)
            row = jobs.by_seq(moves.connection, lease.job_seq)
            output = result.output_sandbox
            if output and not sandboxes.visible(moves.connection, [row.owner_dn], output):
                raise refuse(Reason.SANDBOX_NOT_FOUND, "The outputs were not uploaded; upload them first.")
            return moves.end(row, lease, result).state

        return await self._move("pilot", end)

    async def release(self, caller: Principal, pilot_id: str, lease_id: str, reason: str, message: str) -> None:
        """Give a job back that was never started."""
        if reason:
            reports.check_reason(reason)
        why = Verdict(JobState.ACTIVATED, reason, reports.clean_message(message))

        def give_back(moves: Moves) -> None:
            lease = leases.held(moves.connection, lease_id, caller.dn, caller.thumbprint, pilot_id)
            if not lease.live and lease.outcome is None:
                return
            lease, row = self._live(moves.connection, caller, lease_id, pilot_id)
            if row.state not in (JobState.SENT, JobState.STARTING):
                raise refuse(Reason.TRANSITION_REFUSED, f"The job is {row.state.label}; finish it instead.")
            moves.give_back(row, lease, why)

        await self._move("pilot", give_back)

    async def append_log(
        self,
        caller: Principal,
        pilot_id: str,
        lease_id: str,
        stream: Stream,
        offset: int,
        data: bytes,
        *,
        truncated: bool,
    ) -> int:
        """Add to a payload's log and return the offset at which the next bytes go."""
        lease, row = await self._database.read(lambda c: self._live(c, caller, lease_id, pilot_id))
        end = await self._logs.append(row.job_id, lease.attempt, stream, offset, data, truncated=truncated)
        self._notices.job_changed(row.job_id)
        return end

    async def refresh_token(self, caller: Principal, pilot_id: str, lease_id: str) -> TokenAndKey:
        """Return a fresh credential token, and the retrieval key, for a live lease that may go on.

        A pilot that was told to end it needs no proxy any more, and one that goes on reporting instead must get none:
        not of the credential that was withdrawn, and not of the one that the job has got for its next attempt.
        """

        def refresh(connection: sqlite3.Connection) -> TokenAndKey:
            lease, row = self._live(connection, caller, lease_id, pilot_id)
            if row.cancel_requested:
                raise refuse(Reason.CANCELLED_BY_OWNER)
            if lease.stop_reason:
                raise refuse(Reason[lease.stop_reason])
            self._check_overtime(connection, lease, row)
            pilot = pilots.by_id(connection, lease.pilot_id)
            key = self._dispatch.retrieval_key(connection, row)
            return TokenAndKey(self._dispatch.token(row, lease.lease_id, pilot, self._clock()), key)

        return await self._database.read(refresh)

    def _check_overtime(self, connection: sqlite3.Connection, lease: LeaseRow, row: JobRow) -> None:
        """Refuse what would keep an owner's proxies alive for as long as somebody reports on a lease."""
        wall = self._broker.requirements(connection, row.class_id).wall_seconds
        longest = datetime.timedelta(seconds=wall + self._limits.overtime_seconds)
        if self._clock() > from_microseconds(lease.start_us) + longest:
            text = "The attempt has lasted hours longer than its job may; it gets no more proxies."
            raise refuse(Reason.LEASE_EXPIRED, text)

    async def is_live(self, lease_id: str, pilot_dn: str) -> bool:
        """Tell whether this pilot holds this lease now: not ended, and its time not over."""
        term = await self._database.read(lambda c: leases.term(c, lease_id))
        return term is not None and term.pilot_dn == pilot_dn and from_microseconds(term.expire_us) > self._clock()

    async def sweep(self) -> int:
        """End every lease whose time is over as LOST, and return how many there were."""
        total = 0
        while True:
            swept = await self._move("server", self._sweep)
            total += swept
            if swept < SWEEP_BATCH:
                return total

    def _sweep(self, moves: Moves) -> int:
        over = leases.expired(moves.connection, moves.now, SWEEP_BATCH)
        for lease in over:
            row = jobs.by_seq(moves.connection, lease.job_seq)
            moves.end(row, lease, _lost(moves.connection, lease, Reason.PILOT_LOST.row.text))
            names = {"lease": lease.lease_id, "job": row.job_id, "pilot": lease.pilot_id}
            moves.then(functools.partial(log.warning, "lease lost", **names))
        return len(over)


def _given_back(message: str) -> Verdict:
    return Verdict(JobState.ACTIVATED, Reason.PILOT_DRAINING.name, message)


def _lost(connection: sqlite3.Connection, lease: LeaseRow, message: str) -> AttemptResult:
    """Return the server's own account of an attempt whose pilot says nothing more."""
    return AttemptResult(
        outcome=Outcome.LOST,
        usage=lease.usage,
        account=lease.account,
        uid=lease.uid,
        worker_node=pilots.by_id(connection, lease.pilot_id).offer.worker_node,
        reason=Reason.PILOT_LOST.name,
        message=message,
    )


def _repeated(lease: LeaseRow, result: AttemptResult) -> JobState:
    """Answer a finish of a lease that is over."""
    if leases.lost(lease):
        raise refuse(Reason.LEASE_EXPIRED)
    if lease.result is None or lease.end_state is None:
        raise refuse(Reason.LEASE_ENDED, "The job was given back; its lease is over.")
    if lease.result != result:
        raise refuse(Reason.OUTCOME_ALREADY_RECORDED)
    return lease.end_state
