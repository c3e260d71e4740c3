"""Credentials over gRPC, from the owner's delegation to the pilot's proxy, and every way it must not go."""

import contextlib
import datetime
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from toygrid import Identity, ToyGrid

import pilotage_helper
from pilotage.reasons import Reason
from pilotage.v1 import credential_pb2 as pb
from pilotage.v1 import pilot_pb2
from pilotage.wire_errors import reason_of
from pilotage.x509 import pool as pools
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, PrivateKey, make_key
from pilotage.x509.proxies import is_limited
from pilotage.x509.requests import check_request, make_request
from pilotage_server import keys, tokens
from pilotage_server.app import App
from pilotage_server.rpc.values import page_token
from pilotage_server.store import credentials as store
from pilotage_server.store.credentials import Place
from pilotage_server.tokens import CredentialClaims
from support.journey import (
    Delegated,
    acquire,
    complete_request,
    delegate,
    proxy_chain,
    register,
    retrieve_request,
    submit,
)
from support.key_pools import no_more_keys
from support.refusals import reason
from support.server_rig import OWNER_ROLE, Client, Rig, local_identity


@pytest.fixture
def alice_identity(alice_proxy: Path) -> LocalIdentity:
    return load_identity(alice_proxy)


@pytest.fixture
def delegated(owner: Client, alice_identity: LocalIdentity) -> Delegated:
    return delegate(owner, alice_identity)


@pytest.fixture
def lease(owner: Client, pilot: Client, delegated: Delegated) -> pilot_pb2.Lease:
    """A job of Alice's, acquired by the pilot."""
    submit(owner, delegated)
    return acquire(pilot, register(pilot))


def claims_of(rig: Rig, lease: pilot_pb2.Lease) -> CredentialClaims:
    key = keys.load(rig.state / "keys").token.public_key()
    return tokens.verify(lease.credential_token, key, rig.clock())


def with_claims(rig: Rig, lease: pilot_pb2.Lease, **changes: object) -> pb.RetrieveCredentialRequest:
    """Return a retrieval whose token JobService's own key signed over altered claims."""
    claims = msgspec.structs.replace(claims_of(rig, lease), **changes)
    request = retrieve_request(lease)
    token = tokens.sign(claims, keys.load(rig.state / "keys").token, rig.clock())
    request.credential_token = token.reveal_text()
    return request


# delegation


@pytest.mark.parametrize("kind", list(KeyKind))
def test_an_owner_delegates_and_a_pilot_gets_a_proxy_of_its_own_key(
    kind: KeyKind, rig: Rig, owner: Client, pilot: Client, alice: Identity, alice_identity: LocalIdentity, grid: ToyGrid
) -> None:
    delegated = delegate(owner, alice_identity, kind=kind)
    job_id = submit(owner, delegated)
    lease = acquire(pilot, register(pilot))
    key = make_key(kind)
    answer = pilot.credentials.RetrieveCredential(retrieve_request(lease, key))
    proxy = x509.load_der_x509_certificate(answer.chain[0])
    assert proxy.public_key() == key.public_key()
    stored_key = x509.load_der_x509_certificate(answer.chain[1]).public_key()
    assert isinstance(stored_key, rsa.RSAPublicKey if kind is KeyKind.RSA_2048 else ec.EllipticCurvePublicKey)
    options = pilotage_helper.VerifyOptions(ca_dir=grid.ca_dir, voms_dir=grid.voms_dir, require_proxy=True)
    who = pilotage_helper.verify_chain(answer.chain, options)
    assert (who.dn, who.fqans, who.limited) == (alice.dn, (OWNER_ROLE, "/demo"), False)
    assert answer.expire_time.seconds == proxy.not_valid_after_utc.timestamp()
    issued = owner.credentials.ListIssuances(pb.ListIssuancesRequest(credential_id=delegated.credential_id)).issuances
    assert len(issued) == 1
    assert issued[0].job_id == lease.job_id == job_id
    assert issued[0].lease_id == lease.lease_id
    assert issued[0].serial == str(proxy.serial_number)
    assert issued[0].pilot_dn.endswith("Robot - pilot factory")


def test_a_delegation_of_no_named_kind_makes_an_rsa_key(owner: Client) -> None:
    begun = owner.credentials.BeginDelegation(pb.BeginDelegationRequest(key_kind=pb.KEY_KIND_UNSPECIFIED))
    key = check_request(begun.certificate_request)
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048


def test_a_delegation_takes_a_key_that_is_ready(rig: Rig, owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rig.app is not None
    pool = rig.app._pool
    with no_more_keys(monkeypatch, pool):
        begun = owner.credentials.BeginDelegation(pb.BeginDelegationRequest())
        assert isinstance(check_request(begun.certificate_request), rsa.RSAPublicKey)
        assert pool.ready == pool.size - 1


def test_a_delegation_from_an_end_entity_certificate_works(
    make_rig: Callable[..., Rig], grid: ToyGrid, alice: Identity
) -> None:
    rig = make_rig(roles={"owner": [alice.dn]})
    identity = local_identity(alice)
    stored = delegate(rig.client(identity), identity).message
    assert (stored.owner_dn, list(stored.fqans), stored.limited) == (alice.dn, [], False)


def test_what_is_stored_is_told_without_its_key(owner: Client, delegated: Delegated, alice: Identity) -> None:
    found = owner.credentials.GetCredential(pb.GetCredentialRequest(credential_id=delegated.credential_id)).credential
    assert found == delegated.message
    assert found.owner_dn == alice.dn
    assert list(found.fqans) == [OWNER_ROLE, "/demo"]
    assert found.key_kind == pb.KEY_KIND_RSA_2048
    listed = owner.credentials.ListCredentials(pb.ListCredentialsRequest())
    assert list(listed.credentials) == [found]


def test_a_credential_is_nobody_elses(
    rig: Rig, owner: Client, delegated: Delegated, bob_proxy: Path, admin: LocalIdentity
) -> None:
    bob = rig.client(bob_proxy)
    name = delegated.credential_id
    assert list(bob.credentials.ListCredentials(pb.ListCredentialsRequest()).credentials) == []
    calls: list[Callable[[], object]] = [
        lambda: bob.credentials.GetCredential(pb.GetCredentialRequest(credential_id=name)),
        lambda: bob.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=name)),
        lambda: bob.credentials.ListIssuances(pb.ListIssuancesRequest(credential_id=name)),
    ]
    for call in calls:
        assert reason(call) is Reason.CREDENTIAL_NOT_FOUND
    assert reason(submit, bob, delegated) is Reason.CREDENTIAL_NOT_FOUND
    watcher = rig.mutual_client(admin)
    assert list(watcher.credentials.ListIssuances(pb.ListIssuancesRequest(credential_id=name)).issuances) == []


def test_a_proxy_for_another_key_is_refused(owner: Client, alice_identity: LocalIdentity) -> None:
    request = complete_request(owner, alice_identity)
    del request.chain[:]
    request.chain.extend(proxy_chain(alice_identity, check_request(make_request(make_key(KeyKind.EC_P256)))))
    assert reason(owner.credentials.CompleteDelegation, request) is Reason.DELEGATION_KEY_MISMATCH


def test_a_proxy_of_somebody_else_is_refused(owner: Client, bob_proxy: Path) -> None:
    request = complete_request(owner, load_identity(bob_proxy))
    assert reason(owner.credentials.CompleteDelegation, request) is Reason.DELEGATION_WRONG_OWNER


def test_a_delegation_completes_once_and_only_for_who_began_it(
    rig: Rig, owner: Client, alice_identity: LocalIdentity, bob_proxy: Path
) -> None:
    request = complete_request(owner, alice_identity)
    bob = rig.client(bob_proxy)
    assert reason(bob.credentials.CompleteDelegation, request) is Reason.DELEGATION_NOT_FOUND
    owner.credentials.CompleteDelegation(request)
    assert reason(owner.credentials.CompleteDelegation, request) is Reason.DELEGATION_NOT_FOUND


def test_a_delegation_is_forgotten_after_five_minutes_and_by_a_restart(
    rig: Rig, owner: Client, alice_proxy: Path, alice_identity: LocalIdentity
) -> None:
    request = complete_request(owner, alice_identity)
    rig.clock.turn(301)
    assert reason(owner.credentials.CompleteDelegation, request) is Reason.DELEGATION_NOT_FOUND
    request = complete_request(owner, alice_identity)
    rig.restart()
    owner = rig.client(alice_proxy)
    assert reason(owner.credentials.CompleteDelegation, request) is Reason.DELEGATION_NOT_FOUND


def test_a_delegation_whose_caller_has_gone_was_begun(rig: Rig, owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever hangs up has keys made without end: they cost the service tens of milliseconds each."""
    made: list[KeyKind] = []

    def make_slowly(kind: KeyKind) -> PrivateKey:
        made.append(kind)
        time.sleep(0.3)
        return make_key(kind)

    owner.credentials.ListCredentials(pb.ListCredentialsRequest())
    monkeypatch.setattr(pools, "make_key", make_slowly)
    begin = pb.BeginDelegationRequest(key_kind=pb.KEY_KIND_EC_P256)
    for _ in range(40):
        with contextlib.suppress(grpc.RpcError):
            owner.credentials.BeginDelegation(begin, timeout=0.05)
    assert reason(owner.credentials.BeginDelegation, begin) is Reason.RATE_LIMITED
    assert len(made) <= 8


def test_an_owner_cannot_begin_without_end(rig: Rig, owner: Client, bob_proxy: Path) -> None:
    begin = pb.BeginDelegationRequest(key_kind=pb.KEY_KIND_EC_P256)
    for _ in range(8):
        owner.credentials.BeginDelegation(begin)
    assert reason(owner.credentials.BeginDelegation, begin) is Reason.RATE_LIMITED
    rig.client(bob_proxy).credentials.BeginDelegation(begin)
    rig.clock.turn(301)
    owner.credentials.BeginDelegation(begin)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"retrieval_key": b"short"}, Reason.INVALID_ARGUMENT),
        ({"name": "x" * 257}, Reason.INVALID_ARGUMENT),
        ({"name": "two\nlines"}, Reason.INVALID_ARGUMENT),
        ({"chain": []}, Reason.PROXY_EMPTY),
        ({"chain": [b"nonsense"]}, Reason.PROXY_MALFORMED),
        ({"delegation_id": "no such"}, Reason.DELEGATION_NOT_FOUND),
    ],
)
def test_a_malformed_completion_is_refused(
    owner: Client, alice_identity: LocalIdentity, change: dict[str, object], expected: Reason
) -> None:
    request = complete_request(owner, alice_identity, kind=KeyKind.EC_P256)
    for name, value in change.items():
        if isinstance(value, list):
            del request.chain[:]
            request.chain.extend(value)
        else:
            setattr(request, name, value)
    assert reason(owner.credentials.CompleteDelegation, request) is expected


def test_an_unknown_kind_of_key_is_refused(owner: Client) -> None:
    begin = pb.BeginDelegationRequest(key_kind=pb.KeyKind.ValueType(9))
    assert reason(owner.credentials.BeginDelegation, begin) is Reason.KEY_KIND_REFUSED


def test_a_credential_that_lives_too_short_or_too_long_is_refused(
    make_rig: Callable[..., Rig], alice_proxy: Path, alice_identity: LocalIdentity
) -> None:
    rig = make_rig(credentials={"max_lifetime_seconds": 3600})
    owner = rig.client(alice_proxy)
    short = complete_request(owner, alice_identity, lifetime_seconds=300)
    assert reason(owner.credentials.CompleteDelegation, short) is Reason.CREDENTIAL_TOO_SHORT
    long = complete_request(owner, alice_identity, lifetime_seconds=7200)
    assert reason(owner.credentials.CompleteDelegation, long) is Reason.LIFETIME_TOO_LONG


def test_lists_come_in_pages(rig: Rig, owner: Client, alice_identity: LocalIdentity) -> None:
    made = [delegate(owner, alice_identity, kind=KeyKind.EC_P256).credential_id for _ in range(5)]
    found: list[str] = []
    token = ""
    while True:
        page = owner.credentials.ListCredentials(pb.ListCredentialsRequest(page_size=2, page_token=token))
        assert len(page.credentials) <= 2
        found += [credential.credential_id for credential in page.credentials]
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]
    beyond = [page_token(Place(number, "")) for number in (2**63, 2**64 - 1, -(2**63))]
    for bad in ("x", "AAAA", "é", *beyond):
        request = pb.ListCredentialsRequest(page_token=bad)
        assert reason(owner.credentials.ListCredentials, request) is Reason.PAGE_TOKEN_INVALID
    negative = pb.ListCredentialsRequest(page_size=-1)
    assert reason(owner.credentials.ListCredentials, negative) is Reason.INVALID_ARGUMENT


# retrieval


def test_a_token_is_good_once(pilot: Client, lease: pilot_pb2.Lease) -> None:
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_USED


def test_two_concurrent_uses_of_a_token_give_one_proxy(
    owner: Client, pilot: Client, lease: pilot_pb2.Lease, delegated: Delegated
) -> None:
    requests = [retrieve_request(lease) for _ in range(8)]

    def use(request: pb.RetrieveCredentialRequest) -> Reason | None:
        try:
            pilot.credentials.RetrieveCredential(request)
        except grpc.RpcError as error:
            return reason_of(error)
        return None

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(use, requests))
    assert outcomes.count(None) == 1
    assert outcomes.count(Reason.TOKEN_USED) == 7
    found = owner.credentials.ListIssuances(pb.ListIssuancesRequest(credential_id=delegated.credential_id))
    assert len(found.issuances) == 1


def test_a_used_token_stays_used_after_a_restart(
    rig: Rig, pilot: Client, lease: pilot_pb2.Lease, pilot_proxy: Path
) -> None:
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    rig.restart()
    pilot = rig.client(pilot_proxy)
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_USED


def test_another_pilot_cannot_use_a_token(rig: Rig, lease: pilot_pb2.Lease, other_pilot_proxy: Path) -> None:
    thief = rig.client(other_pilot_proxy)
    assert reason(thief.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_FOREIGN


def test_the_same_pilot_with_another_key_cannot_use_a_token(
    rig: Rig, lease: pilot_pb2.Lease, grid: ToyGrid, robot: Identity, tmp_path: Path
) -> None:
    again = grid.voms_proxy(robot, tmp_path / "again", fqans=("/demo/Role=pilot", "/demo"))
    sibling = rig.client(again)
    assert reason(sibling.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_FOREIGN


def test_an_altered_token_is_refused(pilot: Client, lease: pilot_pb2.Lease) -> None:
    request = retrieve_request(lease)
    head, body, signature = request.credential_token.split(".")
    flipped = "A" if signature[10] != "A" else "B"
    request.credential_token = ".".join((head, body, signature[:10] + flipped + signature[11:]))
    assert reason(pilot.credentials.RetrieveCredential, request) is Reason.TOKEN_INVALID


def test_an_old_token_is_refused(rig: Rig, pilot: Client, lease: pilot_pb2.Lease) -> None:
    rig.clock.turn(300)
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_EXPIRED


def test_a_session_token_is_no_credential_token(rig: Rig, pilot: Client, lease: pilot_pb2.Lease) -> None:
    request = retrieve_request(lease)
    request.credential_token = ""
    assert reason(pilot.credentials.RetrieveCredential, request) is Reason.TOKEN_INVALID


def test_a_token_whose_lease_ended_is_refused(pilot: Client, delegated: Delegated, owner: Client) -> None:
    submit(owner, delegated)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    release = pilot_pb2.ReleaseJobRequest(pilot_id=pilot_id, lease_id=lease.lease_id, reason="WORKSPACE_UNUSABLE")
    pilot.pilots.ReleaseJob(release)
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.LEASE_ENDED


def test_a_token_for_a_lease_that_never_was_is_refused(rig: Rig, pilot: Client, lease: pilot_pb2.Lease) -> None:
    request = with_claims(rig, lease, lease_id="no-such-lease", jti="another")
    assert reason(pilot.credentials.RetrieveCredential, request) is Reason.LEASE_ENDED


def test_a_token_naming_another_owner_or_credential_is_refused(
    rig: Rig, pilot: Client, lease: pilot_pb2.Lease, bob: Identity
) -> None:
    for change in ({"owner_dn": bob.dn}, {"credential_id": "no such"}):
        request = with_claims(rig, lease, **change)
        assert reason(pilot.credentials.RetrieveCredential, request) is Reason.CREDENTIAL_NOT_FOUND


def test_a_wrong_retrieval_key_is_refused_and_spends_nothing(pilot: Client, lease: pilot_pb2.Lease) -> None:
    for wrong in (b"w" * 32, b"", b"w" * 31):
        request = retrieve_request(lease)
        request.retrieval_key = wrong
        assert reason(pilot.credentials.RetrieveCredential, request) is Reason.RETRIEVAL_KEY_WRONG
    pilot.credentials.RetrieveCredential(retrieve_request(lease))


def small_rsa() -> PrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


def test_a_bad_request_is_refused_and_spends_nothing(pilot: Client, lease: pilot_pb2.Lease) -> None:
    good = bytearray(make_request(make_key(KeyKind.EC_P256)))
    altered = bytes(good[:-1]) + bytes([good[-1] ^ 1])
    for text, expected in (
        (b"", Reason.CSR_INVALID),
        (b"x" * 100, Reason.CSR_INVALID),
        (b"x" * 100_000, Reason.CSR_INVALID),
        (altered, Reason.CSR_INVALID),
        (make_request(small_rsa()), Reason.KEY_KIND_REFUSED),
    ):
        request = retrieve_request(lease)
        request.certificate_request = text
        assert reason(pilot.credentials.RetrieveCredential, request) is expected
    pilot.credentials.RetrieveCredential(retrieve_request(lease))


def test_a_refreshed_token_gives_a_second_proxy(owner: Client, pilot: Client, delegated: Delegated) -> None:
    submit(owner, delegated)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    fresh = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    )
    request = retrieve_request(lease)
    request.credential_token = fresh.credential_token
    request.retrieval_key = fresh.retrieval_key
    pilot.credentials.RetrieveCredential(request)


def test_a_destroyed_credential_gives_nothing(owner: Client, pilot: Client, lease: pilot_pb2.Lease) -> None:
    name = claims_name(lease)
    gone = owner.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=name)).credential
    assert gone.destroy_time.seconds > 0
    again = owner.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=name)).credential
    assert again == gone
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.CREDENTIAL_DESTROYED
    assert list(owner.credentials.ListCredentials(pb.ListCredentialsRequest()).credentials) == []
    assert reason(submit, owner, Delegated(name, b"r" * 32, gone)) is Reason.CREDENTIAL_DESTROYED


def claims_name(lease: pilot_pb2.Lease) -> str:
    return lease.credential_id


def test_a_revoked_owner_gets_no_more_proxies(rig: Rig, grid: ToyGrid, pilot: Client, tmp_path: Path) -> None:
    who = grid.user("Leaver")
    identity = load_identity(grid.voms_proxy(who, tmp_path / "leaver", fqans=(OWNER_ROLE, "/demo")))
    owner = rig.client(identity)
    submit(owner, delegate(owner, identity))
    lease = acquire(pilot, register(pilot))
    grid.revoke(who)
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.CREDENTIAL_REVOKED


@pytest.mark.parametrize("how", ["by rename", "in place", "in place, with its old time"])
def test_a_revocation_list_counts_from_the_retrieval_after_it_changed(
    rig: Rig, grid: ToyGrid, pilot: Client, tmp_path: Path, how: str
) -> None:
    who = grid.user(f"Leaver {how}")
    identity = load_identity(grid.voms_proxy(who, tmp_path / "leaver", fqans=(OWNER_ROLE, "/demo")))
    owner = rig.client(identity)
    submit(owner, delegate(owner, identity))
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    assert pilot.credentials.RetrieveCredential(retrieve_request(lease)).chain
    again = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    )
    lists = sorted(grid.ca_dir.glob("*.r0"))
    kept = [tmp_path / path.name for path in lists]
    for path, link in zip(lists, kept, strict=True):
        os.link(path, link)
    grid.revoke(who)
    if how != "by rename":
        for path, link in zip(lists, kept, strict=True):
            text, before = path.read_bytes(), link.stat()
            link.replace(path)
            path.write_bytes(text)
            if how == "in place, with its old time":
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    request = retrieve_request(lease)
    request.credential_token, request.retrieval_key = again.credential_token, again.retrieval_key
    assert reason(pilot.credentials.RetrieveCredential, request) is Reason.CREDENTIAL_REVOKED


def test_an_ended_credential_gives_nothing_and_is_erased(
    rig: Rig, owner: Client, pilot: Client, alice_identity: LocalIdentity, lease: pilot_pb2.Lease
) -> None:
    request = with_claims(rig, lease)
    rig.clock.turn(10 * 3600 - 200)
    fresh = tokens.sign(claims_of_now(rig, request), keys.load(rig.state / "keys").token, rig.clock())
    request.credential_token = fresh.reveal_text()
    # The lease itself would have ended long ago; what is asked here is what the credential's own end does.
    rig.call(lambda app: keep_lease_alive(app))
    assert reason(pilot.credentials.RetrieveCredential, request) is Reason.CREDENTIAL_TOO_SHORT
    rig.clock.turn(200)
    assert reason(pilot.credentials.RetrieveCredential, request) is Reason.CREDENTIAL_EXPIRED
    # The clock may be an hour ahead, and be put right later.
    rig.clock.turn(3600)
    rig.call(lambda app: app.prune())
    assert sealed_blob(rig, lease.credential_id) is not None
    rig.clock.turn(3601)
    rig.call(lambda app: app.prune())
    assert sealed_blob(rig, lease.credential_id) is None


def claims_of_now(rig: Rig, request: pb.RetrieveCredentialRequest) -> CredentialClaims:
    key = keys.load(rig.state / "keys").token.public_key()
    return tokens.verify(request.credential_token, key, rig.clock() - rig.clock.ahead)


class LiveLease:
    """A directory that takes every lease for live."""

    async def is_live(self, lease_id: str, pilot_dn: str) -> bool:
        return True


async def keep_lease_alive(app: App) -> None:
    app._issuer._leases = LiveLease()


def test_an_issued_proxy_is_as_long_as_asked_and_allowed(
    make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, alice_identity: LocalIdentity
) -> None:
    rig = make_rig(**{"retrieval.default": {"max_lifetime_seconds": 7200, "proxy": "limited"}})
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    delegated = delegate(owner, alice_identity, kind=KeyKind.EC_P256)
    pilot_id = register(pilot)
    for asked, given in ((0, 7200), (3600, 3600), (86400, 7200)):
        submit(owner, delegated)
        request = retrieve_request(acquire(pilot, pilot_id))
        request.lifetime.FromSeconds(asked)
        proxy = x509.load_der_x509_certificate(pilot.credentials.RetrieveCredential(request).chain[0])
        left = (proxy.not_valid_after_utc - rig.clock()).total_seconds()
        assert given - 10 < left <= given
        assert is_limited(proxy)
    request = retrieve_request(acquire_one(owner, pilot, pilot_id, delegated))
    request.lifetime.FromTimedelta(datetime.timedelta(seconds=-1))
    assert reason(pilot.credentials.RetrieveCredential, request) is Reason.INVALID_ARGUMENT


def acquire_one(owner: Client, pilot: Client, pilot_id: str, delegated: Delegated) -> pilot_pb2.Lease:
    submit(owner, delegated)
    return acquire(pilot, pilot_id)


def test_a_refusal_at_the_last_step_hands_nothing_out_and_spends_nothing(
    rig: Rig, pilot: Client, lease: pilot_pb2.Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between signing and recording: the caller gets no proxy, and may come again."""

    def crash(*_: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(store, "issue", crash)
        assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.STORE_UNAVAILABLE
    pilot.credentials.RetrieveCredential(retrieve_request(lease))


# at rest


def sealed_blob(rig: Rig, credential_id: str) -> bytes | None:
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as connection:
        query = "SELECT sealed FROM credentials WHERE credential_id = ?"
        found: bytes | None = connection.execute(query, (credential_id,)).fetchone()[0]
    return found


def bytes_of(rig: Rig, name: str) -> bytes:
    """Return everything SQLite keeps of a database, its log included."""
    return b"".join(path.read_bytes() for path in sorted(rig.state.glob(f"{name}.sqlite*")))


def test_neither_database_alone_opens_a_credential(
    rig: Rig, owner: Client, pilot: Client, lease: pilot_pb2.Lease, delegated: Delegated
) -> None:
    answer = pilot.credentials.RetrieveCredential(retrieve_request(lease))
    for stopped in (False, True):
        if stopped:
            rig.stop()
        jobs, credentials = bytes_of(rig, "jobs"), bytes_of(rig, "credentials")
        key = delegated.retrieval_key
        for form in (key, key.hex().encode(), key.hex().upper().encode()):
            assert form not in credentials
            assert form not in jobs
        for certificate in answer.chain:
            assert certificate not in jobs
        assert answer.chain[1] in credentials
        for marker in (b"PRIVATE KEY", lease.credential_token.encode()):
            assert marker not in jobs
            assert marker not in credentials
        service_key = (rig.state / "keys" / "service.key").read_bytes()
        assert service_key not in jobs + credentials


def test_a_destroyed_key_is_overwritten_in_the_file(rig: Rig, owner: Client, delegated: Delegated) -> None:
    blob = sealed_blob(rig, delegated.credential_id)
    assert blob is not None
    assert blob[60:100] in bytes_of(rig, "credentials")
    owner.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=delegated.credential_id))
    assert sealed_blob(rig, delegated.credential_id) is None
    rig.stop()
    assert blob[60:100] not in bytes_of(rig, "credentials")


def test_the_key_in_the_blob_is_the_stored_proxys_and_is_not_there_in_the_clear(rig: Rig, delegated: Delegated) -> None:
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as connection:
        (packed,) = connection.execute("SELECT chain FROM credentials").fetchone()
    chain = msgspec.msgpack.decode(packed, type=list[bytes])
    leaf = x509.load_der_x509_certificate(chain[0])
    assert leaf.public_bytes(Encoding.DER) == chain[0]
    everything = bytes_of(rig, "credentials")
    # PKCS#8 of an RSA key begins so; its modulus in the certificate is public.
    assert bytes.fromhex("300d06092a864886f70d0101010500048204") not in everything


def test_a_rotated_service_key_still_opens_what_the_old_one_sealed(
    rig: Rig, alice_proxy: Path, pilot_proxy: Path, alice_identity: LocalIdentity
) -> None:
    owner = rig.client(alice_proxy)
    delegated = delegate(owner, alice_identity, kind=KeyKind.EC_P256)
    rig.stop()
    folder = rig.state / "keys"
    (folder / "service.key").rename(folder / "service-2026.key")
    keys.make_missing(folder)
    rig.start()
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegated)
    pilot.credentials.RetrieveCredential(retrieve_request(acquire(pilot, register(pilot))))


def test_every_step_is_audited_and_nothing_secret_is(
    rig: Rig, owner: Client, pilot: Client, lease: pilot_pb2.Lease, delegated: Delegated
) -> None:
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_USED
    owner.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=delegated.credential_id))
    audit = (rig.state / "audit.jsonl").read_text()
    events = [msgspec.json.decode(line)["event"] for line in audit.splitlines()]
    for event in (
        "session opened",
        "delegation begun",
        "credential stored",
        "proxy issued",
        "retrieval refused",
        "credential destroyed",
    ):
        assert event in events
    assert (rig.state / "audit.jsonl").stat().st_mode & 0o077 == 0
    text = audit + rig.log_text
    assert delegated.retrieval_key.hex() not in text
    assert lease.credential_token not in text
