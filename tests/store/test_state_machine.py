"""Random lives of jobs: two pilots, two keys, an owner, credentials that come and go, and a clock that jumps.

Against what must always hold.
"""

import asyncio
import datetime
import hashlib
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from pilotage.errors import LeaseError, NotFoundError, StateError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import FINAL, LEASED, MOVES, JobState, Outcome
from pilotage_server.store import migrate
from pilotage_server.workload import AttemptResult, Order, Report
from support.desks import ALICE, CREDENTIAL, OK, OTHER_PILOT, PILOT, Desks, ended, principal, spec

T = TypeVar("T")
STOLEN = principal("Pilot 1", "stolen")
SLOTS = 3
RESULTS = [
    OK,
    msgspec.structs.replace(OK, exit_code=0, message="again, but not the same"),
    ended(Outcome.PAYLOAD, exit_code=1),
    ended(Outcome.INFRASTRUCTURE, Reason.WORKSPACE_UNUSABLE),
    ended(Outcome.CREDENTIAL, Reason.CREDENTIAL_EXPIRED),
    ended(Outcome.IDENTITY, Reason.OWNER_BANNED),
    ended(Outcome.LIMIT, Reason.LIMIT_WALL_TIME),
    ended(Outcome.KILLED),
]
EXPECTED = (LeaseError, NotFoundError, StateError)


class Lease(msgspec.Struct, frozen=True):
    """A lease as one of the pilots remembers it."""

    lease_id: str
    pilot: int


class Jobs(RuleBasedStateMachine):
    """What owners and pilots do, in any order; an honest pilot and one with another's name."""

    jobs = Bundle("jobs")
    leases = Bundle("leases")

    template = b""
    """A migrated, empty database: migrating takes longer than a life."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp(prefix="state-machine-"))
        if not Jobs.template:
            migrate.upgrade(self.root / "jobs.sqlite", migrate.Kind.JOBS)
            Jobs.template = (self.root / "jobs.sqlite").read_bytes()
        (self.root / "jobs.sqlite").write_bytes(Jobs.template)
        self.run(self._open())
        self.finals: dict[str, tuple[JobState, AttemptResult | None]] = {}
        self.results: dict[str, AttemptResult] = {}

    async def _open(self) -> None:
        self.desks = Desks(self.root)
        self.callers = (PILOT, OTHER_PILOT)
        self.ids = [await self.desks.register(pilot, slots=SLOTS, renews=True) for pilot in self.callers]
        self.credential, self.withdrawn = CREDENTIAL, set[str]()

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    def attempt(self, work: Coroutine[object, object, T]) -> T | None:
        """Run something that may be refused, but only for a reason that belongs to leases, jobs or states."""
        try:
            return self.run(work)
        except EXPECTED:
            return None

    def teardown(self) -> None:
        self.run(self.desks.close())
        self.loop.close()
        shutil.rmtree(self.root)

    @rule(target=jobs, count=st.integers(1, 3), attempts=st.integers(1, 3))
    def submit(self, count: int, attempts: int) -> object:
        wanted = [spec(max_attempts=attempts) for _ in range(count)]
        work = self.desks.jobs.submit(ALICE, self.desks.request_id(), wanted, self.credential, key_of(self.credential))
        self.run(work)
        listed = self.run(self.desks.jobs.list_jobs(ALICE, (), None, count))
        return multiple(*(job.job_id for _, job in listed))

    @rule(target=leases, pilot=st.integers(0, 1), slots=st.integers(1, 4))
    def acquire(self, pilot: int, slots: int) -> object:
        grants = self.attempt(self.desks.take(self.ids[pilot], self.callers[pilot], slots)) or ()
        return multiple(*(Lease(grant.lease_id, pilot) for grant in grants))

    @rule(lease=leases, phase=st.sampled_from([None, JobState.STARTING, JobState.RUNNING, JobState.HOLDING]))
    def report(self, lease: Lease, phase: JobState | None) -> None:
        work = self.desks.pilots.heartbeat(
            self.callers[lease.pilot], self.ids[lease.pilot], [Report(lease.lease_id, phase)]
        )
        beat = self.run(work)
        live = self.run(self.desks.look("SELECT 1 FROM lease WHERE lease_id = ? AND end_us IS NULL", lease.lease_id))
        assert (beat.answers[0].order is not Order.LOST) == bool(live)

    @rule(lease=leases, result=st.sampled_from(RESULTS))
    def finish(self, lease: Lease, result: AttemptResult) -> None:
        caller, pilot_id = self.callers[lease.pilot], self.ids[lease.pilot]
        state = self.attempt(self.desks.pilots.finish(caller, pilot_id, lease.lease_id, result))
        if state is not None:
            # Whatever was accepted once is the only thing that is accepted again.
            assert self.results.setdefault(lease.lease_id, result) == result

    @rule(lease=leases, result=st.sampled_from(RESULTS))
    def finish_somebody_elses(self, lease: Lease, result: AttemptResult) -> None:
        other = 1 - lease.pilot
        for caller, pilot_id in ((self.callers[other], self.ids[other]), (STOLEN, self.ids[lease.pilot])):
            assert self.attempt(self.desks.pilots.finish(caller, pilot_id, lease.lease_id, result)) is None

    @rule(lease=leases)
    def release(self, lease: Lease) -> None:
        caller, pilot_id = self.callers[lease.pilot], self.ids[lease.pilot]
        self.attempt(self.desks.pilots.release(caller, pilot_id, lease.lease_id, "", ""))

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        (result,) = self.run(self.desks.jobs.cancel(ALICE, [job_id]))
        assert result.reason in ("", "JOB_FINAL")

    @rule(reason=st.sampled_from([Reason.CREDENTIAL_DESTROYED, Reason.CREDENTIAL_REVOKED]))
    def withdraw_the_credential_and_delegate_anew(self, reason: Reason) -> None:
        old, self.credential = self.credential, f"credential-{len(self.withdrawn) + 2}"
        self.desks.credentials.put(ALICE, self.desks.now + datetime.timedelta(days=20), self.credential)
        self.desks.credentials.withdraw(ALICE, old, reason)
        self.withdrawn.add(old)
        self.run(self.desks.credential_desk.look(old, ALICE.dn))

    @rule()
    def release_what_is_held(self) -> None:
        work = self.desks.credential_desk.rebind(ALICE, self.credential, key_of(self.credential))
        done = self.run(work)
        held = self.run(self.desks.look("SELECT COUNT(*) FROM job WHERE state = 4"))
        assert held == [(done.still_held,)]
        assert done.still_held == 0

    @rule(lease=leases)
    def issue_a_proxy(self, lease: Lease) -> None:
        self.run(self.desks.issue(lease.lease_id))

    @rule(lease=leases)
    def refuse_a_renewal(self, lease: Lease) -> None:
        self.run(self.desks.proxies.renewal_failed(lease.lease_id, refuse(Reason.CREDENTIAL_TOO_SHORT)))

    @rule(seconds=st.sampled_from([1, 60, 91, 181, 86400, -60]))
    def turn_the_clock(self, seconds: int) -> None:
        self.desks.turn(seconds)

    @rule()
    def sweep(self) -> None:
        self.run(self.desks.pilots.sweep())

    @rule(pilot=st.integers(0, 1))
    def leave_and_come_back(self, pilot: int) -> None:
        self.attempt(self.desks.pilots.deregister(self.callers[pilot], self.ids[pilot]))
        self.ids[pilot] = self.run(self.desks.register(self.callers[pilot], slots=SLOTS, renews=True))

    @rule()
    def restart_the_server(self) -> None:
        async def restart() -> None:
            await self.desks.close()
            self.desks.open()
            await self.desks.pilots.start()

        self.run(restart())

    @invariant()
    def at_most_one_lease_of_a_job_is_live(self) -> None:
        query = "SELECT job_seq FROM lease WHERE end_us IS NULL GROUP BY job_seq HAVING COUNT(*) > 1"
        assert self.run(self.desks.look(query)) == []

    @invariant()
    def a_job_is_leased_exactly_when_a_lease_is_live(self) -> None:
        rows = self.run(
            self.desks.look(
                "SELECT state, job.lease_id, lease.lease_id, job.attempt, lease.attempt FROM job"
                " LEFT JOIN lease ON lease.job_seq = job.job_seq AND lease.end_us IS NULL"
            )
        )
        for state, named, live, attempt, newest in rows:
            assert (state in LEASED) == (live is not None)
            assert named == live
            assert newest in (None, attempt)

    @invariant()
    def no_pilot_holds_more_than_its_slots(self) -> None:
        query = "SELECT COUNT(*) FROM lease WHERE end_us IS NULL GROUP BY pilot_id"
        assert all(count <= SLOTS for (count,) in self.run(self.desks.look(query)) if isinstance(count, int))

    @invariant()
    def every_move_is_allowed_and_written_once(self) -> None:
        query = "SELECT job_seq, from_state, to_state FROM event ORDER BY event_seq"
        at: dict[object, object] = {}
        for job_seq, source, target in self.run(self.desks.look(query)):
            assert at.get(job_seq, 0) == source
            assert isinstance(source, int)
            assert source in (0, target) or target in MOVES[JobState(source)]
            at[job_seq] = target
        assert dict(self.run(self.desks.look("SELECT job_seq, state FROM job"))) == at  # type: ignore[arg-type]

    @invariant()
    def final_is_final(self) -> None:
        for _, job in self.run(self.desks.jobs.list_jobs(ALICE, (), None, 1000)):
            if job.job_id in self.finals:
                assert self.finals[job.job_id] == (job.state, job.result)
            if job.state in FINAL:
                self.finals[job.job_id] = (job.state, job.result)

    @invariant()
    def counters_agree(self) -> None:
        counted = self.run(self.desks.look("SELECT COALESCE(SUM(state = 3), 0), COALESCE(SUM(state < 9), 0) FROM job"))
        queued = self.run(self.desks.look("SELECT COALESCE(SUM(queued), 0) FROM queue"))
        unfinished = self.run(self.desks.look("SELECT COALESCE(SUM(open_jobs), 0) FROM owner"))
        assert counted == [(*queued[0], *unfinished[0])]

    @invariant()
    def keys_are_kept_for_open_jobs_only(self) -> None:
        query = "SELECT COUNT(*) FROM job LEFT JOIN job_key USING (job_seq) WHERE (state >= 9) = (wrapped IS NOT NULL)"
        assert self.run(self.desks.look(query)) == [(0,)]

    @invariant()
    def nothing_waits_with_a_credential_that_was_withdrawn(self) -> None:
        for (credential_id,) in self.run(self.desks.look("SELECT DISTINCT credential_id FROM job WHERE state = 3")):
            assert credential_id not in self.withdrawn

    @invariant()
    def each_key_is_the_one_of_the_jobs_credential(self) -> None:
        query = "SELECT job_id, credential_id, wrapped FROM job JOIN job_key USING (job_seq)"
        for job_id, credential_id, wrapped in self.run(self.desks.look(query)):
            assert isinstance(job_id, str)
            assert isinstance(credential_id, str)
            assert isinstance(wrapped, bytes)
            key = self.desks.wrapping.unwrap(wrapped, job_id=job_id, owner_dn=ALICE.dn, credential_id=credential_id)
            assert key.reveal() == key_of(credential_id).reveal()


def key_of(credential_id: str) -> Secret:
    """Return the retrieval key that the owner made for a credential."""
    return Secret(hashlib.sha256(credential_id.encode()).digest())


TestJobs = Jobs.TestCase
TestJobs.settings = settings(
    max_examples=25,
    stateful_step_count=30,
)
