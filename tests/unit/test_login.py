"""Login over real TLS against a small AuthService with real cryptography, synchronous and asyncio."""

import asyncio
import datetime
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from toygrid import ToyGrid

import pilotage.aio
from pilotage.errors import AuthenticationError, PilotageError, ServiceError, refuse
from pilotage.login import check_audience, login_text
from pilotage.reasons import Reason
from pilotage.transport import error_from, open_channel, parse_target
from pilotage.trust import ca_bundle, find_ca_dir
from pilotage.v1 import auth_pb2, auth_pb2_grpc, job_pb2, job_pb2_grpc
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.names import slash_form
from pilotage.x509.proxies import end_entity


class TinyAuth(auth_pb2_grpc.AuthServiceServicer):
    """Log callers in by signature; sessions are numbered tokens."""

    def __init__(self) -> None:
        self.audience = "pilotage://localhost:7643"
        self.lifetime = datetime.timedelta(hours=1)
        self.refusal: Reason | None = None
        self.restarts = 0
        """How many logins from now on find that the server was started anew since they were begun."""
        self.begun = 0
        self.challenges: set[bytes] = set()
        self.sessions: dict[str, str] = {}
        self.logins = 0
        self.peers: set[str] = set()
        self.lock = threading.Lock()

    def abort(self, context: grpc.ServicerContext, reason: Reason) -> None:
        detail = Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=reason.name, domain="pilotage"))
        status = status_pb2.Status(code=reason.row.code.value, message=reason.row.text, details=[detail])
        context.abort_with_status(rpc_status.to_status(status))

    def BeginLogin(  # noqa: N802
        self, request: auth_pb2.BeginLoginRequest, context: grpc.ServicerContext
    ) -> auth_pb2.BeginLoginResponse:
        self.peers.add(context.peer())
        self.begun += 1
        challenge = os.urandom(32)
        self.challenges.add(challenge)
        return auth_pb2.BeginLoginResponse(challenge=challenge, audience=self.audience)

    def Login(self, request: auth_pb2.LoginRequest, context: grpc.ServicerContext) -> auth_pb2.LoginResponse:  # noqa: N802
        if self.refusal is not None:
            self.abort(context, self.refusal)
        if self.restarts > 0:
            self.restarts -= 1
            self.abort(context, Reason.CHALLENGE_INVALID)
        if request.challenge not in self.challenges:
            self.abort(context, Reason.CHALLENGE_USED)
        self.challenges.remove(request.challenge)
        chain = [x509.load_der_x509_certificate(der) for der in request.chain]
        try:
            verify(chain[0], request, login_text(self.audience, request.challenge))
        except InvalidSignature:
            self.abort(context, Reason.SIGNATURE_INVALID)
        with self.lock:
            self.logins += 1
            token = f"session-{self.logins}"
            self.sessions[token] = slash_form(end_entity(chain).subject)
        answer = auth_pb2.LoginResponse(session_token=token)
        answer.expire_time.FromDatetime(datetime.datetime.now(datetime.UTC) + self.lifetime)
        return answer

    def WhoAmI(self, request: auth_pb2.WhoAmIRequest, context: grpc.ServicerContext) -> auth_pb2.WhoAmIResponse:  # noqa: N802
        return auth_pb2.WhoAmIResponse(principal=auth_pb2.Principal(dn=self.caller(context)))

    def caller(self, context: grpc.ServicerContext) -> str:
        self.peers.add(context.peer())
        shown = dict(context.invocation_metadata()).get("authorization", "")
        assert isinstance(shown, str)
        owner = self.sessions.get(shown.removeprefix("Bearer "))
        if owner is None:
            self.abort(context, Reason.SESSION_EXPIRED if shown else Reason.UNAUTHENTICATED)
        assert owner is not None
        return owner


def verify(leaf: x509.Certificate, request: auth_pb2.LoginRequest, text: bytes) -> None:
    key = leaf.public_key()
    if request.algorithm == auth_pb2.SIGNATURE_ALGORITHM_RSA_PSS_SHA256:
        assert isinstance(key, rsa.RSAPublicKey)
        key.verify(request.signature, text, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(request.signature, text, ec.ECDSA(hashes.SHA256()))


class TinyJobs(job_pb2_grpc.JobServiceServicer):
    """One stream, to see what happens to a refused session there."""

    def __init__(self, auth: TinyAuth) -> None:
        self.auth = auth

    def WatchJobs(  # noqa: N802
        self, request: job_pb2.WatchJobsRequest, context: grpc.ServicerContext
    ) -> Iterator[job_pb2.WatchJobsResponse]:
        self.auth.caller(context)
        yield job_pb2.WatchJobsResponse()


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ToyGrid:
    return ToyGrid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def alice(grid: ToyGrid, tmp_path_factory: pytest.TempPathFactory) -> LocalIdentity:
    return load_identity(grid.plain_proxy(grid.user("Alice"), tmp_path_factory.mktemp("alice") / "proxy.pem"))


@pytest.fixture
def auth() -> TinyAuth:
    return TinyAuth()


@pytest.fixture
def target(grid: ToyGrid, auth: TinyAuth) -> Iterator[str]:
    host = grid.host("localhost")
    server = grpc.server(ThreadPoolExecutor(8))
    auth_pb2_grpc.add_AuthServiceServicer_to_server(auth, server)
    job_pb2_grpc.add_JobServiceServicer_to_server(TinyJobs(auth), server)  # type: ignore[abstract]
    credentials = grpc.ssl_server_credentials([(host.key_path.read_bytes(), host.cert_path.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"localhost:{port}"
    server.stop(0).wait()


def whoami(channel: grpc.Channel) -> str:
    stub = auth_pb2_grpc.AuthServiceStub(channel)
    return stub.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=120).principal.dn


def refusal(channel: grpc.Channel) -> PilotageError:
    with pytest.raises(grpc.RpcError) as caught:
        whoami(channel)
    return error_from(caught.value)


def test_a_proxy_logs_in_by_itself(target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity) -> None:
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
        assert [whoami(channel) for _ in range(3)] == ["/O=Toy Grid/CN=Alice"] * 3
    assert auth.logins == 1


def test_a_login_takes_no_connection_of_its_own(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
        whoami(channel)
    assert auth.logins == len(auth.peers) == 1


def test_a_login_cut_by_a_restart_of_the_server_is_begun_anew_once(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    auth.restarts = 1
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
        assert whoami(channel) == "/O=Toy Grid/CN=Alice"
        assert (auth.begun, auth.logins, auth.restarts) == (2, 1, 0)
        auth.restarts = 9
        auth.sessions.clear()
        assert refusal(channel).reason is Reason.CHALLENGE_INVALID
        assert (auth.begun, auth.logins, auth.restarts) == (4, 1, 7)
    assert len(auth.peers) == 1


@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_an_end_entity_certificate_logs_in_the_same_way(target: str, grid: ToyGrid, key: str) -> None:
    who = grid.user(f"Bob {key}", key=key)
    identity = load_identity(who.cert_path, who.key_path)
    with open_channel(target, ca_dir=grid.ca_dir, identity=identity) as channel:
        assert whoami(channel) == f"/O=Toy Grid/CN=Bob {key}"


def test_many_threads_share_one_login(target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity) -> None:
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel, ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: whoami(channel), range(16)))) == 16
    assert auth.logins == 1


def test_a_session_is_renewed_before_it_ends(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth.lifetime = datetime.timedelta(seconds=100)
    monkeypatch.setattr("pilotage.login.SHORTEST_CACHE_SECONDS", 0.0)
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
        whoami(channel)
        assert auth.logins == 1
        auth.lifetime = datetime.timedelta(seconds=0)
        auth.sessions.clear()
        whoami(channel)
        assert auth.logins == 2
        whoami(channel)
        assert auth.logins == 3


def test_a_refused_session_leads_to_one_fresh_login_and_one_retry(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
        whoami(channel)
        auth.sessions.clear()
        assert whoami(channel) == "/O=Toy Grid/CN=Alice"
        assert auth.logins == 2


def test_a_stream_with_a_refused_session_leads_to_a_fresh_login_at_the_next_call(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
        whoami(channel)
        auth.sessions.clear()
        stub = job_pb2_grpc.JobServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.WatchJobs(job_pb2.WatchJobsRequest(), timeout=120))
        error = error_from(caught.value)
        assert error.reason is Reason.SESSION_EXPIRED
        assert error.retry
        assert len(list(stub.WatchJobs(job_pb2.WatchJobsRequest(), timeout=120))) == 1
        assert auth.logins == 2


def test_a_call_without_identity_is_told_so(target: str, grid: ToyGrid) -> None:
    with open_channel(target, ca_dir=grid.ca_dir, identity=None) as channel:
        assert refusal(channel).reason is Reason.UNAUTHENTICATED


def test_the_reason_of_a_refused_login_reaches_the_caller(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    auth.refusal = Reason.CERTIFICATE_REVOKED
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
        error = refusal(channel)
    assert error.reason is Reason.CERTIFICATE_REVOKED
    assert error.message == Reason.CERTIFICATE_REVOKED.row.text


def test_the_reason_of_an_unusable_identity_reaches_the_caller(target: str, grid: ToyGrid, tmp_path: Path) -> None:
    with open_channel(
        target, ca_dir=grid.ca_dir, identity=lambda: load_identity(tmp_path / "no such proxy.pem")
    ) as channel:
        error = refusal(channel)
    assert error.reason is Reason.IDENTITY_FILE_UNUSABLE
    assert "no such proxy.pem" in error.message


def test_no_login_for_somebody_elses_audience(target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity) -> None:
    auth.audience = "pilotage://other.example.org:7643"
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
        assert refusal(channel).reason is Reason.AUDIENCE_MISMATCH
    assert auth.logins == 0
    with open_channel(target, ca_dir=grid.ca_dir, identity=alice, audience=auth.audience) as channel:
        assert whoami(channel) == "/O=Toy Grid/CN=Alice"


@pytest.mark.parametrize(
    ("audience", "host"),
    [
        ("pilotage://grid.example.org:7643", "GRID.example.org."),
        ("pilotage://grid.example.org", "grid.example.org"),
        ("pilotage://localhost:1", "127.0.0.1"),
        ("pilotage://[::1]:1", "localhost"),
    ],
)
def test_an_audience_is_compared_by_host(audience: str, host: str) -> None:
    check_audience(audience, host)


@pytest.mark.parametrize(
    "audience",
    [
        "",
        "grid.example.org",
        "https://grid.example.org",
        "pilotage://",
        "pilotage://grid.example.org.evil.org",
        "pilotage://grid.example.org@evil.org",
        "pilotage://[",
    ],
)
def test_other_audiences_are_refused(audience: str) -> None:
    with pytest.raises(AuthenticationError):
        check_audience(audience, "grid.example.org")


def test_a_server_of_an_unknown_authority_is_not_believed(
    target: str, tmp_path: Path, alice: LocalIdentity, auth: TinyAuth
) -> None:
    other = ToyGrid(tmp_path / "other", "Other Grid")
    with open_channel(target, ca_dir=other.ca_dir, identity=alice) as channel:
        error = refusal(channel)
    assert isinstance(error, ServiceError)
    assert error.exit_code == 5
    assert "CA directory" in error.message
    assert auth.logins == 0


def test_a_server_with_another_name_is_not_believed(grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity) -> None:
    host = grid.host("elsewhere.example.org", addresses=())
    server = grpc.server(ThreadPoolExecutor(2))
    auth_pb2_grpc.add_AuthServiceServicer_to_server(auth, server)
    credentials = grpc.ssl_server_credentials([(host.key_path.read_bytes(), host.cert_path.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    with open_channel(f"localhost:{port}", ca_dir=grid.ca_dir, identity=alice) as channel:
        error = refusal(channel)
    server.stop(0).wait()
    assert error.reason is Reason.UNAVAILABLE
    assert auth.logins == 0


def test_a_server_that_is_not_there_is_unavailable(grid: ToyGrid, alice: LocalIdentity) -> None:
    with open_channel("localhost:1", ca_dir=grid.ca_dir, identity=alice) as channel:
        error = refusal(channel)
    assert error.reason is Reason.UNAVAILABLE
    assert error.exit_code == 5


def test_asyncio_calls_log_in_the_same_way(target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity) -> None:
    async def journey() -> None:
        async with pilotage.aio.open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
            stub = auth_pb2_grpc.AuthServiceStub(channel)
            for _ in range(2):
                answer = await stub.WhoAmI(auth_pb2.WhoAmIRequest())
                assert answer.principal.dn == "/O=Toy Grid/CN=Alice"
            assert auth.logins == 1
            auth.sessions.clear()
            await stub.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=120)
            assert auth.logins == 2
            auth.sessions.clear()
            jobs = job_pb2_grpc.JobServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                _ = [item async for item in jobs.WatchJobs(job_pb2.WatchJobsRequest(), timeout=120)]
            assert pilotage.aio.error_from(caught.value).reason is Reason.SESSION_EXPIRED
            await asyncio.sleep(0)
            assert len([item async for item in jobs.WatchJobs(job_pb2.WatchJobsRequest(), timeout=120)]) == 1
            auth.refusal = Reason.VOMS_EXPIRED
            auth.sessions.clear()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=120)
            assert pilotage.aio.error_from(caught.value).reason is Reason.VOMS_EXPIRED

    asyncio.run(journey())


def test_an_asyncio_login_takes_no_connection_of_its_own_and_many_calls_share_it(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    async def journey() -> None:
        async with pilotage.aio.open_channel(target, ca_dir=grid.ca_dir, identity=lambda: alice) as channel:
            stub = auth_pb2_grpc.AuthServiceStub(channel)
            answers = await asyncio.gather(*(stub.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=10) for _ in range(16)))
            assert {answer.principal.dn for answer in answers} == {"/O=Toy Grid/CN=Alice"}

    asyncio.run(journey())
    assert auth.logins == auth.begun == len(auth.peers) == 1


def test_an_asyncio_login_cut_by_a_restart_of_the_server_is_begun_anew_once(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    async def journey() -> None:
        async with pilotage.aio.open_channel(target, ca_dir=grid.ca_dir, identity=alice) as channel:
            stub = auth_pb2_grpc.AuthServiceStub(channel)
            assert (await stub.WhoAmI(auth_pb2.WhoAmIRequest())).principal.dn == "/O=Toy Grid/CN=Alice"
            assert (auth.begun, auth.logins, auth.restarts) == (2, 1, 0)
            auth.restarts = 9
            auth.sessions.clear()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.WhoAmI(auth_pb2.WhoAmIRequest())
            assert pilotage.aio.error_from(caught.value).reason is Reason.CHALLENGE_INVALID
            assert (auth.begun, auth.logins, auth.restarts) == (4, 1, 7)

    auth.restarts = 1
    asyncio.run(journey())


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (ValueError("a secret"), Reason.INTERNAL),
        (refuse(Reason.IDENTITY_FILE_UNUSABLE, "no such proxy.pem"), Reason.IDENTITY_FILE_UNUSABLE),
    ],
)
def test_an_asyncio_login_that_fails_here_is_a_failed_call_and_the_next_one_tries_again(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity, fault: Exception, expected: Reason
) -> None:
    faults = [fault, fault]

    def source() -> LocalIdentity:
        if faults:
            raise faults.pop()
        return alice

    async def journey() -> None:
        async with pilotage.aio.open_channel(target, ca_dir=grid.ca_dir, identity=source) as channel:
            stub, jobs = auth_pb2_grpc.AuthServiceStub(channel), job_pb2_grpc.JobServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.WhoAmI(auth_pb2.WhoAmIRequest())
            assert pilotage.aio.error_from(caught.value).reason is expected
            assert "a secret" not in str(caught.value)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                _ = [item async for item in jobs.WatchJobs(job_pb2.WatchJobsRequest())]
            assert pilotage.aio.error_from(caught.value).reason is expected
            assert (await stub.WhoAmI(auth_pb2.WhoAmIRequest())).principal.dn == "/O=Toy Grid/CN=Alice"

    asyncio.run(journey())


def test_a_call_does_not_wait_for_its_asyncio_login_longer_than_its_deadline(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    free = threading.Event()

    def source() -> LocalIdentity:
        assert free.wait(30)
        return alice

    async def journey() -> None:
        async with pilotage.aio.open_channel(target, ca_dir=grid.ca_dir, identity=source) as channel:
            stub = auth_pb2_grpc.AuthServiceStub(channel)
            patient = asyncio.ensure_future(stub.WhoAmI(auth_pb2.WhoAmIRequest()))
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=0.05)
                assert pilotage.aio.error_from(caught.value).reason is Reason.DEADLINE_EXCEEDED
            free.set()
            assert (await patient).principal.dn == "/O=Toy Grid/CN=Alice"

    asyncio.run(journey())
    assert auth.logins == 1


def test_an_asyncio_login_goes_on_when_the_call_that_began_it_is_over(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    free = threading.Event()
    loads = []

    def source() -> LocalIdentity:
        loads.append(alice)
        assert free.wait(30)
        return alice

    async def journey() -> None:
        async with pilotage.aio.open_channel(target, ca_dir=grid.ca_dir, identity=source) as channel:
            stub = auth_pb2_grpc.AuthServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=0.05)
            cancelled = asyncio.ensure_future(stub.WhoAmI(auth_pb2.WhoAmIRequest()))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            free.set()
            assert (await stub.WhoAmI(auth_pb2.WhoAmIRequest())).principal.dn == "/O=Toy Grid/CN=Alice"

    asyncio.run(journey())
    assert len(loads) == auth.begun == auth.logins == 1


def test_the_identity_is_loaded_anew_for_each_login(
    target: str, grid: ToyGrid, auth: TinyAuth, alice: LocalIdentity
) -> None:
    who = grid.user("Carol")
    identities = [alice, load_identity(who.cert_path, who.key_path)]
    with open_channel(target, ca_dir=grid.ca_dir, identity=lambda: identities.pop(0)) as channel:
        assert whoami(channel) == "/O=Toy Grid/CN=Alice"
        auth.sessions.clear()
        assert whoami(channel) == "/O=Toy Grid/CN=Carol"


def test_secrets_do_not_show(alice: LocalIdentity) -> None:
    assert repr(alice).startswith("LocalIdentity(source=")
    assert "RSAPrivateKey" not in repr(alice)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("grid.example.org", "grid.example.org:7643"),
        ("grid.example.org:1", "grid.example.org:1"),
        ("pilotage://grid.example.org:1/", "grid.example.org:1"),
        ("[::1]:5", "[::1]:5"),
    ],
)
def test_addresses_are_read_as_people_write_them(text: str, address: str) -> None:
    assert parse_target(text).address == address


@pytest.mark.parametrize("text", ["", ":1", "host:0x1", "host:99999", "http://host", "unix:/x", "a:b:c"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(PilotageError):
        parse_target(text)


def test_the_ca_directory_is_found_as_grid_tools_do(tmp_path: Path) -> None:
    own = tmp_path / ".globus" / "certificates"
    own.mkdir(parents=True)
    assert find_ca_dir({"X509_CERT_DIR": "/x", "HOME": str(tmp_path)}) == Path("/x")
    assert find_ca_dir({"HOME": str(tmp_path)}) == own
    assert find_ca_dir({}) == Path("/etc/grid-security/certificates")


def test_a_ca_directory_without_anchors_is_refused(tmp_path: Path, grid: ToyGrid) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(PilotageError) as caught:
            ca_bundle(folder)
        assert caught.value.reason is Reason.CA_DIRECTORY_UNUSABLE
    (tmp_path / "00000000.0").write_text("rubbish")
    (tmp_path / "11111111.0").write_bytes((grid.root / "ca.pem").read_bytes())
    assert ca_bundle(tmp_path) == (grid.root / "ca.pem").read_bytes()
