"""Errors on the wire: one reason, whether to try again, and never more than that."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.transport import error_from
from pilotage.v1 import admin_pb2, admin_pb2_grpc, auth_pb2, credential_pb2, job_pb2
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server.credentials.keeper import CredentialKeeper
from pilotage_server.rpc.status import WireStatus
from support.journey import delegate, submit
from support.refusals import reason, refused
from support.server_rig import Client, Rig

UNKNOWN = credential_pb2.GetCredentialRequest(credential_id="no such")


def test_a_refusal_carries_status_reason_retry_and_message(owner: Client) -> None:
    error = refused(owner.credentials.GetCredential, UNKNOWN)
    assert isinstance(error, grpc.Call)
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "No such credential."
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("CREDENTIAL_NOT_FOUND", "pilotage")
    assert dict(info.metadata) == {"retry": "false", "message": "No such credential."}


def test_the_sdk_raises_the_same_error_the_server_did(owner: Client) -> None:
    error = error_from(refused(owner.credentials.GetCredential, UNKNOWN))
    assert isinstance(error, PilotageError)
    assert error.reason is Reason.CREDENTIAL_NOT_FOUND
    assert error.exit_code == 3


@pytest.mark.parametrize("code", list(Reason))
def test_every_reason_has_a_status(code: Reason) -> None:
    status = WireStatus(PilotageError(code, "x" * 5000))
    assert status.code.value[0] == code.row.code.value
    assert len(status.details) == 1000


def test_a_fault_is_told_to_the_operator_and_not_to_the_caller(
    rig: Rig, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("a secret in the text of an exception")

    monkeypatch.setattr(CredentialKeeper, "look", fail)
    error = refused(owner.credentials.GetCredential, UNKNOWN)
    assert isinstance(error, grpc.Call)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == Reason.INTERNAL.row.text
    assert "ValueError" in rig.log_text
    assert "credential_service.py" in rig.log_text
    assert "a secret" not in rig.log_text + str(error)


def test_a_database_that_fails_is_unavailable_and_names_itself_in_the_log(
    rig: Rig, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(CredentialKeeper, "look", fail)
    assert reason(owner.credentials.GetCredential, UNKNOWN) is Reason.INTERNAL
    assert "database disk image is malformed" in rig.log_text


def test_what_is_not_built_says_so_after_it_asked_who_calls(rig: Rig, owner: Client, admin: LocalIdentity) -> None:
    stub = admin_pb2_grpc.AdminServiceStub(owner.channel)
    assert reason(stub.ListSites, admin_pb2.ListSitesRequest()) is Reason.ROLE_REQUIRED
    stub = admin_pb2_grpc.AdminServiceStub(rig.mutual_client(admin).channel)
    calls: list[Callable[[], object]] = [
        lambda: stub.ListSites(admin_pb2.ListSitesRequest()),
        lambda: stub.PutSite(admin_pb2.PutSiteRequest()),
        lambda: stub.DrainPilot(admin_pb2.DrainPilotRequest()),
        lambda: stub.SetShare(admin_pb2.SetShareRequest()),
        lambda: stub.ListPilots(admin_pb2.ListPilotsRequest()),
    ]
    for call in calls:
        error = refused(call)
        assert isinstance(error, grpc.Call)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert error_from(error).reason is Reason.NOT_IMPLEMENTED
    assert reason(owner.jobs.GetUsage, job_pb2.GetUsageRequest()) is Reason.NOT_IMPLEMENTED


def test_a_method_nobody_knows_is_unimplemented(owner: Client) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = owner.channel.unary_unary("/pilotage.v1.JobService/Brew")
    error = refused(call, b"")
    assert isinstance(error, grpc.Call)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_streams_are_guarded_too(rig: Rig, pilot: Client) -> None:
    stranger = rig.client(None)
    watch = job_pb2.WatchJobsRequest(job_ids=["1"])
    assert reason(lambda: list(stranger.jobs.WatchJobs(watch))) is Reason.UNAUTHENTICATED
    assert reason(lambda: list(pilot.jobs.WatchJobs(watch))) is Reason.ROLE_REQUIRED
    upload = [job_pb2.UploadSandboxRequest(data=b"x")]
    assert reason(lambda: stranger.jobs.UploadSandbox(iter(upload))) is Reason.UNAUTHENTICATED
    download = job_pb2.DownloadSandboxRequest(sha256="0" * 64)
    assert reason(lambda: list(stranger.jobs.DownloadSandbox(download))) is Reason.UNAUTHENTICATED


def test_a_stream_gives_nothing_more_once_its_session_is_over(rig: Rig, owner: Client, alice_proxy: Path) -> None:
    job_id = submit(owner, delegate(owner, load_identity(alice_proxy), kind=KeyKind.EC_P256))
    watch = owner.jobs.WatchJobs(job_pb2.WatchJobsRequest(job_ids=[job_id]))
    assert next(watch).job.job_id == job_id
    rig.clock.turn(3601)
    rig.client(alice_proxy).jobs.CancelJobs(job_pb2.CancelJobsRequest(job_ids=[job_id]))
    assert reason(lambda: next(watch)) is Reason.SESSION_EXPIRED


def test_a_message_above_the_limit_is_refused(owner: Client) -> None:
    request = auth_pb2.LoginRequest(chain=[b"x" * (4 * 1024 * 1024 + 1)])
    error = refused(owner.auth.Login, request)
    assert isinstance(error, grpc.Call)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_call_that_succeeds_leaves_a_line_only_where_the_operator_wants_it(
    make_rig: Callable[..., Rig], alice_proxy: Path
) -> None:
    for wanted, lines in (("refused", 1), ("all", 2)):
        rig = make_rig(server={"log_calls": wanted})
        before = rig.log_text.count("\n")
        owner = rig.client(alice_proxy)
        owner.auth.WhoAmI(auth_pb2.WhoAmIRequest())
        refused(owner.credentials.GetCredential, UNKNOWN)
        new = rig.log_text.splitlines()[before:]
        of_both = [line for line in new if "/WhoAmI" in line or "/GetCredential" in line]
        assert len(of_both) == lines
        rig.stop()


def test_each_call_leaves_one_line(rig: Rig, owner: Client, alice_proxy: Path) -> None:
    before = rig.log_text.count("\n")
    refused(owner.credentials.GetCredential, UNKNOWN)
    lines = [line for line in rig.log_text.splitlines()[before:] if "GetCredential" in line]
    assert len(lines) == 1
    for part in ('"reason":"CREDENTIAL_NOT_FOUND"', '"principal":"/O=Toy Grid/CN=Alice"', '"ms":', '"peer":"ipv4:'):
        assert part in lines[0]
    assert str(alice_proxy) not in lines[0]


# health


def ask(channel: grpc.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service=service)).status)  # type: ignore[attr-defined]


def test_health_needs_no_login_and_knows_every_service(rig: Rig) -> None:
    channel = rig.client(None).channel
    for service in ("", *(f"pilotage.v1.{name}Service" for name in ("Auth", "Job", "Pilot", "Credential", "Admin"))):
        assert ask(channel, service) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, "no.such.Service")
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_is_not_serving_while_a_database_does_not_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = rig.client(None).channel
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    monkeypatch.setattr("pilotage_server.rpc.health.PATIENCE_SECONDS", 1.0)
    blocker = sqlite3.connect(rig.state / "credentials.sqlite", isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")
        assert rig.call(lambda app: app._health.look()) is False
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    finally:
        blocker.close()
    deadline = time.monotonic() + 60
    while not rig.call(lambda app: app._health.look()):
        assert time.monotonic() < deadline
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
