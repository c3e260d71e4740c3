"""PilotService on the wire."""

from pilotage.v1 import pilot_pb2 as pb
from pilotage.v1 import pilot_pb2_grpc
from pilotage_server.auth.current import principal
from pilotage_server.jobs.pilot_desk import PilotDesk
from pilotage_server.rpc import convert_jobs as convert
from pilotage_server.rpc.guard import Context
from pilotage_server.rpc.values import span


class PilotServicer(pilot_pb2_grpc.PilotServiceServicer):
    """What pilots do."""

    def __init__(self, desk: PilotDesk) -> None:
        self._desk = desk

    async def RegisterPilot(self, request: pb.RegisterPilotRequest, context: Context) -> pb.RegisterPilotResponse:
        """Make a pilot known."""
        pilot_id = await self._desk.register(principal(), request.request_id, convert.offer_from(request.offer))
        interval = convert.duration(self._desk.times.heartbeat_seconds)
        return pb.RegisterPilotResponse(pilot_id=pilot_id, heartbeat_interval=interval)

    async def AcquireJobs(self, request: pb.AcquireJobsRequest, context: Context) -> pb.AcquireJobsResponse:
        """Wait for work and lease it."""
        wait = span(request.wait).total_seconds()
        acquired = await self._desk.acquire(principal(), request.pilot_id, request.slots, wait)
        retry = None if acquired.grants else convert.duration(self._desk.times.retry_seconds)
        return pb.AcquireJobsResponse(
            leases=[convert.grant_to(grant) for grant in acquired.grants], retry_after=retry, drain=acquired.drain
        )

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatResponse:
        """Take reports on leases and answer each."""
        told = [convert.report_from(report) for report in request.reports]
        beat = await self._desk.heartbeat(principal(), request.pilot_id, told)
        return pb.HeartbeatResponse(answers=[convert.answer_to(answer) for answer in beat.answers], drain=beat.drain)

    async def FinishJob(self, request: pb.FinishJobRequest, context: Context) -> pb.FinishJobResponse:
        """End an attempt."""
        result = convert.result_from(request.result)
        state = await self._desk.finish(principal(), request.pilot_id, request.lease_id, result)
        return pb.FinishJobResponse(state=convert.state_to(state))

    async def ReleaseJob(self, request: pb.ReleaseJobRequest, context: Context) -> pb.ReleaseJobResponse:
        """Take an unstarted job back."""
        await self._desk.release(principal(), request.pilot_id, request.lease_id, request.reason, request.message)
        return pb.ReleaseJobResponse()

    async def AppendLog(self, request: pb.AppendLogRequest, context: Context) -> pb.AppendLogResponse:
        """Add to a payload's log."""
        offset = await self._desk.append_log(
            principal(),
            request.pilot_id,
            request.lease_id,
            convert.stream_from(request.stream),
            request.offset,
            request.data,
            truncated=request.truncated,
        )
        return pb.AppendLogResponse(offset=offset)

    async def RefreshCredentialToken(
        self, request: pb.RefreshCredentialTokenRequest, context: Context
    ) -> pb.RefreshCredentialTokenResponse:
        """Give a fresh credential token for a live lease."""
        fresh = await self._desk.refresh_token(principal(), request.pilot_id, request.lease_id)
        return pb.RefreshCredentialTokenResponse(
            credential_token=fresh.token.reveal_text(), retrieval_key=fresh.retrieval_key.reveal()
        )

    async def DeregisterPilot(self, request: pb.DeregisterPilotRequest, context: Context) -> pb.DeregisterPilotResponse:
        """Take leave of a pilot."""
        await self._desk.deregister(principal(), request.pilot_id)
        return pb.DeregisterPilotResponse()
