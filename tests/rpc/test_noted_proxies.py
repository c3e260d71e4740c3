"""A proxy is out a moment before JobService has written down when it is renewed: nothing may come of that."""

import contextlib
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage.transport import open_channel
from pilotage.v1 import credential_pb2 as pb
from pilotage.v1 import job_pb2, pilot_pb2
from pilotage.x509.files import load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server.jobs import lease_proxies
from support.doomed_server import UNWRITTEN
from support.dying_server import DyingServer
from support.journey import acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_rig import Client, Rig

EC = KeyKind.EC_P256
SHORT = {"retrieval.default": {"max_lifetime_seconds": 7200}}


@pytest.fixture
def server(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[DyingServer]:
    made = DyingServer(grid, tmp_path, host, SHORT)
    yield made
    made.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    made = make_rig(**SHORT)
    assert made.app is not None
    made.app._databases["jobs"]._busy_seconds = 0.1
    return made


def job(owner: Client, job_id: str) -> job_pb2.Job:
    return owner.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)).job


def noted(state: Path) -> list[tuple[int | None, int | None]]:
    """Return until when each lease has a proxy, and when that is renewed, as the file has it."""
    with contextlib.closing(sqlite3.connect(state / "jobs.sqlite")) as connection:
        return list(connection.execute("SELECT expire_us, renew_us FROM lease_credential"))


def fresh(pilot: Client, pilot_id: str, lease: pilot_pb2.Lease) -> pb.RetrieveCredentialRequest:
    token = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    )
    lease.credential_token = token.credential_token
    return retrieve_request(lease)


def test_a_killed_server_plans_the_renewals_of_the_proxies_that_it_had_given(
    server: DyingServer, alice_proxy: Path, pilot_proxy: Path
) -> None:
    server.step = UNWRITTEN
    server.start()
    target, ca_dir = server.target, server.grid.ca_dir
    with (
        open_channel(target, ca_dir=ca_dir, identity=load_identity(alice_proxy)) as owners,
        open_channel(target, ca_dir=ca_dir, identity=load_identity(pilot_proxy)) as pilots,
    ):
        owner, pilot = Client(owners), Client(pilots)
        job_id = submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
        lease = acquire(pilot, register(pilot, renews=True))
        answer = pilot.credentials.RetrieveCredential(retrieve_request(lease))
    assert noted(server.state) == [(None, None)]
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    server.step = ""
    server.start()
    ((expire, renew),) = noted(server.state)
    assert expire == answer.expire_time.seconds * 1_000_000
    assert renew is not None
    assert 0 < expire - renew < 7200 * 1_000_000
    # It was one proxy, and is not counted again by the next start.
    server.stop()
    server.start()
    with open_channel(server.target, ca_dir=ca_dir, identity=load_identity(alice_proxy)) as owners:
        assert job(Client(owners), job_id).proxy.issued == 1
    assert noted(server.state) == [(expire, renew)]


def test_a_proxy_is_not_withheld_because_its_note_cannot_be_written_and_the_note_is_not_lost(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path
) -> None:
    job_id = submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    lease = acquire(pilot, register(pilot, renews=True))
    with contextlib.closing(sqlite3.connect(rig.state / "jobs.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = pilot.credentials.RetrieveCredential(retrieve_request(lease))
        deadline = time.monotonic() + 60
        while "proxy not noted; tried again" not in rig.log_text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not job(owner, job_id).HasField("proxy")
        other.execute("ROLLBACK")
    deadline = time.monotonic() + 60
    while not job(owner, job_id).HasField("proxy"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    proxy = job(owner, job_id).proxy
    assert (proxy.expire_time, proxy.issued) == (answer.expire_time, 1)
    assert proxy.HasField("next_renewal_time")


def test_when_too_many_notes_wait_no_more_proxies_are_given_and_no_token_is_spent(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_proxies, "MOST_UNWRITTEN", 1)
    job_id = submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    with contextlib.closing(sqlite3.connect(rig.state / "jobs.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        pilot.credentials.RetrieveCredential(retrieve_request(lease))
        again = fresh(pilot, pilot_id, lease)
        refused = reason(lambda: pilot.credentials.RetrieveCredential(again))
        assert refused is Reason.STORE_UNAVAILABLE
        other.execute("ROLLBACK")
    deadline = time.monotonic() + 60
    while not job(owner, job_id).HasField("proxy"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert pilot.credentials.RetrieveCredential(again).chain
    assert job(owner, job_id).proxy.issued == 2
