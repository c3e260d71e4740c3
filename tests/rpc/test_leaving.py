"""Callers who leave in the middle of an answer: the server goes on."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from toygrid import Identity, ToyGrid

from pilotage.transport import open_channel
from pilotage.v1 import auth_pb2, job_pb2
from pilotage.x509.files import load_identity
from support.journey import delegate, submit
from support.server_process import ServerProcess
from support.server_rig import Client

TIMES = 1500
"""How often a caller leaves; without the guard's care some tens of times end the server."""


@pytest.fixture
def server(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(grid, tmp_path, host)
    yield made
    made.close()


def test_no_owner_who_leaves_a_stream_ends_the_server(server: ServerProcess, alice_proxy: Path) -> None:
    server.start()
    identity = load_identity(alice_proxy)
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=identity) as channel:
        owner = Client(channel)
        request = job_pb2.WatchJobsRequest(job_ids=[submit(owner, delegate(owner, identity))])
        for number in range(TIMES):
            call = owner.jobs.WatchJobs(request)
            time.sleep(number % 40 / 10_000)
            call.cancel()
        assert owner.auth.WhoAmI(auth_pb2.WhoAmIRequest()).principal.dn
    log = server.log_path.read_text()
    assert log.count('"reason":"CANCELLED"') > TIMES / 10
    assert '"event":"fault"' not in log
    assert server.stop() == 0


def test_no_stranger_who_leaves_a_stream_ends_the_server(server: ServerProcess) -> None:
    server.start()
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=None) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for number in range(TIMES):
            call = health.Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
            time.sleep(number % 40 / 10_000)
            call.cancel()
        last = health.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        assert last.status == health_pb2.HealthCheckResponse.SERVING
    assert server.stop() == 0
