"""JobService over the wire: what owners get, and what nobody else does."""

import asyncio
import hashlib
import io
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage.sandbox import pack
from pilotage.v1 import job_pb2 as pb
from pilotage.v1 import pilot_pb2
from pilotage.wire_errors import reason_of
from pilotage.x509.files import load_identity
from support.journey import Delegated, acquire, delegate, register
from support.refusals import reason
from support.server_rig import Client, Rig


@pytest.fixture
def delegated(owner: Client, alice_proxy: Path) -> Delegated:
    return delegate(owner, load_identity(alice_proxy))


@pytest.fixture
def other_owner(rig: Rig, bob_proxy: Path) -> Client:
    return rig.client(bob_proxy)


def request(delegated: Delegated, *specs: pb.JobSpec) -> pb.SubmitJobsRequest:
    return pb.SubmitJobsRequest(
        request_id=str(uuid.uuid4()),
        specs=specs or [pb.JobSpec(command=["/bin/true"])],
        credential_id=delegated.credential_id,
        retrieval_key=delegated.retrieval_key,
    )


def submit(owner: Client, delegated: Delegated, *specs: pb.JobSpec) -> list[str]:
    return list(owner.jobs.SubmitJobs(request(delegated, *specs)).job_ids)


def get(owner: Client, job_id: str) -> pb.Job:
    return owner.jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job


def upload(
    who: Client, data: bytes, *, lease_id: str = "", sha256: str = "", size: int | None = None, piece: int = 100_000
) -> str:
    def parts() -> Iterator[pb.UploadSandboxRequest]:
        header = pb.SandboxHeader(
            sha256=sha256 or hashlib.sha256(data).hexdigest(),
            size_bytes=len(data) if size is None else size,
            lease_id=lease_id,
        )
        yield pb.UploadSandboxRequest(header=header)
        for start in range(0, len(data), piece):
            yield pb.UploadSandboxRequest(data=data[start : start + piece])

    return str(who.jobs.UploadSandbox(parts()).sha256)


def download(who: Client, sha256: str, lease_id: str = "") -> bytes:
    stream = who.jobs.DownloadSandbox(pb.DownloadSandboxRequest(sha256=sha256, lease_id=lease_id))
    return b"".join(message.data for message in stream)


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data.csv").write_text("1,2,3\n" * 1000)
    out = io.BytesIO()
    pack([tmp_path / "in" / "data.csv"], tmp_path / "in", out)
    return out.getvalue()


def test_a_job_comes_back_as_it_was_sent(owner: Client, delegated: Delegated, alice: Identity) -> None:
    spec = pb.JobSpec(
        name="histogram",
        command=["./analyse", "--bins", "50"],
        environment={"MODE": "fast"},
        outputs=["*.csv"],
        cores=2,
        memory_bytes=2**31,
        disk_bytes=2**33,
        site="TOY",
        tags=["gpu"],
        priority=-3,
        max_attempts=2,
        fqans=["/demo/Role=analysis"],
    )
    spec.wall_time.FromSeconds(1800)
    (job_id,) = submit(owner, delegated, spec)
    job = get(owner, job_id)
    assert job.spec == spec
    assert (job.job_id, job.owner_dn, job.state) == (job_id, alice.dn, pb.JOB_STATE_ACTIVATED)
    assert (job.credential_id, job.vo, job.fqan) == (delegated.credential_id, "demo", "/demo/Role=analysis")
    assert job.HasField("create_time")
    assert not job.HasField("start_time")
    assert not job.HasField("result")


def test_a_submit_sent_twice_is_done_once(owner: Client, delegated: Delegated) -> None:
    twice = request(delegated)
    assert owner.jobs.SubmitJobs(twice) == owner.jobs.SubmitJobs(twice)
    twice.specs[0].cores = 2
    assert reason(owner.jobs.SubmitJobs, twice) is Reason.REQUEST_ID_REUSED


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (pb.JobSpec(), Reason.JOB_SPEC_INVALID),
        (pb.JobSpec(command=["x"], outputs=["../x"]), Reason.JOB_SPEC_INVALID),
        (pb.JobSpec(command=["x"], cores=2**32 - 1), Reason.JOB_TOO_LARGE),
        (pb.JobSpec(command=["x"], memory_bytes=2**64 - 1), Reason.JOB_TOO_LARGE),
        (pb.JobSpec(command=["x"], wall_time=Duration(seconds=86400 * 365)), Reason.JOB_TOO_LARGE),
        (pb.JobSpec(command=["x"], wall_time=Duration(seconds=-1)), Reason.INVALID_ARGUMENT),
        (pb.JobSpec(command=["x"], wall_time=Duration(seconds=86400)), Reason.CREDENTIAL_TOO_SHORT),
        (pb.JobSpec(command=["x"], input_sandbox="a" * 64), Reason.SANDBOX_NOT_FOUND),
    ],
)
def test_a_job_that_cannot_be_is_refused(owner: Client, delegated: Delegated, spec: pb.JobSpec, why: Reason) -> None:
    assert reason(owner.jobs.SubmitJobs, request(delegated, spec)) is why


def test_a_job_larger_than_the_sites_limits_is_refused(
    make_rig: Callable[..., Rig], alice_proxy: Path, archive: bytes
) -> None:
    limits = {"cores": 4, "queued_jobs_per_owner": 2, "sandbox_bytes": 100}
    owner = make_rig(limits=limits).client(alice_proxy)
    delegated = delegate(owner, load_identity(alice_proxy))
    spec = pb.JobSpec(command=["x"], cores=5)
    assert reason(owner.jobs.SubmitJobs, request(delegated, spec)) is Reason.JOB_TOO_LARGE
    assert reason(upload, owner, archive) is Reason.SANDBOX_TOO_LARGE
    submit(owner, delegated, pb.JobSpec(command=["x"]), pb.JobSpec(command=["x"]))
    assert reason(owner.jobs.SubmitJobs, request(delegated)) is Reason.QUEUE_LIMIT


def test_somebody_elses_credential_cannot_be_used(other_owner: Client, delegated: Delegated) -> None:
    assert reason(other_owner.jobs.SubmitJobs, request(delegated)) is Reason.CREDENTIAL_NOT_FOUND


def test_somebody_elses_job_is_one_that_never_was(
    owner: Client, other_owner: Client, delegated: Delegated, archive: bytes
) -> None:
    (job_id,) = submit(owner, delegated)
    sha256 = upload(owner, archive)
    assert reason(other_owner.jobs.GetJob, pb.GetJobRequest(job_id=job_id)) is Reason.JOB_NOT_FOUND
    assert reason(other_owner.jobs.ListJobEvents, pb.ListJobEventsRequest(job_id=job_id)) is Reason.JOB_NOT_FOUND
    assert reason(list, other_owner.jobs.WatchJobs(pb.WatchJobsRequest(job_ids=[job_id]))) is Reason.JOB_NOT_FOUND
    log = pb.GetLogRequest(job_id=job_id, stream=pb.LOG_STREAM_STDOUT)
    assert reason(list, other_owner.jobs.GetLog(log)) is Reason.JOB_NOT_FOUND
    (result,) = other_owner.jobs.CancelJobs(pb.CancelJobsRequest(job_ids=[job_id])).results
    assert (result.id, result.reason) == (job_id, "JOB_NOT_FOUND")
    assert not other_owner.jobs.ListJobs(pb.ListJobsRequest()).jobs
    assert reason(download, other_owner, sha256) is Reason.SANDBOX_NOT_FOUND
    assert get(owner, job_id).state == pb.JOB_STATE_ACTIVATED
    never = pb.GetJobRequest(job_id="never was")
    assert reason(owner.jobs.GetJob, never) is Reason.JOB_NOT_FOUND


def test_jobs_come_in_pages_and_by_state(owner: Client, delegated: Delegated) -> None:
    made = submit(owner, delegated, *[pb.JobSpec(command=["x"])] * 5)
    owner.jobs.CancelJobs(pb.CancelJobsRequest(job_ids=made[:2]))
    seen: list[str] = []
    token = ""
    while True:
        page = owner.jobs.ListJobs(pb.ListJobsRequest(page_size=2, page_token=token))
        assert len(page.jobs) <= 2
        seen += [job.job_id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    cancelled = pb.ListJobsRequest(states=[pb.JOB_STATE_CANCELLED], page_size=1)
    page = owner.jobs.ListJobs(cancelled)
    assert [job.job_id for job in page.jobs] == [made[1]]
    cancelled.page_token = page.next_page_token
    page = owner.jobs.ListJobs(cancelled)
    assert [job.job_id for job in page.jobs] == [made[0]]
    assert page.next_page_token == ""


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (pb.ListJobsRequest(page_token="!"), Reason.PAGE_TOKEN_INVALID),
        (pb.ListJobsRequest(page_token="AAAA"), Reason.PAGE_TOKEN_INVALID),
        (pb.ListJobsRequest(page_size=-1), Reason.INVALID_ARGUMENT),
        (pb.ListJobsRequest(states=[99]), Reason.INVALID_ARGUMENT),  # type: ignore[list-item]
    ],
)
def test_a_wrong_list_is_refused(owner: Client, wrong: pb.ListJobsRequest, why: Reason) -> None:
    assert reason(owner.jobs.ListJobs, wrong) is why


def test_a_page_token_is_for_the_list_that_gave_it(owner: Client, delegated: Delegated) -> None:
    submit(owner, delegated, *[pb.JobSpec(command=["x"])] * 2)
    token = owner.jobs.ListJobs(pb.ListJobsRequest(page_size=1)).next_page_token
    other = pb.ListJobsRequest(page_token=token, states=[pb.JOB_STATE_HELD])
    assert reason(owner.jobs.ListJobs, other) is Reason.PAGE_TOKEN_INVALID


def test_the_life_of_a_job_comes_in_pages_oldest_first(owner: Client, pilot: Client, delegated: Delegated) -> None:
    (job_id,) = submit(owner, delegated)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    result = pb.AttemptResult(outcome=pb.OUTCOME_OK)
    pilot.pilots.FinishJob(pilot_pb2.FinishJobRequest(pilot_id=pilot_id, lease_id=lease.lease_id, result=result))
    moves: list[tuple[int, int, str]] = []
    token = ""
    while True:
        wanted = pb.ListJobEventsRequest(job_id=job_id, page_size=2, page_token=token)
        page = owner.jobs.ListJobEvents(wanted)
        moves += [(event.from_state, event.to_state, event.actor) for event in page.events]
        token = page.next_page_token
        if not token:
            break
    assert moves == [
        (0, pb.JOB_STATE_DEFINED, "owner"),
        (pb.JOB_STATE_DEFINED, pb.JOB_STATE_ACTIVATED, "owner"),
        (pb.JOB_STATE_ACTIVATED, pb.JOB_STATE_SENT, "server"),
        (pb.JOB_STATE_SENT, pb.JOB_STATE_STARTING, "pilot"),
        (pb.JOB_STATE_STARTING, pb.JOB_STATE_RUNNING, "pilot"),
        (pb.JOB_STATE_RUNNING, pb.JOB_STATE_FINISHED, "pilot"),
    ]


def test_a_watch_tells_each_change_until_all_are_final(owner: Client, delegated: Delegated) -> None:
    made = submit(owner, delegated, *[pb.JobSpec(command=["x"])] * 2)
    stream = owner.jobs.WatchJobs(pb.WatchJobsRequest(job_ids=made))
    seen = [next(stream).job for _ in range(2)]
    assert [job.job_id for job in seen] == made
    owner.jobs.CancelJobs(pb.CancelJobsRequest(job_ids=made))
    rest = [message.job for message in stream]
    assert {(job.job_id, job.state) for job in rest} == {(job_id, pb.JOB_STATE_CANCELLED) for job_id in made}


def test_a_watch_whose_client_goes_away_is_forgotten(rig: Rig, owner: Client, delegated: Delegated) -> None:
    made = submit(owner, delegated)
    stream = owner.jobs.WatchJobs(pb.WatchJobsRequest(job_ids=made))
    next(stream)
    stream.cancel()

    async def forgotten(app: object) -> bool:
        for _ in range(6000):
            if not rig.app._notices._watchers:  # type: ignore[union-attr]
                return True
            await asyncio.sleep(0.01)
        return False

    assert rig.call(forgotten)


def test_a_bulk_call_takes_one_to_a_thousand(owner: Client) -> None:
    for job_ids in ([], ["x"] * 1001):
        assert reason(owner.jobs.CancelJobs, pb.CancelJobsRequest(job_ids=job_ids)) is Reason.INVALID_ARGUMENT
        assert reason(list, owner.jobs.WatchJobs(pb.WatchJobsRequest(job_ids=job_ids))) is Reason.INVALID_ARGUMENT


def test_a_sandbox_goes_in_and_comes_out(owner: Client, archive: bytes) -> None:
    sha256 = upload(owner, archive)
    assert download(owner, sha256) == archive
    assert upload(owner, archive, piece=7) == sha256
    assert reason(download, owner, "b" * 64) is Reason.SANDBOX_NOT_FOUND
    assert reason(download, owner, "../../etc/passwd") is Reason.SANDBOX_NOT_FOUND


@pytest.mark.parametrize("cut", ["announced", "in the middle"])
def test_a_sandbox_cut_off_in_the_middle_leaves_nothing(rig: Rig, owner: Client, archive: bytes, cut: str) -> None:
    whole = hashlib.sha256(archive).hexdigest()
    if cut == "announced":
        assert reason(upload, owner, archive[:-10], sha256=whole, size=len(archive)) is Reason.SANDBOX_TRUNCATED
    else:

        def parts() -> Iterator[pb.UploadSandboxRequest]:
            yield pb.UploadSandboxRequest(header=pb.SandboxHeader(sha256=whole, size_bytes=len(archive)))
            yield pb.UploadSandboxRequest(data=archive[:10])
            raise ConnectionError("the client breaks")

        with pytest.raises(grpc.RpcError):
            owner.jobs.UploadSandbox(parts())

    async def left(app: object) -> int:
        for _ in range(6000):
            files = [path for path in (rig.state / "sandboxes").rglob("*") if path.is_file()]
            if not files:
                break
            await asyncio.sleep(0.01)
        return len(files)

    assert rig.call(left) == 0
    assert reason(download, owner, whole) is Reason.SANDBOX_NOT_FOUND


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [pb.UploadSandboxRequest()],
        [pb.UploadSandboxRequest(data=b"x")],
        [pb.UploadSandboxRequest(header=pb.SandboxHeader(sha256="a" * 64, size_bytes=5))] * 2,
        [pb.UploadSandboxRequest(header=pb.SandboxHeader(sha256="x", size_bytes=5))],
        [
            pb.UploadSandboxRequest(header=pb.SandboxHeader(sha256="a" * 64, size_bytes=2**22)),
            pb.UploadSandboxRequest(data=bytes(2**20 + 1)),
        ],
    ],
)
def test_an_upload_that_is_none_is_refused(owner: Client, messages: list[pb.UploadSandboxRequest]) -> None:
    assert reason(owner.jobs.UploadSandbox, iter(messages)) is Reason.INVALID_ARGUMENT


def test_a_pilot_without_a_lease_gets_no_sandbox(owner: Client, pilot: Client, archive: bytes) -> None:
    sha256 = upload(owner, archive)
    # The role of pilots is enough for what a lease is about: it keeps nothing for itself either.
    assert reason(download, pilot, sha256) is Reason.ROLE_REQUIRED
    assert reason(upload, pilot, archive) is Reason.ROLE_REQUIRED
    assert reason(download, pilot, sha256, "no lease") is Reason.LEASE_NOT_FOUND
    assert reason(upload, pilot, archive, lease_id="no lease") is Reason.LEASE_NOT_FOUND


def test_a_log_is_followed_while_the_job_runs(owner: Client, pilot: Client, delegated: Delegated) -> None:
    (job_id,) = submit(owner, delegated)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    stream = owner.jobs.GetLog(pb.GetLogRequest(job_id=job_id, stream=pb.LOG_STREAM_STDERR, follow=True))

    def append(offset: int, data: bytes) -> int:
        request = pilot_pb2.AppendLogRequest(
            pilot_id=pilot_id,
            lease_id=lease.lease_id,
            stream=pb.LOG_STREAM_STDERR,
            offset=offset,
            data=data,
        )
        return int(pilot.pilots.AppendLog(request).offset)

    assert append(0, b"one ") == 4
    first = next(stream)
    assert (first.data, first.offset) == (b"one ", 0)
    assert append(4, b"two") == 7
    second = next(stream)
    assert (second.data, second.offset) == (b"two", 4)
    result = pb.AttemptResult(outcome=pb.OUTCOME_OK)
    pilot.pilots.FinishJob(pilot_pb2.FinishJobRequest(pilot_id=pilot_id, lease_id=lease.lease_id, result=result))
    assert list(stream) == []
    rest = owner.jobs.GetLog(pb.GetLogRequest(job_id=job_id, stream=pb.LOG_STREAM_STDERR, offset=5))
    assert [message.data for message in rest] == [b"wo"]


def test_a_log_has_two_streams_only(owner: Client, delegated: Delegated) -> None:
    (job_id,) = submit(owner, delegated)
    assert reason(list, owner.jobs.GetLog(pb.GetLogRequest(job_id=job_id))) is Reason.INVALID_ARGUMENT
    beyond = pb.GetLogRequest(job_id=job_id, stream=pb.LOG_STREAM_STDOUT, offset=2**64 - 1)
    assert reason(list, owner.jobs.GetLog(beyond)) is Reason.INVALID_ARGUMENT


def test_what_is_not_built_says_so(owner: Client) -> None:
    assert reason(owner.jobs.RetryJobs, pb.RetryJobsRequest()) is Reason.NOT_IMPLEMENTED
    with pytest.raises(grpc.RpcError) as caught:
        owner.jobs.GetUsage(pb.GetUsageRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert reason_of(caught.value) is Reason.NOT_IMPLEMENTED


def test_a_limited_proxy_may_look_but_not_submit(
    rig: Rig, grid: ToyGrid, alice: Identity, delegated: Delegated
) -> None:
    proxy = grid.voms_proxy(alice, grid.root / "limited.proxy", fqans=("/demo/Role=analysis",), limited=True)
    limited = rig.client(proxy)
    assert reason(limited.jobs.SubmitJobs, request(delegated)) is Reason.LIMITED_PROXY_REFUSED
    assert not limited.jobs.ListJobs(pb.ListJobsRequest()).jobs
