"""What owners do with their jobs. Another owner's job is, everywhere, one that never was."""

import datetime
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Sequence

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import FINAL, LEASED, JobState
from pilotage_server.clock import Clock
from pilotage_server.jobs import broker, specs
from pilotage_server.jobs.askers import Askers
from pilotage_server.jobs.broker import Broker
from pilotage_server.jobs.credential_facts import CredentialDirectory, CredentialFacts, too_short
from pilotage_server.jobs.ids import NewId, new_id
from pilotage_server.jobs.job_class import class_id
from pilotage_server.jobs.limits import JobLimits
from pilotage_server.jobs.logs import Chunk, LogStore, Stream
from pilotage_server.jobs.moves import Moves
from pilotage_server.jobs.notices import Changes, Notices
from pilotage_server.jobs.outcomes import CANCELLED, Verdict
from pilotage_server.jobs.wrapping import KEY_BYTES, KeyWrap
from pilotage_server.principal import Principal
from pilotage_server.store import events, jobs, owners, queue, requests, sandboxes
from pilotage_server.store.database import Database
from pilotage_server.store.jobs import NewJob, Note
from pilotage_server.workload import Job, JobEvent, JobSpec, Requirements

LARGEST_BULK = 1000
HOLDS = (
    Reason.CREDENTIAL_TOO_SHORT,
    Reason.CREDENTIAL_EXPIRED,
    Reason.CREDENTIAL_DESTROYED,
    Reason.CREDENTIAL_REVOKED,
)
"""What a job may be held for at its submission, when its owner chose so: what a new delegation puts right."""


class ItemResult(msgspec.Struct, frozen=True):
    """What became of one item of a bulk call; an empty reason means that it was done."""

    item_id: str
    reason: str = ""
    message: str = ""


class JobDesk:
    """Submit, look at, watch and cancel jobs, and read what they printed."""

    def __init__(
        self,
        database: Database,
        credentials: CredentialDirectory,
        logs: LogStore,
        wrapping: KeyWrap,
        notices: Notices,
        askers: Askers,
        limits: JobLimits,
        clock: Clock,
        make_id: NewId = new_id,
    ) -> None:
        self._database = database
        self._credentials = credentials
        self._logs = logs
        self._wrapping = wrapping
        self._notices = notices
        self._askers = askers
        self._limits = limits
        self._clock = clock
        self._new_id = make_id
        self._broker = Broker()

    async def submit(
        self,
        caller: Principal,
        request_id: str,
        wanted: Sequence[JobSpec],
        credential_id: str,
        retrieval_key: Secret,
        *,
        hold: bool = False,
    ) -> tuple[str, ...]:
        """Store all of these jobs or none, and return their ids; a repeat answers as the first time did.

        A credential that does not serve them is refused, or with `hold` the jobs are stored as held.
        """
        if caller.limited:
            raise refuse(Reason.LIMITED_PROXY_REFUSED)
        if not specs.WORD.fullmatch(request_id):
            raise refuse(Reason.INVALID_ARGUMENT, "request_id is not a UUID.")
        if len(retrieval_key.reveal()) != KEY_BYTES:
            raise refuse(Reason.INVALID_ARGUMENT, f"The retrieval key is not {KEY_BYTES} bytes long.")
        asked = (credential_id, wanted, "hold") if hold else (credential_id, wanted)
        digest = hashlib.sha256(msgspec.json.encode(asked, order="sorted")).digest()
        before = await self._database.read(lambda c: requests.answered(c, caller.dn, request_id, digest))
        if before is not None:
            return before
        checked = self._checked(wanted)
        facts = await self._credentials.describe(credential_id, caller.dn, fresh=True)
        for spec in checked:
            specs.check_wish(spec, facts.vos)
        now = self._clock()
        trouble = self._trouble(checked, facts, now)
        if trouble is not None and not (hold and trouble.reason in HOLDS):
            raise trouble
        changes = Changes()
        submitter = "" if facts.owner_dn == caller.dn else f"Submitted by {caller.dn}, which is linked."

        def store(connection: sqlite3.Connection) -> tuple[str, ...]:
            answer = requests.answered(connection, caller.dn, request_id, digest)
            if answer is not None:
                return answer
            # A job belongs to the DN that it runs as; the caller's own, or one linked to it.
            owner_id = owners.owner_id(connection, facts.owner_dn)
            self._check_room(connection, owner_id, self._names(caller), checked)
            moves = Moves(connection, self._broker, changes, "owner", now)
            job_ids = tuple(self._new_id() for _ in checked)
            for job_id, spec in zip(job_ids, checked, strict=True):
                needs = spec.requirements(facts.vos)
                kind = class_id(needs)
                queue.put_class(connection, kind, needs)
                new = NewJob(
                    job_id=job_id,
                    owner_id=owner_id,
                    owner_dn=facts.owner_dn,
                    class_id=kind,
                    spec=spec,
                    rank=broker.rank(spec.priority, now),
                    credential_id=credential_id,
                    credential_expire=facts.expire_time,
                    vo=facts.vo,
                    fqan=facts.fqan,
                    wrapped_key=self._wrapping.wrap(
                        retrieval_key, job_id=job_id, owner_dn=facts.owner_dn, credential_id=credential_id
                    ),
                )
                row = jobs.insert(connection, new, Note("owner", now, message=submitter))
                if trouble is None:
                    moves.move(row, JobState.ACTIVATED)
                else:
                    moves.move(row, JobState.HELD, Verdict(JobState.HELD, trouble.reason.name, trouble.message))
            requests.insert(connection, owners.owner_id(connection, caller.dn), request_id, digest, job_ids, now)
            return job_ids

        return await self._database.write(store, committed=lambda _: self._notices.tell(changes))

    def _checked(self, wanted: Sequence[JobSpec]) -> list[JobSpec]:
        if not 0 < len(wanted) <= self._limits.jobs_per_submit:
            raise refuse(Reason.INVALID_ARGUMENT, f"A call submits 1 to {self._limits.jobs_per_submit} jobs.")
        checked = []
        for position, spec in enumerate(wanted):
            try:
                checked.append(specs.checked(spec, self._limits))
            except PilotageError as error:
                raise refuse(error.reason, f"Job {position + 1} of {len(wanted)}: {error.message}") from error
        return checked

    def _trouble(
        self, checked: Sequence[JobSpec], facts: CredentialFacts, now: datetime.datetime
    ) -> PilotageError | None:
        """Return why a credential does not serve these jobs, the longest of them included; None when it does."""
        if facts.reason:
            return refuse(Reason[facts.reason], facts.message)
        return too_short(facts.expire_time, max(spec.wall_seconds for spec in checked), self._limits, now)

    def _check_room(
        self, connection: sqlite3.Connection, owner_id: int, names: Sequence[str], checked: Sequence[JobSpec]
    ) -> None:
        most = self._limits.queued_jobs_per_owner
        if owners.open_jobs(connection, owner_id) + len(checked) > most:
            raise refuse(Reason.QUEUE_LIMIT, f"An owner may have {most} jobs that are not over.")
        for sha256 in {spec.input_sandbox for spec in checked} - {""}:
            if not sandboxes.visible(connection, names, sha256):
                raise refuse(Reason.SANDBOX_NOT_FOUND, f"No sandbox {sha256}; upload it first.")

    def _names(self, caller: Principal) -> Sequence[str]:
        return self._credentials.names(caller.dn)

    async def get(self, caller: Principal, job_id: str) -> Job:
        """Return one of the caller's jobs; one that waits says so when no pilot may have it or fits it."""

        def read(connection: sqlite3.Connection) -> tuple[Job, Requirements | None]:
            job = jobs.view(connection, job_id, self._names(caller))
            if job.state is not JobState.ACTIVATED:
                return job, None
            row = jobs.owned(connection, job_id, self._names(caller))
            return job, self._broker.requirements(connection, row.class_id)

        await self._database.caught_up()
        job, waits = await self._database.read(read)
        why = None if waits is None else self._askers.why_not(waits)
        return job if why is None else msgspec.structs.replace(job, reason=why.reason.name, message=why.message)

    async def list_jobs(
        self, caller: Principal, states: Sequence[JobState], before: int | None, limit: int
    ) -> list[tuple[int, Job]]:
        """Return a page of the caller's jobs with their places, newest first."""
        await self._database.caught_up()
        return await self._database.read(lambda c: jobs.views(c, self._names(caller), states, before, limit), slow=True)

    async def list_events(self, caller: Principal, job_id: str, after: int, limit: int) -> list[JobEvent]:
        """Return a page of the life of one of the caller's jobs, oldest first."""

        def read(connection: sqlite3.Connection) -> list[JobEvent]:
            return events.page(connection, jobs.owned(connection, job_id, self._names(caller)).job_seq, after, limit)

        return await self._database.read(read)

    async def watch(self, caller: Principal, job_ids: Sequence[str]) -> AsyncIterator[Job]:
        """Yield each job at once and again at every change, until all are final."""
        _check_bulk(job_ids)
        open_ids = set(job_ids)
        versions: dict[str, int] = {}
        with self._notices.watching(job_ids) as watch:
            while True:
                changed = [job_id for job_id in dict.fromkeys(job_ids) if job_id in watch.changed & open_ids]
                watch.changed.clear()
                names = self._names(caller)
                found = await self._database.read(lambda c, i=changed, n=names: [jobs.view(c, job, n) for job in i])  # type: ignore[misc]
                for job in found:
                    if versions.get(job.job_id) != job.version:
                        versions[job.job_id] = job.version
                        yield job
                    if job.state in FINAL:
                        open_ids.discard(job.job_id)
                if not open_ids:
                    return
                await watch.next()

    async def cancel(self, caller: Principal, job_ids: Sequence[str]) -> list[ItemResult]:
        """Cancel what waits, have killed what runs; one result a job, in order."""
        _check_bulk(job_ids)
        now = self._clock()
        changes = Changes()

        def cancel_one(connection: sqlite3.Connection, job_id: str) -> ItemResult:
            row = jobs.owned(connection, job_id, self._names(caller))
            if row.state in FINAL and row.state is not JobState.CANCELLED:
                raise refuse(Reason.JOB_FINAL, f"The job is {row.state.label}; its state is final.")
            if row.state in LEASED and not row.cancel_requested:
                jobs.request_cancel(connection, row)
                changes.jobs.add(job_id)
            elif row.state not in LEASED | FINAL:
                Moves(connection, self._broker, changes, "owner", now).move(row, JobState.CANCELLED, CANCELLED)
            return ItemResult(job_id)

        def cancel_all(connection: sqlite3.Connection) -> list[ItemResult]:
            results = []
            for job_id in job_ids:
                try:
                    results.append(cancel_one(connection, job_id))
                except PilotageError as error:
                    results.append(ItemResult(job_id, error.reason.name, error.message))
            return results

        return await self._database.write(cancel_all, committed=lambda _: self._notices.tell(changes))

    async def read_log(
        self, caller: Principal, job_id: str, stream: Stream, offset: int, attempt: int, *, follow: bool
    ) -> AsyncIterator[Chunk]:
        """Yield what an attempt printed, from an offset on.

        Attempt 0 is the newest; followed, it goes on with the next attempt from its beginning. Following ends
        when the job is final, or the one attempt asked for is over.
        """
        newest = attempt == 0
        told_cut = False
        with self._notices.watching([job_id]) as watch:
            while True:
                # The state is read before the bytes: whatever a pilot wrote before the end is then seen.
                job = await self.get(caller, job_id)
                attempt = attempt or job.attempt
                over = job.state in FINAL or attempt < job.attempt or (attempt > 0 and job.state not in LEASED)
                async for chunk in self._logs.chunks(job_id, attempt, stream, offset):
                    offset = chunk.offset + len(chunk.data)
                    told_cut = chunk.truncated
                    yield chunk
                if over or not follow:
                    last = await self._logs.read(job_id, attempt, stream, offset)
                    if last.truncated and not told_cut:
                        yield last
                if not follow or job.state in FINAL or (over and not newest):
                    return
                if attempt < job.attempt:
                    attempt, offset, told_cut = job.attempt, 0, False
                    continue
                await watch.next()


def _check_bulk(job_ids: Sequence[str]) -> None:
    if not 0 < len(job_ids) <= LARGEST_BULK:
        raise refuse(Reason.INVALID_ARGUMENT, f"The call takes 1 to {LARGEST_BULK} jobs.")
