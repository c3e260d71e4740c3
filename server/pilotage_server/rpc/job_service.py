"""JobService on the wire."""

import contextlib
from collections.abc import AsyncIterator

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.v1 import job_pb2 as pb
from pilotage.v1 import job_pb2_grpc
from pilotage_server.auth.current import principal
from pilotage_server.auth.policy import Policy, Role
from pilotage_server.jobs.credential_desk import CredentialDesk
from pilotage_server.jobs.job_desk import JobDesk
from pilotage_server.jobs.sandboxes import SandboxStore
from pilotage_server.principal import Principal
from pilotage_server.rpc import convert_jobs as convert
from pilotage_server.rpc.guard import Context
from pilotage_server.rpc.values import page_size


class JobServicer(job_pb2_grpc.JobServiceServicer):
    """What owners do with their jobs."""

    def __init__(self, desk: JobDesk, credentials: CredentialDesk, sandboxes: SandboxStore, policy: Policy) -> None:
        self._desk = desk
        self._credentials = credentials
        self._sandboxes = sandboxes
        self._policy = policy

    async def SubmitJobs(self, request: pb.SubmitJobsRequest, context: Context) -> pb.SubmitJobsResponse:
        """Store jobs, all or none."""
        job_ids = await self._desk.submit(
            principal(),
            request.request_id,
            [convert.spec_from(spec) for spec in request.specs],
            request.credential_id,
            Secret(request.retrieval_key),
            hold=request.hold,
        )
        return pb.SubmitJobsResponse(job_ids=job_ids)

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """Return one job."""
        return pb.GetJobResponse(job=convert.job_to(await self._desk.get(principal(), request.job_id)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Return a page of jobs, newest first."""
        size = page_size(request.page_size)
        states = convert.states_from(request.states)
        before = convert.page_place(request.page_token, states)
        found = await self._desk.list_jobs(principal(), states, before, size + 1)
        page = found[:size]
        return pb.ListJobsResponse(
            jobs=[convert.job_to(job) for _, job in page],
            next_page_token=convert.page_token(page[-1][0], states) if len(found) > size else "",
        )

    async def WatchJobs(self, request: pb.WatchJobsRequest, context: Context) -> AsyncIterator[pb.WatchJobsResponse]:
        """Send jobs as they change."""
        found = self._desk.watch(principal(), list(request.job_ids))
        async with contextlib.aclosing(found):  # type: ignore[type-var]
            async for job in found:
                yield pb.WatchJobsResponse(job=convert.job_to(job))

    async def CancelJobs(self, request: pb.CancelJobsRequest, context: Context) -> pb.CancelJobsResponse:
        """Cancel jobs, one result each."""
        results = await self._desk.cancel(principal(), list(request.job_ids))
        return pb.CancelJobsResponse(results=[convert.item_to(item) for item in results])

    async def RebindCredential(
        self, request: pb.RebindCredentialRequest, context: Context
    ) -> pb.RebindCredentialResponse:
        """Give jobs that wait for a credential this one."""
        done = await self._credentials.rebind(principal(), request.credential_id, Secret(request.retrieval_key))
        return pb.RebindCredentialResponse(released=done.released, still_held=done.still_held)

    async def RetryJobs(self, request: pb.RetryJobsRequest, context: Context) -> pb.RetryJobsResponse:
        """Refuse: a later release makes jobs anew."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def GetUsage(self, request: pb.GetUsageRequest, context: Context) -> pb.GetUsageResponse:
        """Refuse: a later release sums up what attempts used."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def ListJobEvents(self, request: pb.ListJobEventsRequest, context: Context) -> pb.ListJobEventsResponse:
        """Return a page of a job's life, oldest first."""
        size = page_size(request.page_size)
        after = convert.page_place(request.page_token) or 0
        found = await self._desk.list_events(principal(), request.job_id, after, size + 1)
        page = found[:size]
        return pb.ListJobEventsResponse(
            events=[convert.event_to(event) for event in page],
            next_page_token=convert.page_token(page[-1].event_id) if len(found) > size else "",
        )

    async def UploadSandbox(
        self, request_iterator: AsyncIterator[pb.UploadSandboxRequest], context: Context
    ) -> pb.UploadSandboxResponse:
        """Take a sandbox in: the header, then its bytes."""
        caller = principal()
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("part") != "header":
            raise refuse(Reason.INVALID_ARGUMENT, "The first message of an upload is its header.")
        header = first.header
        self._check_own(caller, header.lease_id)
        sha256 = await self._sandboxes.upload(
            caller, header.sha256, header.size_bytes, header.lease_id, _data(request_iterator)
        )
        return pb.UploadSandboxResponse(sha256=sha256)

    async def DownloadSandbox(
        self, request: pb.DownloadSandboxRequest, context: Context
    ) -> AsyncIterator[pb.DownloadSandboxResponse]:
        """Send the bytes of a sandbox."""
        caller = principal()
        self._check_own(caller, request.lease_id)
        chunks = self._sandboxes.download(caller, request.sha256, request.lease_id)
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                yield pb.DownloadSandboxResponse(data=chunk)

    def _check_own(self, caller: Principal, lease_id: str) -> None:
        """Raise ROLE_REQUIRED for a pilot that names no lease: then it would be about sandboxes of its own."""
        if not lease_id:
            self._policy.require(caller, Role.OWNER)

    async def GetLog(self, request: pb.GetLogRequest, context: Context) -> AsyncIterator[pb.GetLogResponse]:
        """Send what an attempt printed; each message says at which offset its bytes begin."""
        chunks = self._desk.read_log(
            principal(),
            request.job_id,
            convert.stream_from(request.stream),
            request.offset,
            request.attempt,
            follow=request.follow,
        )
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                yield pb.GetLogResponse(data=chunk.data, offset=chunk.offset, truncated=chunk.truncated)


async def _data(messages: AsyncIterator[pb.UploadSandboxRequest]) -> AsyncIterator[bytes]:
    async for message in messages:
        if message.WhichOneof("part") != "data":
            raise refuse(Reason.INVALID_ARGUMENT, "Only the first message of an upload is a header.")
        yield message.data
