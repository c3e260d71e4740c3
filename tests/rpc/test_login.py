"""Login over gRPC: who gets a session, who does not, and what a session is good for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from toygrid import Identity, ToyGrid

from pilotage.login import sign_challenge
from pilotage.reasons import Reason
from pilotage.transport import open_channel
from pilotage.v1 import auth_pb2, credential_pb2, job_pb2, pilot_pb2
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, make_key
from pilotage_server.auth.presence import MARGIN
from support.refusals import reason
from support.server_process import ServerProcess
from support.server_rig import AUDIENCE, OWNER_ROLE, Client, Rig, local_identity

LIST = credential_pb2.ListCredentialsRequest()


def login_request(stranger: Client, who: LocalIdentity, audience: str = AUDIENCE) -> auth_pb2.LoginRequest:
    """Ask for a challenge and sign it."""
    begun = stranger.auth.BeginLogin(auth_pb2.BeginLoginRequest())
    signature, algorithm = sign_challenge(who.key, audience, begun.challenge)
    return auth_pb2.LoginRequest(
        chain=who.chain_der, challenge=begun.challenge, signature=signature, algorithm=algorithm
    )


@pytest.fixture
def stranger(rig: Rig) -> Client:
    return rig.client(None)


@pytest.fixture
def alice_identity(alice_proxy: Path) -> LocalIdentity:
    return load_identity(alice_proxy)


def bearer(token: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {token}"),)


# who gets in


def test_a_proxy_logs_in_and_is_told_who_it_is(owner: Client, alice: Identity) -> None:
    me = owner.auth.WhoAmI(auth_pb2.WhoAmIRequest())
    assert me.principal.dn == alice.dn
    assert me.principal.vo == "demo"
    assert list(me.principal.fqans) == [OWNER_ROLE, "/demo"]
    assert not me.principal.limited
    assert me.principal.proof == auth_pb2.PROOF_KIND_SESSION
    assert list(me.roles) == ["owner"]


@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_an_end_entity_certificate_logs_in_the_same_way(rig: Rig, grid: ToyGrid, key: str) -> None:
    who = grid.user("Carol", key=key)
    me = rig.client(local_identity(who)).auth.WhoAmI(auth_pb2.WhoAmIRequest())
    assert me.principal.dn == who.dn
    assert list(me.principal.fqans) == list(me.roles) == []


def test_a_session_never_outlives_an_hour_or_its_chain(
    rig: Rig, stranger: Client, alice_identity: LocalIdentity, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    answer = stranger.auth.Login(login_request(stranger, alice_identity))
    assert 3590 <= answer.expire_time.seconds - rig.clock().timestamp() <= 3600
    short = load_identity(grid.plain_proxy(alice, tmp_path / "short", hours=1))
    rig.clock.turn(1800)
    answer = stranger.auth.Login(login_request(stranger, short))
    assert answer.expire_time.seconds <= short.chain[0].not_valid_after_utc.timestamp()


# challenges


def test_a_used_challenge_is_refused(stranger: Client, alice_identity: LocalIdentity) -> None:
    request = login_request(stranger, alice_identity)
    stranger.auth.Login(request)
    assert reason(stranger.auth.Login, request) is Reason.CHALLENGE_USED


def test_no_challenge_used_or_not_is_good_after_a_restart(rig: Rig, alice_identity: LocalIdentity) -> None:
    stranger = rig.client(None)
    used, unused = (login_request(stranger, alice_identity) for _ in range(2))
    stranger.auth.Login(used)
    rig.restart()
    stranger = rig.client(None)
    for request in (used, unused):
        assert reason(stranger.auth.Login, request) is Reason.CHALLENGE_INVALID


def test_a_challenge_can_be_used_once_by_many_at_the_same_time(stranger: Client, alice_identity: LocalIdentity) -> None:
    request = login_request(stranger, alice_identity)
    calls = [stranger.auth.Login.future(request) for _ in range(8)]
    refused = [call.exception() for call in calls if call.exception() is not None]
    assert len(refused) == 7
    assert {reason(call.result) for call in calls if call.exception() is not None} == {Reason.CHALLENGE_USED}


def test_a_late_challenge_is_refused(rig: Rig, stranger: Client, alice_identity: LocalIdentity) -> None:
    request = login_request(stranger, alice_identity)
    rig.clock.turn(121)
    assert reason(stranger.auth.Login, request) is Reason.CHALLENGE_EXPIRED


def test_an_altered_challenge_is_refused(stranger: Client, alice_identity: LocalIdentity) -> None:
    request = login_request(stranger, alice_identity)
    altered = bytearray(request.challenge)
    altered[20] ^= 1
    request.challenge = bytes(altered)
    assert reason(stranger.auth.Login, request) is Reason.CHALLENGE_INVALID


def test_a_challenge_of_another_server_of_the_same_name_is_refused(
    stranger: Client, alice_identity: LocalIdentity, grid: ToyGrid, host: Identity, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = ServerProcess(grid, tmp_path / "other", host)
    try:
        other.start()
        with open_channel(other.target, ca_dir=grid.ca_dir, identity=None) as channel:
            request = login_request(Client(channel), alice_identity)
    finally:
        other.close()
    assert reason(stranger.auth.Login, request) is Reason.CHALLENGE_INVALID


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_login_does_not_mind_that_somebody_sets_the_clock_meanwhile(
    rig: Rig, stranger: Client, alice_identity: LocalIdentity, seconds: int
) -> None:
    rig.clock.turn(7200)
    used, unused = (login_request(stranger, alice_identity) for _ in range(2))
    stranger.auth.Login(used)
    rig.clock.put(seconds)
    assert reason(stranger.auth.Login, used) is Reason.CHALLENGE_USED
    stranger.auth.Login(unused)
    rig.clock.put(-seconds)
    for request in (used, unused):
        assert reason(stranger.auth.Login, request) is Reason.CHALLENGE_USED


def test_a_challenge_says_when_it_ends(rig: Rig, stranger: Client) -> None:
    begun = stranger.auth.BeginLogin(auth_pb2.BeginLoginRequest())
    assert 118 <= begun.expire_time.seconds - rig.clock().timestamp() <= 120


def test_a_login_with_nothing_left_to_remember_challenges_in_is_refused_and_can_be_tried_again(
    rig: Rig, stranger: Client, alice_identity: LocalIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilotage_server.auth.challenge.MOST_USED", 1)
    stranger.auth.Login(login_request(stranger, alice_identity))
    assert reason(stranger.auth.Login, login_request(stranger, alice_identity)) is Reason.RATE_LIMITED
    rig.clock.turn(121)
    stranger.auth.Login(login_request(stranger, alice_identity))


def test_an_unused_challenge_costs_the_server_nothing(rig: Rig, stranger: Client) -> None:
    for _ in range(10):
        stranger.auth.BeginLogin(auth_pb2.BeginLoginRequest())
    assert rig.app is not None
    assert len(rig.app.challenges) == 0


# signatures


def test_a_signature_by_another_key_is_refused(stranger: Client, alice_identity: LocalIdentity) -> None:
    request = login_request(stranger, alice_identity)
    request.signature, _ = sign_challenge(make_key(KeyKind.RSA_2048), AUDIENCE, request.challenge)
    assert reason(stranger.auth.Login, request) is Reason.SIGNATURE_INVALID


def test_a_signature_for_another_audience_is_refused(stranger: Client, alice_identity: LocalIdentity) -> None:
    request = login_request(stranger, alice_identity, "pilotage://elsewhere")
    assert reason(stranger.auth.Login, request) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("algorithm", [0, 2, 99])
def test_a_signature_of_another_algorithm_is_refused(
    stranger: Client, alice_identity: LocalIdentity, algorithm: int
) -> None:
    request = login_request(stranger, alice_identity)
    request.algorithm = auth_pb2.SignatureAlgorithm.ValueType(algorithm)
    assert reason(stranger.auth.Login, request) is Reason.SIGNATURE_INVALID


def test_a_failed_login_does_not_spend_the_challenge(stranger: Client, alice_identity: LocalIdentity) -> None:
    request = login_request(stranger, alice_identity)
    good = request.signature
    request.signature = b"x" * len(good)
    assert reason(stranger.auth.Login, request) is Reason.SIGNATURE_INVALID
    request.signature = good
    stranger.auth.Login(request)


# chains


def test_an_expired_proxy_is_refused(
    rig: Rig, stranger: Client, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    proxy = load_identity(grid.plain_proxy(alice, tmp_path / "short", hours=1))
    rig.clock.turn(3600 + 600)
    assert reason(stranger.auth.Login, login_request(stranger, proxy)) is Reason.PROXY_EXPIRED


def test_an_expired_certificate_is_refused(stranger: Client, grid: ToyGrid) -> None:
    old = local_identity(grid.user("Old Alice", days=-1))
    assert reason(stranger.auth.Login, login_request(stranger, old)) is Reason.CERTIFICATE_EXPIRED


def test_a_proxy_of_an_unknown_authority_is_refused(stranger: Client, tmp_path: Path) -> None:
    elsewhere = ToyGrid(tmp_path / "elsewhere", "Other Grid")
    proxy = elsewhere.plain_proxy(elsewhere.user("Alice"), tmp_path / "foreign")
    assert reason(stranger.auth.Login, login_request(stranger, load_identity(proxy))) is Reason.CHAIN_UNKNOWN_CA


def test_a_revoked_certificate_is_refused(stranger: Client, grid: ToyGrid) -> None:
    who = grid.user("Revoked")
    grid.revoke(who)
    assert reason(stranger.auth.Login, login_request(stranger, local_identity(who))) is Reason.CERTIFICATE_REVOKED


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([], Reason.PROXY_EMPTY),
        ([b""], Reason.PROXY_EMPTY),
        ([b"no certificate"], Reason.PROXY_MALFORMED),
        ([b"x"] * 13, Reason.PROXY_TOO_LARGE),
        ([b"x" * 300_000], Reason.PROXY_TOO_LARGE),
    ],
)
def test_what_is_no_chain_is_refused(
    stranger: Client, alice_identity: LocalIdentity, chain: list[bytes], expected: Reason
) -> None:
    request = login_request(stranger, alice_identity)
    del request.chain[:]
    request.chain.extend(chain)
    assert reason(stranger.auth.Login, request) is expected


# what a session is good for


def test_a_limited_proxy_may_list_but_neither_submit_nor_delegate(
    rig: Rig, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    proxy = grid.voms_proxy(alice, tmp_path / "limited", fqans=(OWNER_ROLE, "/demo"), limited=True)
    client = rig.client(proxy)
    assert client.auth.WhoAmI(auth_pb2.WhoAmIRequest()).principal.limited
    client.credentials.ListCredentials(LIST)
    begin = credential_pb2.BeginDelegationRequest()
    assert reason(client.credentials.BeginDelegation, begin) is Reason.LIMITED_PROXY_REFUSED
    assert reason(client.jobs.SubmitJobs, job_pb2.SubmitJobsRequest()) is Reason.LIMITED_PROXY_REFUSED


def test_a_pilot_without_its_voms_role_is_refused(rig: Rig, grid: ToyGrid, robot: Identity, tmp_path: Path) -> None:
    plain = rig.client(grid.plain_proxy(robot, tmp_path / "plain"))
    member = rig.client(grid.voms_proxy(robot, tmp_path / "member", fqans=("/demo",)))
    for client in (plain, member):
        assert reason(client.pilots.RegisterPilot, pilot_pb2.RegisterPilotRequest()) is Reason.ROLE_REQUIRED
        retrieve = credential_pb2.RetrieveCredentialRequest()
        assert reason(client.credentials.RetrieveCredential, retrieve) is Reason.ROLE_REQUIRED


def test_an_owner_is_no_pilot_and_a_pilot_no_owner(owner: Client, pilot: Client) -> None:
    assert reason(owner.pilots.RegisterPilot, pilot_pb2.RegisterPilotRequest()) is Reason.ROLE_REQUIRED
    assert reason(pilot.jobs.SubmitJobs, job_pb2.SubmitJobsRequest()) is Reason.ROLE_REQUIRED
    assert reason(pilot.credentials.ListCredentials, LIST) is Reason.ROLE_REQUIRED


def test_a_session_that_is_over_is_refused(rig: Rig, stranger: Client, alice_identity: LocalIdentity) -> None:
    token = stranger.auth.Login(login_request(stranger, alice_identity)).session_token
    stranger.credentials.ListCredentials(LIST, metadata=bearer(token))
    rig.clock.turn(3601)
    call = lambda request: stranger.credentials.ListCredentials(request, metadata=bearer(token))  # noqa: E731
    assert reason(call, LIST) is Reason.SESSION_EXPIRED


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ((), Reason.UNAUTHENTICATED),
        ((("authorization", ""),), Reason.SESSION_INVALID),
        ((("authorization", "Bearer"),), Reason.SESSION_INVALID),
        ((("authorization", "Bearer x"),), Reason.SESSION_INVALID),
        ((("authorization", "Basic dXNlcjpwYXNz"),), Reason.SESSION_INVALID),
        ((("authorization", "Bearer a.b.c"), ("authorization", "Bearer a.b.c")), Reason.SESSION_INVALID),
        ((("authorization", "Bearer " + "a" * 17_000),), Reason.SESSION_INVALID),
    ],
)
def test_a_call_without_a_good_token_is_refused(
    stranger: Client, metadata: tuple[tuple[str, str], ...], expected: Reason
) -> None:
    assert reason(lambda r: stranger.credentials.ListCredentials(r, metadata=metadata), LIST) is expected


def test_a_bad_token_is_refused_even_where_none_is_needed(stranger: Client) -> None:
    call: Callable[[auth_pb2.BeginLoginRequest], object]
    call = lambda request: stranger.auth.BeginLogin(request, metadata=bearer("x"))  # noqa: E731
    assert reason(call, auth_pb2.BeginLoginRequest()) is Reason.SESSION_INVALID


def test_sessions_outlive_the_server_process(rig: Rig, alice_identity: LocalIdentity) -> None:
    # Longer after the last change of the authorities' files than a session can have been proven before it was opened.
    rig.clock.turn(MARGIN.total_seconds() * 2)
    stranger = rig.client(None)
    token = stranger.auth.Login(login_request(stranger, alice_identity)).session_token
    rig.restart()
    rig.client(None).credentials.ListCredentials(LIST, metadata=bearer(token))


def test_nothing_secret_is_logged(rig: Rig, stranger: Client, alice_identity: LocalIdentity) -> None:
    request = login_request(stranger, alice_identity)
    token = stranger.auth.Login(request).session_token
    with pytest.raises(grpc.RpcError):
        stranger.jobs.SubmitJobs(job_pb2.SubmitJobsRequest(), metadata=bearer(token))
    text = rig.log_text + (rig.state / "audit.jsonl").read_text()
    assert alice_identity.chain_der[0].hex() not in text
    assert '"session opened"' in (rig.state / "audit.jsonl").read_text()
    assert "SubmitJobs" in text
    for part in token.split("."):
        assert part not in text


def test_attributes_that_are_left_out_are_told_in_the_log_once(
    make_rig: Callable[..., Rig], grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    proxy = grid.voms_proxy(alice, tmp_path / "elsewhere.proxy", vo="elsewhere")
    shutil.rmtree(grid.voms_dir / "elsewhere")
    rig = make_rig()
    for _ in range(2):
        assert list(rig.client(proxy).auth.WhoAmI(auth_pb2.WhoAmIRequest()).principal.fqans) == []
    (line,) = [line for line in map(json.loads, rig.log_text.splitlines()) if line["event"] == "attributes left out"]
    assert (line["level"], line["dn"]) == ("info", alice.dn)
    assert "VO elsewhere" in line["note"]
