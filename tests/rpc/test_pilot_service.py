"""PilotService over the wire: leases given, reported, ended, and refused to everybody else."""

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage.v1 import job_pb2
from pilotage.v1 import pilot_pb2 as pb
from pilotage.x509.files import load_identity
from pilotage_server.app import App
from support.journey import Delegated, acquire, delegate, register, submit
from support.refusals import reason
from support.server_rig import PILOT_ROLE, Client, Rig

OK = job_pb2.AttemptResult(
    outcome=job_pb2.OUTCOME_OK,
    usage=job_pb2.Usage(wall_seconds=1.5, cpu_user_seconds=0.5, cpu_system_seconds=0.25, max_rss_bytes=12345),
    account="pool001",
    uid=5001,
    pilot_uid=1001,
    worker_node="wn1",
)


@pytest.fixture
def delegated(owner: Client, alice_proxy: Path) -> Delegated:
    return delegate(owner, load_identity(alice_proxy))


@pytest.fixture
def pilot_id(pilot: Client) -> str:
    return register(pilot)


@pytest.fixture
def lease(owner: Client, pilot: Client, pilot_id: str, delegated: Delegated) -> pb.Lease:
    submit(owner, delegated)
    return acquire(pilot, pilot_id)


def finish(pilot_id: str, lease_id: str, result: job_pb2.AttemptResult = OK) -> pb.FinishJobRequest:
    return pb.FinishJobRequest(pilot_id=pilot_id, lease_id=lease_id, result=result)


def beat(pilot: Client, pilot_id: str, lease_id: str, phase: int = pb.ATTEMPT_PHASE_RUNNING) -> pb.LeaseAnswer:
    report = pb.LeaseReport(lease_id=lease_id, phase=pb.AttemptPhase.ValueType(phase), account="pool001", uid=5001)
    return pilot.pilots.Heartbeat(pb.HeartbeatRequest(pilot_id=pilot_id, reports=[report])).answers[0]


def state(owner: Client, job_id: str) -> job_pb2.Job:
    return owner.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)).job


def test_a_pilot_is_told_how_often_to_report(pilot: Client) -> None:
    offer = pb.PilotOffer(site="TOY", slots=1, cores=1, wall_time=Duration(seconds=3600))
    request = pb.RegisterPilotRequest(request_id=str(uuid.uuid4()), offer=offer)
    first = pilot.pilots.RegisterPilot(request)
    assert first.heartbeat_interval.seconds == 20
    assert pilot.pilots.RegisterPilot(request).pilot_id == first.pilot_id


def test_an_owner_is_no_pilot(owner: Client) -> None:
    for refused in (
        reason(owner.pilots.RegisterPilot, pb.RegisterPilotRequest()),
        reason(owner.pilots.AcquireJobs, pb.AcquireJobsRequest()),
        reason(owner.pilots.Heartbeat, pb.HeartbeatRequest()),
        reason(owner.pilots.FinishJob, pb.FinishJobRequest()),
        reason(owner.pilots.RefreshCredentialToken, pb.RefreshCredentialTokenRequest()),
    ):
        assert refused is Reason.ROLE_REQUIRED


def test_a_lease_says_what_to_run_for_whom(
    owner: Client, lease: pb.Lease, delegated: Delegated, alice: Identity
) -> None:
    assert (lease.owner_dn, lease.attempt) == (alice.dn, 1)
    assert list(lease.spec.command) == ["/bin/true"]
    assert lease.credential_id == delegated.credential_id
    assert lease.retrieval_key == delegated.retrieval_key
    assert lease.credential_token.count(".") == 2
    assert state(owner, lease.job_id).state == job_pb2.JOB_STATE_SENT


def test_nothing_of_a_lease_is_logged(rig: Rig, lease: pb.Lease) -> None:
    assert lease.credential_token not in rig.log_text
    assert lease.retrieval_key.hex() not in rig.log_text


def test_a_pilot_that_asks_for_nothing_is_told_so(pilot: Client, pilot_id: str) -> None:
    assert reason(pilot.pilots.AcquireJobs, pb.AcquireJobsRequest(pilot_id=pilot_id)) is Reason.INVALID_ARGUMENT
    stranger = pb.AcquireJobsRequest(pilot_id="stranger", slots=1)
    assert reason(pilot.pilots.AcquireJobs, stranger) is Reason.PILOT_NOT_REGISTERED


def test_when_there_is_no_work_a_pilot_is_told_when_to_come_back(pilot: Client, pilot_id: str) -> None:
    answer = pilot.pilots.AcquireJobs(
        pb.AcquireJobsRequest(pilot_id=pilot_id, slots=1, wait=Duration(nanos=10_000_000))
    )
    assert not answer.leases
    assert answer.retry_after.seconds > 0
    assert not answer.drain


async def somebody_waits(app: App) -> None:
    while not app._notices._places:  # noqa: ASYNC110 -- a rig of the real server has nothing to wait on
        await asyncio.sleep(0.01)


def test_a_waiting_pilot_hears_of_a_job_at_once(
    rig: Rig, owner: Client, pilot: Client, pilot_id: str, delegated: Delegated
) -> None:
    request = pb.AcquireJobsRequest(pilot_id=pilot_id, slots=1, wait=Duration(seconds=60))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pilot.pilots.AcquireJobs, request, timeout=120)
        rig.call(somebody_waits)
        began = time.monotonic()
        job_id = submit(owner, delegated)
        (lease,) = waiting.result().leases
    assert lease.job_id == job_id
    # Not at the end of its wait.
    assert time.monotonic() - began < 20


def test_a_pilot_gets_no_more_than_its_slots(owner: Client, pilot: Client, delegated: Delegated) -> None:
    for _ in range(3):
        submit(owner, delegated)
    pilot_id = register(pilot, slots=2)
    request = pb.AcquireJobsRequest(pilot_id=pilot_id, slots=3)
    assert len(pilot.pilots.AcquireJobs(request).leases) == 2
    assert reason(pilot.pilots.AcquireJobs, request) is Reason.TOO_MANY_LEASES


def test_an_attempt_is_reported_and_ended(owner: Client, pilot: Client, pilot_id: str, lease: pb.Lease) -> None:
    assert beat(pilot, pilot_id, lease.lease_id, pb.ATTEMPT_PHASE_STARTING).order == pb.LEASE_ORDER_CONTINUE
    answer = beat(pilot, pilot_id, lease.lease_id)
    assert answer.order == pb.LEASE_ORDER_CONTINUE
    assert answer.expire_time.ToDatetime() > lease.expire_time.ToDatetime()
    assert state(owner, lease.job_id).state == job_pb2.JOB_STATE_RUNNING
    done = finish(pilot_id, lease.lease_id)
    for _ in range(2):
        assert pilot.pilots.FinishJob(done).state == job_pb2.JOB_STATE_FINISHED
    job = state(owner, lease.job_id)
    assert job.state == job_pb2.JOB_STATE_FINISHED
    assert job.result == OK
    other = finish(pilot_id, lease.lease_id, job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_PAYLOAD, exit_code=1))
    assert reason(pilot.pilots.FinishJob, other) is Reason.OUTCOME_ALREADY_RECORDED


def test_a_cancelled_job_is_killed_at_the_next_report(
    owner: Client, pilot: Client, pilot_id: str, lease: pb.Lease
) -> None:
    beat(pilot, pilot_id, lease.lease_id)
    owner.jobs.CancelJobs(job_pb2.CancelJobsRequest(job_ids=[lease.job_id]))
    assert state(owner, lease.job_id).cancel_requested
    assert beat(pilot, pilot_id, lease.lease_id).order == pb.LEASE_ORDER_KILL
    killed = finish(pilot_id, lease.lease_id, job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_KILLED, signal=15))
    assert pilot.pilots.FinishJob(killed).state == job_pb2.JOB_STATE_CANCELLED


def test_a_second_pilot_cannot_touch_a_lease(
    rig: Rig, pilot: Client, pilot_id: str, lease: pb.Lease, other_pilot_proxy: Path
) -> None:
    other = rig.client(other_pilot_proxy)
    own_id = register(other)
    for claimed in (pilot_id, own_id):
        assert reason(other.pilots.FinishJob, finish(claimed, lease.lease_id)) is Reason.LEASE_FOREIGN
        release = pb.ReleaseJobRequest(pilot_id=claimed, lease_id=lease.lease_id)
        assert reason(other.pilots.ReleaseJob, release) is Reason.LEASE_FOREIGN
        refresh = pb.RefreshCredentialTokenRequest(pilot_id=claimed, lease_id=lease.lease_id)
        assert reason(other.pilots.RefreshCredentialToken, refresh) is Reason.LEASE_FOREIGN
    answer = beat(other, own_id, lease.lease_id)
    assert (answer.order, answer.reason) == (pb.LEASE_ORDER_LOST, "LEASE_FOREIGN")
    assert pilot.pilots.FinishJob(finish(pilot_id, lease.lease_id)).state == job_pb2.JOB_STATE_FINISHED


def test_the_same_robot_with_another_key_cannot_touch_a_lease(
    rig: Rig, grid: ToyGrid, robot: Identity, pilot_id: str, lease: pb.Lease, pilot_proxy: Path, tmp_path: Path
) -> None:
    another = rig.client(grid.voms_proxy(robot, tmp_path / "another.proxy", fqans=(PILOT_ROLE, "/demo")))
    assert reason(another.pilots.FinishJob, finish(pilot_id, lease.lease_id)) is Reason.LEASE_FOREIGN
    beat_request = pb.HeartbeatRequest(pilot_id=pilot_id)
    assert reason(another.pilots.Heartbeat, beat_request) is Reason.PILOT_NOT_REGISTERED
    # The same key in a new session is the same pilot.
    again = rig.client(pilot_proxy)
    assert again.pilots.FinishJob(finish(pilot_id, lease.lease_id)).state == job_pb2.JOB_STATE_FINISHED


def test_a_lease_that_expires_is_offered_again_and_the_old_one_is_dead(
    rig: Rig, owner: Client, pilot: Client, pilot_id: str, lease: pb.Lease, other_pilot_proxy: Path
) -> None:
    beat(pilot, pilot_id, lease.lease_id)
    rig.clock.turn(200)
    rig.call(lambda app: app._pilot_desk.sweep())
    other = rig.client(other_pilot_proxy)
    other_id = register(other)
    second = acquire(other, other_id)
    assert (second.job_id, second.attempt) == (lease.job_id, 2)
    assert beat(pilot, pilot_id, lease.lease_id).order == pb.LEASE_ORDER_LOST
    assert reason(pilot.pilots.FinishJob, finish(pilot_id, lease.lease_id)) is Reason.LEASE_EXPIRED
    assert other.pilots.FinishJob(finish(other_id, second.lease_id)).state == job_pb2.JOB_STATE_FINISHED
    assert state(owner, lease.job_id).attempt == 2


def test_a_job_that_runs_while_the_server_restarts_ends_once_and_correctly(
    rig: Rig, pilot: Client, pilot_id: str, lease: pb.Lease, pilot_proxy: Path, alice_proxy: Path
) -> None:
    beat(pilot, pilot_id, lease.lease_id)
    rig.stop()
    rig.clock.turn(600)
    rig.start()
    rig.call(lambda app: app._pilot_desk.sweep())
    pilot, owner = rig.client(pilot_proxy), rig.client(alice_proxy)
    assert beat(pilot, pilot_id, lease.lease_id).order == pb.LEASE_ORDER_CONTINUE
    for _ in range(2):
        assert pilot.pilots.FinishJob(finish(pilot_id, lease.lease_id)).state == job_pb2.JOB_STATE_FINISHED
    events = owner.jobs.ListJobEvents(job_pb2.ListJobEventsRequest(job_id=lease.job_id)).events
    assert [event.to_state for event in events].count(job_pb2.JOB_STATE_FINISHED) == 1


def test_a_job_given_back_is_offered_again(pilot: Client, pilot_id: str, lease: pb.Lease) -> None:
    release = pb.ReleaseJobRequest(pilot_id=pilot_id, lease_id=lease.lease_id, reason="PILOT_DRAINING")
    for _ in range(2):
        pilot.pilots.ReleaseJob(release)
    again = acquire(pilot, pilot_id)
    assert (again.job_id, again.attempt) == (lease.job_id, 2)
    beat(pilot, pilot_id, again.lease_id)
    release.lease_id = again.lease_id
    assert reason(pilot.pilots.ReleaseJob, release) is Reason.TRANSITION_REFUSED


def test_a_pilot_that_leaves_frees_its_jobs(owner: Client, pilot: Client, pilot_id: str, lease: pb.Lease) -> None:
    for _ in range(2):
        pilot.pilots.DeregisterPilot(pb.DeregisterPilotRequest(pilot_id=pilot_id))
    assert state(owner, lease.job_id).state == job_pb2.JOB_STATE_ACTIVATED
    assert reason(pilot.pilots.Heartbeat, pb.HeartbeatRequest(pilot_id=pilot_id)) is Reason.PILOT_NOT_REGISTERED


@pytest.mark.parametrize(
    "result",
    [
        job_pb2.AttemptResult(),
        job_pb2.AttemptResult(outcome=99),  # type: ignore[arg-type]
        job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_LOST, reason="PILOT_LOST"),
        job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_INFRASTRUCTURE),
        job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_INFRASTRUCTURE, reason="MADE_UP"),
        job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_OK, usage=job_pb2.Usage(wall_seconds=float("nan"))),
    ],
)
def test_a_result_that_cannot_be_is_refused(
    pilot: Client, pilot_id: str, lease: pb.Lease, result: job_pb2.AttemptResult
) -> None:
    assert reason(pilot.pilots.FinishJob, finish(pilot_id, lease.lease_id, result)) is Reason.INVALID_ARGUMENT


def test_a_phase_that_does_not_exist_is_refused(pilot: Client, pilot_id: str, lease: pb.Lease) -> None:
    report = pb.LeaseReport(lease_id=lease.lease_id, phase=9)  # type: ignore[arg-type]
    request = pb.HeartbeatRequest(pilot_id=pilot_id, reports=[report])
    assert reason(pilot.pilots.Heartbeat, request) is Reason.INVALID_ARGUMENT


def test_a_log_with_a_gap_is_refused(pilot: Client, pilot_id: str, lease: pb.Lease) -> None:
    request = pb.AppendLogRequest(
        pilot_id=pilot_id, lease_id=lease.lease_id, stream=job_pb2.LOG_STREAM_STDOUT, offset=5, data=b"x"
    )
    assert reason(pilot.pilots.AppendLog, request) is Reason.LOG_OFFSET
    request.stream = job_pb2.LOG_STREAM_UNSPECIFIED
    assert reason(pilot.pilots.AppendLog, request) is Reason.INVALID_ARGUMENT
