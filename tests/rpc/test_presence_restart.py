"""Sessions of before a restart: good while nothing can have been revoked, and else replaced by the clients."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from toygrid import ToyGrid

from pilotage import aio, transport
from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.v1 import job_pb2, job_pb2_grpc, pilot_pb2
from pilotage.wire_errors import translated
from pilotage.x509.files import load_identity
from pilotage_server.auth.presence import MARGIN
from support.journey import acquire, delegate, register, submit
from support.ports import free_port
from support.refusals import reason
from support.server_rig import LOOP, PILOT_ROLE, Client, Rig

LIST = job_pb2.ListJobsRequest()
WATCH = job_pb2.WatchJobsRequest(job_ids=["none"])


@pytest.fixture
def lasting(make_rig: Callable[..., Rig]) -> Rig:
    """A server that has the same port again after a restart, so that clients outlive it."""
    return make_rig(server={"listen": f"127.0.0.1:{free_port()}"})


@pytest.fixture
def channel(lasting: Rig, alice_proxy: Path) -> Iterator[grpc.Channel]:
    """Alice's, which is not closed with the server."""
    identity = load_identity(alice_proxy)
    with transport.open_channel(lasting.target, ca_dir=lasting.grid.ca_dir, identity=identity) as opened:
        yield opened


def logins(rig: Rig) -> int:
    return rig.log_text.count('"session opened"')


def refused(rig: Rig) -> int:
    return rig.log_text.count('"SESSION_INVALID"')


def test_a_session_goes_on_after_a_restart_when_no_file_was_changed_since_it_was_opened(
    lasting: Rig, channel: grpc.Channel
) -> None:
    lasting.clock.turn(MARGIN.total_seconds() * 2)
    jobs = job_pb2_grpc.JobServiceStub(channel)
    jobs.ListJobs(LIST)
    before = logins(lasting)
    lasting.restart()
    jobs.ListJobs(LIST, wait_for_ready=True)
    assert (logins(lasting), refused(lasting)) == (before, 0)


def test_one_who_was_revoked_before_the_restart_is_not_served_after_it(
    lasting: Rig, channel: grpc.Channel, grid: ToyGrid, alice_proxy: Path, tmp_path: Path
) -> None:
    who = grid.robot(f"Robot of {tmp_path.name}")
    proxy = load_identity(grid.voms_proxy(who, tmp_path / "robot.proxy", fqans=(PILOT_ROLE, "/demo")))
    with transport.open_channel(lasting.target, ca_dir=grid.ca_dir, identity=proxy) as robots:
        robot = Client(robots)
        alice = Client(channel)
        submit(alice, delegate(alice, load_identity(alice_proxy)))
        pilot_id = register(robot)
        lease = acquire(robot, pilot_id)
        grid.revoke(who)
        lasting.restart()
        ask = pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
        for _ in range(2):
            with pytest.raises(PilotageError, match="CERTIFICATE_REVOKED"), translated():
                robot.pilots.RefreshCredentialToken(ask, wait_for_ready=True)


def test_the_synchronous_client_logs_in_anew_by_itself(lasting: Rig, channel: grpc.Channel) -> None:
    jobs = job_pb2_grpc.JobServiceStub(channel)
    jobs.ListJobs(LIST)
    before = logins(lasting)
    lasting.restart()
    for _ in range(3):
        jobs.ListJobs(LIST, wait_for_ready=True)
    assert (logins(lasting), refused(lasting)) == (before + 1, 1)


def test_a_stream_says_once_that_trying_again_helps_and_then_it_does(lasting: Rig, channel: grpc.Channel) -> None:
    jobs = job_pb2_grpc.JobServiceStub(channel)
    jobs.ListJobs(LIST)
    lasting.restart()

    def watch() -> None:
        list(jobs.WatchJobs(WATCH, wait_for_ready=True))

    assert reason(watch) is Reason.SESSION_INVALID
    assert Reason.SESSION_INVALID.row.retry
    assert reason(watch) is Reason.JOB_NOT_FOUND


def test_the_asyncio_client_logs_in_anew_by_itself(lasting: Rig, alice_proxy: Path) -> None:
    identity = load_identity(alice_proxy)

    async def opened() -> grpc.aio.Channel:
        return aio.open_channel(lasting.target, ca_dir=lasting.grid.ca_dir, identity=identity)

    async def call(channel: grpc.aio.Channel) -> None:
        await job_pb2_grpc.JobServiceStub(channel).ListJobs(LIST, wait_for_ready=True)

    async def watch(channel: grpc.aio.Channel) -> Reason | None:
        try:
            async for _ in job_pb2_grpc.JobServiceStub(channel).WatchJobs(WATCH, wait_for_ready=True):
                pass
        except grpc.aio.AioRpcError as error:
            await asyncio.sleep(0)  # the session is dropped in a task of its own
            return aio.error_from(error).reason
        return None

    channel = LOOP.run(opened())
    try:
        LOOP.run(call(channel))
        before = logins(lasting)
        lasting.restart()
        for _ in range(3):
            LOOP.run(call(channel))
        assert (logins(lasting), refused(lasting)) == (before + 1, 1)
        lasting.restart()
        assert LOOP.run(watch(channel)) is Reason.SESSION_INVALID
        assert LOOP.run(watch(channel)) is Reason.JOB_NOT_FOUND
    finally:
        LOOP.run(channel.close())
