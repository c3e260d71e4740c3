"""Jobs whose credential serves no more: held with the reason, ended where they run, released by a new delegation."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.v1 import credential_pb2 as pb
from pilotage.v1 import job_pb2, pilot_pb2
from pilotage.wire_errors import translated
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server.app import App
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_rig import OWNER_ROLE, Client, Rig

HELD, ACTIVATED = job_pb2.JOB_STATE_HELD, job_pb2.JOB_STATE_ACTIVATED
KILLED = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_KILLED, reason="CANCELLED_BY_OWNER", signal=15)


@pytest.fixture
def identity(alice_proxy: Path) -> LocalIdentity:
    return load_identity(alice_proxy)


def new(owner: Client, identity: LocalIdentity, hours: float = 10) -> Delegated:
    return delegate(owner, identity, kind=KeyKind.EC_P256, lifetime_seconds=int(hours * 3600))


def rebind(owner: Client, delegated: Delegated) -> tuple[int, int]:
    """Give a credential to the jobs that wait for one; return how many were released, and not."""
    request = job_pb2.RebindCredentialRequest(
        credential_id=delegated.credential_id, retrieval_key=delegated.retrieval_key
    )
    done = owner.jobs.RebindCredential(request)
    return done.released, done.still_held


def destroy(caller: Client, delegated: Delegated) -> None:
    caller.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=delegated.credential_id))


def job(owner: Client, job_id: str) -> job_pb2.Job:
    return owner.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)).job


def state(owner: Client, job_id: str) -> tuple[int, str]:
    found = job(owner, job_id)
    return found.state, found.reason


def stored_state(rig: Rig, job_id: str) -> tuple[int, str]:
    """Return a job's state and reason as the database has them."""
    with contextlib.closing(sqlite3.connect(rig.state / "jobs.sqlite")) as connection:
        found: tuple[int, str] = connection.execute(
            "SELECT state, reason FROM job WHERE job_id = ?", (job_id,)
        ).fetchone()
    return found


def beat(pilot: Client, pilot_id: str, lease: pilot_pb2.Lease) -> tuple[int, str]:
    """Report a running payload; return order and reason."""
    report = pilot_pb2.LeaseReport(lease_id=lease.lease_id, phase=pilot_pb2.ATTEMPT_PHASE_RUNNING)
    (answer,) = pilot.pilots.Heartbeat(pilot_pb2.HeartbeatRequest(pilot_id=pilot_id, reports=[report])).answers
    return answer.order, answer.reason


def finish(pilot: Client, pilot_id: str, lease: pilot_pb2.Lease, result: job_pb2.AttemptResult) -> int:
    """End an attempt; return the job's state."""
    request = pilot_pb2.FinishJobRequest(pilot_id=pilot_id, lease_id=lease.lease_id, result=result)
    return pilot.pilots.FinishJob(request).state


# waiting jobs


def test_a_destroyed_credential_holds_what_waits_at_once(owner: Client, identity: LocalIdentity) -> None:
    first, other = new(owner, identity), new(owner, identity)
    waiting, safe = submit(owner, first), submit(owner, other)
    destroy(owner, first)
    assert state(owner, waiting) == (HELD, "CREDENTIAL_DESTROYED")
    assert job(owner, waiting).message == Reason.CREDENTIAL_DESTROYED.row.text
    assert state(owner, safe) == (ACTIVATED, "")


def test_a_new_delegation_releases_held_jobs_with_its_own_key(
    owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    first = new(owner, identity)
    job_ids = [submit(owner, first) for _ in range(3)]
    destroy(owner, first)
    second = new(owner, identity)
    assert rebind(owner, second) == (3, 0)
    assert rebind(owner, second) == (0, 0)
    for job_id in job_ids:
        assert state(owner, job_id) == (ACTIVATED, "")
        assert job(owner, job_id).credential_id == second.credential_id
    lease = acquire(pilot, register(pilot))
    assert lease.credential_id == second.credential_id
    assert lease.retrieval_key == second.retrieval_key
    pilot.credentials.RetrieveCredential(retrieve_request(lease))


def test_many_held_jobs_are_released_in_one_call(owner: Client, identity: LocalIdentity) -> None:
    first = new(owner, identity)
    specs = [job_pb2.JobSpec(command=["/bin/true"])] * 450
    owner.jobs.SubmitJobs(
        job_pb2.SubmitJobsRequest(
            request_id="many", specs=specs, credential_id=first.credential_id, retrieval_key=first.retrieval_key
        )
    )
    destroy(owner, first)
    assert len(owner.jobs.ListJobs(job_pb2.ListJobsRequest(states=[HELD], page_size=1000)).jobs) == 450
    assert rebind(owner, new(owner, identity)) == (450, 0)


def test_a_credential_releases_only_jobs_of_its_own_vo_and_role(
    rig: Rig, grid: ToyGrid, alice: Identity, owner: Client, identity: LocalIdentity, tmp_path: Path
) -> None:
    first = new(owner, identity)
    job_id = submit(owner, first)
    destroy(owner, first)
    fqans = ("/demo/production", OWNER_ROLE)
    other = load_identity(grid.voms_proxy(alice, tmp_path / "production", fqans=fqans))
    as_production = rig.client(other)
    assert rebind(as_production, new(as_production, other)) == (0, 0)
    assert state(owner, job_id) == (HELD, "CREDENTIAL_DESTROYED")


def test_nobody_binds_anothers_jobs_or_credential(
    rig: Rig, owner: Client, identity: LocalIdentity, bob_proxy: Path
) -> None:
    first = new(owner, identity)
    job_id = submit(owner, first)
    destroy(owner, first)
    bob, bobs = rig.client(bob_proxy), load_identity(bob_proxy)
    assert rebind(bob, new(bob, bobs)) == (0, 0)
    assert reason(rebind, bob, new(owner, identity)) is Reason.CREDENTIAL_NOT_FOUND
    assert reason(rebind, owner, first) is Reason.CREDENTIAL_DESTROYED
    assert state(owner, job_id)[0] == HELD


def test_a_key_that_is_none_is_refused(owner: Client, identity: LocalIdentity) -> None:
    made = new(owner, identity)
    assert reason(rebind, owner, Delegated(made.credential_id, b"short", made.message)) is Reason.INVALID_ARGUMENT


def test_a_credential_that_becomes_too_short_holds_what_waits(rig: Rig, owner: Client, identity: LocalIdentity) -> None:
    job_id = submit(owner, new(owner, identity, hours=3))
    rig.clock.turn(2 * 3600)
    rig.call(App.prune)
    assert state(owner, job_id) == (HELD, "CREDENTIAL_TOO_SHORT")
    assert rebind(owner, new(owner, identity, hours=3)) == (0, 1)
    assert rebind(owner, new(owner, identity, hours=8)) == (1, 0)
    assert state(owner, job_id) == (ACTIVATED, "")


def test_an_expired_credential_holds_what_waits(rig: Rig, owner: Client, identity: LocalIdentity) -> None:
    job_id = submit(owner, new(owner, identity, hours=2))
    rig.clock.turn(2 * 3600)
    rig.call(App.prune)
    assert state(owner, job_id) == (HELD, "CREDENTIAL_EXPIRED")


def test_a_message_that_is_lost_costs_no_more_than_a_minute(rig: Rig, owner: Client, identity: LocalIdentity) -> None:
    """The credential's row changes without JobService being told, as in a crash between the two databases."""
    job_id = submit(owner, new(owner, identity))
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as connection:
        connection.execute("UPDATE credentials SET sealed = NULL, destroy_time = 1")
        connection.commit()
    assert state(owner, job_id)[0] == ACTIVATED
    rig.call(App.prune)
    assert state(owner, job_id) == (HELD, "CREDENTIAL_DESTROYED")


# submission


def test_a_submission_chooses_between_refusal_and_hold(owner: Client, identity: LocalIdentity) -> None:
    short = new(owner, identity, hours=1)
    assert reason(submit, owner, short) is Reason.CREDENTIAL_TOO_SHORT
    assert state(owner, submit(owner, short, hold=True)) == (HELD, "CREDENTIAL_TOO_SHORT")
    gone = new(owner, identity)
    destroy(owner, gone)
    assert reason(submit, owner, gone) is Reason.CREDENTIAL_DESTROYED
    assert state(owner, submit(owner, gone, hold=True)) == (HELD, "CREDENTIAL_DESTROYED")
    assert state(owner, submit(owner, new(owner, identity), hold=True)) == (ACTIVATED, "")
    assert rebind(owner, new(owner, identity)) == (2, 0)
    nothing = Delegated("no such", b"k" * 32, gone.message)
    assert reason(submit, owner, nothing, hold=True) is Reason.CREDENTIAL_NOT_FOUND


@pytest.fixture
def leaver(grid: ToyGrid, tmp_path: Path) -> tuple[Identity, LocalIdentity]:
    """Somebody whose certificate will be revoked."""
    who = grid.user(f"Leaver {tmp_path.name}")
    return who, load_identity(grid.voms_proxy(who, tmp_path / "leaver", fqans=(OWNER_ROLE, "/demo")))


def test_a_revoked_credential_is_found_at_submission(
    rig: Rig, grid: ToyGrid, leaver: tuple[Identity, LocalIdentity]
) -> None:
    who, identity = leaver
    owner = rig.client(identity)
    made = new(owner, identity)
    assert state(owner, submit(owner, made)) == (ACTIVATED, "")
    grid.revoke(who)
    assert reason(submit, owner, made) is Reason.CREDENTIAL_REVOKED
    assert state(owner, submit(owner, made, hold=True)) == (HELD, "CREDENTIAL_REVOKED")


def test_a_revocation_is_found_on_a_timer_and_ends_what_runs(
    rig: Rig,
    grid: ToyGrid,
    pilot: Client,
    leaver: tuple[Identity, LocalIdentity],
    owner: Client,
    identity: LocalIdentity,
) -> None:
    who, proxy = leaver
    theirs = rig.client(proxy)
    made = new(theirs, proxy)
    running, pilot_id, lease = running_job(theirs, pilot, made)
    waiting = submit(theirs, made)
    untouched = submit(owner, new(owner, identity))
    grid.revoke(who)
    assert beat(pilot, pilot_id, lease) == (pilot_pb2.LEASE_ORDER_CONTINUE, "")
    rig.call(App.check_credentials)
    assert beat(pilot, pilot_id, lease) == (pilot_pb2.LEASE_ORDER_KILL, "CREDENTIAL_REVOKED")
    # Whoever is revoked is told so, and nothing else any more.
    with pytest.raises(PilotageError, match="CERTIFICATE_REVOKED"), translated():
        state(theirs, waiting)
    assert stored_state(rig, waiting) == (HELD, "CREDENTIAL_REVOKED")
    assert finish(pilot, pilot_id, lease, KILLED) == HELD
    assert stored_state(rig, running) == (HELD, "CREDENTIAL_REVOKED")
    assert state(owner, untouched) == (ACTIVATED, "")
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as connection:
        assert connection.execute("SELECT credential_id FROM revocations").fetchall() == [(made.credential_id,)]
    rig.call(App.check_credentials)
    assert (rig.state / "audit.jsonl").read_text().count('"credential revoked"') == 1


# payloads that run


def running_job(owner: Client, pilot: Client, made: Delegated) -> tuple[str, str, pilot_pb2.Lease]:
    """Have a job run; return it, its pilot and its lease."""
    job_id = submit(owner, made)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    assert beat(pilot, pilot_id, lease) == (pilot_pb2.LEASE_ORDER_CONTINUE, "")
    return job_id, pilot_id, lease


def test_a_destroyed_credential_ends_what_runs_at_the_next_report(
    owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    made = new(owner, identity)
    job_id, pilot_id, lease = running_job(owner, pilot, made)
    destroy(owner, made)
    assert beat(pilot, pilot_id, lease) == (pilot_pb2.LEASE_ORDER_KILL, "CREDENTIAL_DESTROYED")
    assert finish(pilot, pilot_id, lease, KILLED) == HELD
    assert finish(pilot, pilot_id, lease, KILLED) == HELD
    found = job(owner, job_id)
    assert (found.state, found.reason, found.result.reason) == (HELD, "CREDENTIAL_DESTROYED", "CREDENTIAL_DESTROYED")
    assert rebind(owner, new(owner, identity)) == (1, 0)
    again = acquire(pilot, pilot_id)
    assert (again.job_id, again.attempt) == (job_id, 2)


def test_a_job_that_got_a_new_credential_before_it_was_ended_goes_on_at_once(
    owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    made = new(owner, identity)
    job_id, pilot_id, lease = running_job(owner, pilot, made)
    destroy(owner, made)
    second = new(owner, identity)
    assert rebind(owner, second) == (0, 0)
    assert beat(pilot, pilot_id, lease) == (pilot_pb2.LEASE_ORDER_KILL, "CREDENTIAL_DESTROYED")
    assert finish(pilot, pilot_id, lease, KILLED) == ACTIVATED
    again = acquire(pilot, pilot_id)
    assert (again.job_id, again.credential_id) == (job_id, second.credential_id)
    pilot.credentials.RetrieveCredential(retrieve_request(again))


def test_a_job_whose_second_credential_goes_too_is_held_until_there_is_a_third(
    owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    first, second = new(owner, identity), new(owner, identity)
    job_id, pilot_id, lease = running_job(owner, pilot, first)
    destroy(owner, first)
    assert rebind(owner, second) == (0, 0)
    destroy(owner, second)
    assert finish(pilot, pilot_id, lease, KILLED) == HELD
    assert state(owner, job_id) == (HELD, "CREDENTIAL_DESTROYED")
    assert rebind(owner, new(owner, identity)) == (1, 0)


def test_a_payload_that_ends_well_although_told_to_end_has_ended_well(
    owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    made = new(owner, identity)
    job_id, pilot_id, lease = running_job(owner, pilot, made)
    destroy(owner, made)
    well = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_OK)
    assert finish(pilot, pilot_id, lease, well) == job_pb2.JOB_STATE_FINISHED
    assert state(owner, job_id) == (job_pb2.JOB_STATE_FINISHED, "")


def test_a_job_that_never_got_its_proxy_is_held_too(owner: Client, pilot: Client, identity: LocalIdentity) -> None:
    made = new(owner, identity)
    job_id = submit(owner, made)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    destroy(owner, made)
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.CREDENTIAL_DESTROYED
    release = pilot_pb2.ReleaseJobRequest(pilot_id=pilot_id, lease_id=lease.lease_id, reason="CREDENTIAL_DESTROYED")
    pilot.pilots.ReleaseJob(release)
    assert state(owner, job_id) == (HELD, "CREDENTIAL_DESTROYED")


def test_a_lost_pilot_leaves_a_job_without_credential_held(
    rig: Rig, owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    made = new(owner, identity)
    job_id, _, _ = running_job(owner, pilot, made)
    destroy(owner, made)
    rig.clock.turn(400)
    rig.call(lambda app: app._pilot_desk.sweep())
    assert state(owner, job_id) == (HELD, "CREDENTIAL_DESTROYED")


def test_a_cancelled_job_is_cancelled_whatever_its_credential(
    owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    made = new(owner, identity)
    job_id, pilot_id, lease = running_job(owner, pilot, made)
    destroy(owner, made)
    owner.jobs.CancelJobs(job_pb2.CancelJobsRequest(job_ids=[job_id]))
    assert beat(pilot, pilot_id, lease) == (pilot_pb2.LEASE_ORDER_KILL, "CANCELLED_BY_OWNER")
    assert finish(pilot, pilot_id, lease, KILLED) == job_pb2.JOB_STATE_CANCELLED


def test_a_pilot_that_was_told_to_end_gets_no_more_tokens_however_long_it_goes_on(
    owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    """One that is not ours may report for ever, and so keep its lease."""
    kept = new(owner, identity)
    job_id, pilot_id, lease = running_job(owner, pilot, kept)
    again = pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    pilot.pilots.RefreshCredentialToken(again)
    owner.jobs.CancelJobs(job_pb2.CancelJobsRequest(job_ids=[job_id]))
    for _ in range(2):
        assert reason(pilot.pilots.RefreshCredentialToken, again) is Reason.CANCELLED_BY_OWNER
        assert beat(pilot, pilot_id, lease) == (pilot_pb2.LEASE_ORDER_KILL, "CANCELLED_BY_OWNER")
    assert finish(pilot, pilot_id, lease, KILLED) == job_pb2.JOB_STATE_CANCELLED
    _, other_id, lease = running_job(owner, pilot, kept)
    again = pilot_pb2.RefreshCredentialTokenRequest(pilot_id=other_id, lease_id=lease.lease_id)
    destroy(owner, kept)
    # A new credential is for the next attempt, not for this one.
    assert rebind(owner, new(owner, identity)) == (0, 0)
    assert reason(pilot.pilots.RefreshCredentialToken, again) is Reason.CREDENTIAL_DESTROYED


def test_an_admin_destroys_what_others_cannot(
    rig: Rig, owner: Client, identity: LocalIdentity, admin: LocalIdentity, bob_proxy: Path
) -> None:
    made = new(owner, identity)
    job_id = submit(owner, made)
    assert reason(destroy, rig.client(bob_proxy), made) is Reason.CREDENTIAL_NOT_FOUND
    destroy(rig.client(admin), made)
    assert state(owner, job_id) == (HELD, "CREDENTIAL_DESTROYED")
