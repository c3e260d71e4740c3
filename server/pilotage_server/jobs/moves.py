"""One transaction's moves of jobs, remembered for those who must be told after the commit."""

import datetime
import sqlite3
from collections.abc import Callable

import msgspec

from pilotage.reasons import Reason
from pilotage.states import RETRIED, JobState, Outcome
from pilotage_server.jobs import broker
from pilotage_server.jobs.broker import Broker
from pilotage_server.jobs.notices import Changes
from pilotage_server.jobs.outcomes import CANCELLED, Verdict, verdict
from pilotage_server.store import jobs, leases, owners
from pilotage_server.store.jobs import JobRow, Note
from pilotage_server.store.leases import LeaseRow
from pilotage_server.store.times import from_microseconds, microseconds
from pilotage_server.workload import AttemptResult

FORWARD = (JobState.SENT, JobState.STARTING, JobState.RUNNING, JobState.HOLDING)
RELEASES = 20
"""How often a job may be given back unstarted beyond its attempts before it is failed."""

WITHOUT_CREDENTIAL = RETRIED | {Outcome.KILLED, Outcome.CREDENTIAL}
"""Outcomes of an attempt told to end for want of its credential that come of just that."""


class Moves:
    """Move jobs in one transaction, for one actor at one time."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        matcher: Broker,
        changes: Changes,
        actor: str,
        now: datetime.datetime,
    ) -> None:
        self.connection = connection
        self.now = now
        self._broker = matcher
        self._changes = changes
        self._actor = actor

    def move(
        self,
        row: JobRow,
        state: JobState,
        why: Verdict | None = None,
        *,
        lease_id: str | None = None,
        attempt: int | None = None,
        tries: int | None = None,
        result_attempt: int | None = None,
    ) -> JobRow:
        """Move a job; `lease_id` is the lease it is under afterwards."""
        why = why or Verdict(state)
        after = msgspec.structs.replace(
            row,
            state=state,
            lease_id=lease_id,
            attempt=row.attempt if attempt is None else attempt,
            tries=row.tries if tries is None else tries,
            result_attempt=row.result_attempt if result_attempt is None else result_attempt,
            # Once it may run again, an old reason would only mislead; the events keep it.
            reason="" if state is JobState.ACTIVATED else why.reason,
            message="" if state is JobState.ACTIVATED else why.message,
            start_us=microseconds(self.now) if state is JobState.RUNNING else row.start_us,
        )
        moved = jobs.move(self.connection, row, after, Note(self._actor, self.now, why.reason, why.message))
        self._changes.jobs.add(row.job_id)
        self._changes.moves.append((state, why.reason))
        if state is JobState.ACTIVATED:
            self._changes.offered.append(self._broker.requirements(self.connection, row.class_id))
        return moved

    def advance(self, row: JobRow, lease: LeaseRow, phase: JobState) -> JobRow:
        """Follow a pilot's report, step by step; what it says late of an earlier phase changes nothing."""
        for state in FORWARD[FORWARD.index(row.state) + 1 : FORWARD.index(phase) + 1]:
            row = self.move(row, state, lease_id=lease.lease_id)
        return row

    def then(self, action: Callable[[], object]) -> None:
        """Do something once it all is durable, on the event loop."""
        self._changes.then.append(action)

    def note(self, row: JobRow, reason: Reason, message: str) -> None:
        """Write down something that happened to a job without moving it."""
        jobs.note(self.connection, row, Note(self._actor, self.now, reason.name, message))
        self._changes.jobs.add(row.job_id)

    def end(self, row: JobRow, lease: LeaseRow, result: AttemptResult) -> JobRow:
        """End an attempt and move its job to what the outcome says."""
        if result.outcome is Outcome.OK:
            # The payload may be over before its pilot had to report that it began.
            row = self.advance(row, lease, JobState.RUNNING)
        tries = row.tries + 1
        why = verdict(result, tries=tries, max_attempts=row.max_attempts, cancel_requested=row.cancel_requested)
        if lease.stop_reason and result.outcome in WITHOUT_CREDENTIAL and not row.cancel_requested:
            # The attempt did not fail by itself, so it does not count.
            why, tries = _without_credential(row, lease), row.tries
        leases.end(self.connection, lease.lease_id, now=self.now, result=result, end_state=why.state)
        self._settle(row, lease)
        self._changes.ended.append((result.outcome, result.reason))
        return self.move(row, why.state, why, tries=tries, result_attempt=lease.attempt)

    def give_back(self, row: JobRow, lease: LeaseRow, why: Verdict) -> JobRow:
        """End a lease whose payload never started; the attempt does not count."""
        if row.cancel_requested:
            why = CANCELLED
        elif lease.stop_reason:
            why = _without_credential(row, lease)
        elif row.attempt >= row.max_attempts + RELEASES:
            why = Verdict(
                JobState.FAILED, Reason.ATTEMPTS_EXHAUSTED.name, f"Given back unstarted too often. {why.message}"
            )
        moved = self.move(row, why.state, why)
        leases.end(self.connection, lease.lease_id, now=self.now, result=None, end_state=why.state)
        self._settle(row, lease)
        return moved

    def _settle(self, row: JobRow, lease: LeaseRow) -> None:
        """Replace what was charged in advance by what the lease took, as the server saw it."""
        began = from_microseconds(lease.start_us)
        cores = self._broker.requirements(self.connection, row.class_id).cores
        score = broker.refund(owners.score(self.connection, row.owner_id), lease.charged, began)
        used = cores * max((self.now - began).total_seconds(), 0.0)
        owners.set_score(self.connection, row.owner_id, broker.charge(score, used, self.now))


def _without_credential(row: JobRow, lease: LeaseRow) -> Verdict:
    """Hold a job whose attempt ended for want of its credential; with another one meanwhile it goes on."""
    if row.credential_id != lease.credential_id:
        return Verdict(JobState.ACTIVATED, lease.stop_reason, "The job has got another credential meanwhile.")
    return Verdict(JobState.HELD, lease.stop_reason, Reason[lease.stop_reason].row.text)
