"""The thief: a pilot's proxy and key, a copy of every database, and the address of the pilot that runs.

What that is worth is exactly the credentials of the pilot's live leases: for those the thief is the pilot, by all that
the service can see. Everything else is tried here: other pilots' leases, ended ones, forged and replayed tokens,
owners' methods, more slots, and opening the sealed blobs by hand.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding
from toygrid import ToyGrid

from pilotage.login import sign_challenge
from pilotage.reasons import Reason
from pilotage.transport import open_mutual_channel
from pilotage.v1 import admin_pb2, auth_pb2, job_pb2, pilot_pb2
from pilotage.v1 import credential_pb2 as pb
from pilotage.wire_errors import reason_of
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, make_key
from pilotage.x509.requests import make_request
from pilotage_server import keys, tokens
from pilotage_server.credentials import sealing
from pilotage_server.tokens import CredentialClaims
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_rig import AUDIENCE, OWNER_ROLE, Client, Rig

EC = KeyKind.EC_P256
DATABASES = ("jobs", "credentials")
PATIENT = {"pilot_strikes": 100_000, "dn_strikes": 100_000}
"""A service that counts and never bans, so that everything can be tried."""


class World:
    """Two pilots at work; the first one's proxy will be stolen. Two leases of it live, and one has ended."""

    def __init__(self, rig: Rig, grid: ToyGrid, proxies: dict[str, Path]) -> None:
        self.rig = rig
        self.grid = grid
        self.proxies = proxies
        self.owners = {name: rig.client(proxies[name]) for name in ("alice", "bob")}
        self.victim, self.other = rig.client(proxies["pilot"]), rig.client(proxies["other"])
        self.victim_id, self.other_id = register(self.victim, slots=2), register(self.other)
        self.delegated: dict[str, Delegated] = {}
        self.leases = {
            "ended": self._lease("ended", "alice", self.victim, self.victim_id),
        }
        result = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_OK)
        self.used = retrieve_request(self.leases["ended"])
        self.victim.credentials.RetrieveCredential(self.used)
        finish = pilot_pb2.FinishJobRequest(
            pilot_id=self.victim_id, lease_id=self.leases["ended"].lease_id, result=result
        )
        self.victim.pilots.FinishJob(finish)
        self.leases["mine"] = self._lease("mine", "alice", self.victim, self.victim_id)
        self.leases["mine too"] = self._lease("mine too", "bob", self.victim, self.victim_id)
        self.leases["theirs"] = self._lease("theirs", "bob", self.other, self.other_id)
        self._delegate("idle", "bob")
        self.victim.credentials.RetrieveCredential(retrieve_request(self.leases["mine"]))

    def _delegate(self, name: str, owner: str) -> Delegated:
        self.delegated[name] = delegate(self.owners[owner], load_identity(self.proxies[owner]), kind=EC)
        return self.delegated[name]

    def _lease(self, name: str, owner: str, pilot: Client, pilot_id: str) -> pilot_pb2.Lease:
        submit(self.owners[owner], self._delegate(name, owner))
        return acquire(pilot, pilot_id)


class Thief:
    """Has copies, made while the service runs, and what the pilot proves itself with. Nothing else is told to it."""

    def __init__(self, world: World, folder: Path) -> None:
        self._rig = world.rig
        self._ca_dir = world.grid.ca_dir
        self.identity = load_identity(world.proxies["pilot"])
        self.client = world.rig.client(world.proxies["pilot"])
        self.copies = {name: folder / f"stolen-{name}.sqlite" for name in DATABASES}
        for name, copy in self.copies.items():
            with (
                contextlib.closing(sqlite3.connect(world.rig.state / f"{name}.sqlite")) as source,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
        self.got: set[bytes] = set()
        """The stored proxies, by their DER, of which this thief has a proxy with a key of its own."""

    # What a copy holds is of whatever type its columns are.
    def look(self, name: str, query: str) -> list[tuple[Any, ...]]:
        """Read a copy."""
        with contextlib.closing(sqlite3.connect(self.copies[name])) as connection:
            return connection.execute(query).fetchall()

    def values(self) -> Iterator[bytes]:
        """Yield every value of every table of every copy."""
        for name in DATABASES:
            tables = [str(row[0]) for row in self.look(name, "SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for row in self.look(name, f'SELECT * FROM "{table}"'):
                    yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)

    def retrieve(self, request: pb.RetrieveCredentialRequest, *, renew: bool = False) -> Reason | None:
        """Try a token; keep what it brings."""
        credentials = self.client.credentials
        answer: pb.RetrieveCredentialResponse | pb.RenewCredentialResponse
        try:
            if renew:
                answer = credentials.RenewCredential(pb.RenewCredentialRequest.FromString(request.SerializeToString()))
            else:
                answer = credentials.RetrieveCredential(request)
        except grpc.RpcError as error:
            return reason_of(error)
        self.got.add(answer.chain[1])
        return None

    def ask_for_token(self, pilot_id: str, lease_id: str) -> Reason | None:
        """Ask for a fresh token of a lease, and use it if one is given."""
        wanted = pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease_id)
        try:
            told = self.client.pilots.RefreshCredentialToken(wanted)
        except grpc.RpcError as error:
            return reason_of(error)
        return self.retrieve(request_of(told.credential_token, told.retrieval_key))


def request_of(token: str, key: bytes = b"k" * 32) -> pb.RetrieveCredentialRequest:
    """Return a retrieval with a key pair of the thief's."""
    request = make_request(make_key(EC))
    return pb.RetrieveCredentialRequest(credential_token=token, retrieval_key=key, certificate_request=request)


@pytest.fixture
def proxies(alice_proxy: Path, bob_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path) -> dict[str, Path]:
    return {"alice": alice_proxy, "bob": bob_proxy, "pilot": pilot_proxy, "other": other_pilot_proxy}


@pytest.fixture
def world(make_rig: Callable[..., Rig], grid: ToyGrid, proxies: dict[str, Path]) -> World:
    return World(make_rig(abuse=PATIENT), grid, proxies)


@pytest.fixture
def thief(world: World, tmp_path: Path) -> Thief:
    return Thief(world, tmp_path)


def stored_proxy(thief: Thief, delegated: Delegated) -> bytes:
    """Return the stored proxy of a credential, as the databases have it."""
    rows: dict[str, bytes] = dict(thief.look("credentials", "SELECT credential_id, chain FROM credentials"))
    chain: list[bytes] = msgspec.msgpack.decode(rows[delegated.credential_id], type=list[bytes])
    return chain[0]


# what the thief gets


def try_every_lease(thief: Thief) -> dict[str, set[Reason | None]]:
    """Ask for a token of every lease in the stolen database, as every pilot in it."""
    pilots = [str(row[0]) for row in thief.look("jobs", "SELECT pilot_id FROM pilot")]
    leases = [str(row[0]) for row in thief.look("jobs", "SELECT lease_id FROM lease")]
    assert len(pilots) == 2
    assert len(leases) == 4
    return {lease: {thief.ask_for_token(pilot, lease) for pilot in pilots} for lease in leases}


def test_the_thief_gets_the_credentials_of_the_live_leases_and_no_other(world: World, thief: Thief) -> None:
    answers = try_every_lease(thief)
    expected = {stored_proxy(thief, world.delegated[name]) for name in ("mine", "mine too")}
    assert thief.got == expected
    assert answers[world.leases["mine"].lease_id] == {None, Reason.LEASE_FOREIGN}
    assert answers[world.leases["mine too"].lease_id] == {None, Reason.LEASE_FOREIGN}
    assert answers[world.leases["theirs"].lease_id] == {Reason.LEASE_FOREIGN}
    assert answers[world.leases["ended"].lease_id] == {Reason.LEASE_ENDED, Reason.LEASE_FOREIGN}


def test_when_the_leases_end_the_thief_gets_nothing(world: World, thief: Thief) -> None:
    result = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_OK)
    kept = world.victim.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=world.victim_id, lease_id=world.leases["mine"].lease_id)
    )
    for name in ("mine", "mine too"):
        world.victim.pilots.FinishJob(
            pilot_pb2.FinishJobRequest(pilot_id=world.victim_id, lease_id=world.leases[name].lease_id, result=result)
        )
    assert thief.retrieve(request_of(kept.credential_token, kept.retrieval_key)) is Reason.LEASE_ENDED
    answers = try_every_lease(thief)
    assert set().union(*answers.values()) == {Reason.LEASE_ENDED, Reason.LEASE_FOREIGN}
    assert thief.got == set()


def test_an_expired_lease_gives_the_thief_nothing(world: World, thief: Thief) -> None:
    world.rig.clock.turn(200)
    thief.client = world.rig.client(world.proxies["pilot"])
    answers = try_every_lease(thief)
    assert None not in set().union(*answers.values())
    assert thief.got == set()


def test_a_destroyed_credential_gives_the_thief_nothing(world: World, thief: Thief) -> None:
    for name, owner in (("mine", "alice"), ("mine too", "bob")):
        gone = pb.DestroyCredentialRequest(credential_id=world.delegated[name].credential_id)
        world.owners[owner].credentials.DestroyCredential(gone)
    try_every_lease(thief)
    assert thief.got == set()


# tokens


def claims_for(world: World, thief: Thief, name: str) -> dict[str, object]:
    """Return the claims of a token for a lease, with the thief's name and key, as good as the thief can make them."""
    lease = world.leases[name]
    return {
        "jti": f"forged {name}",
        "lease_id": lease.lease_id,
        "job_id": lease.job_id,
        "attempt": lease.attempt,
        "owner_dn": lease.owner_dn,
        "credential_id": lease.credential_id,
        "pilot_dn": str(thief.look("jobs", "SELECT dn FROM pilot ORDER BY register_us")[0][0]),
        "pilot_thumbprint": thief_key(thief),
        "iss": tokens.ISSUER,
        "aud": tokens.AUDIENCE,
        "iat": int(time.time()),
        "exp": int(time.time()) + 300,
    }


def thief_key(thief: Thief) -> str:
    return thief.client.auth.WhoAmI(auth_pb2.WhoAmIRequest()).principal.thumbprint.hex()


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def forgeries(claims: dict[str, object], known: bytes) -> Iterator[str]:
    """Yield tokens as people forge them."""
    body = encoded(claims)
    for head in ({"alg": "none"}, {"alg": "None", "typ": "JWT"}, {"alg": "EdDSA"}):
        yield f"{encoded(head)}.{body}."
    signed = f"{encoded({'alg': 'EdDSA', 'typ': 'JWT'})}.{body}"
    signature = Ed25519PrivateKey.generate().sign(signed.encode())
    yield f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    for key in (b"", known):
        mac = hmac.digest(key, f"{encoded({'alg': 'HS256'})}.{body}".encode(), "sha256")
        yield f"{encoded({'alg': 'HS256'})}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    yield f"{encoded({'alg': 'EdDSA', 'jwk': {'kty': 'OKP', 'crv': 'Ed25519', 'x': 'A' * 43}})}.{body}.{'A' * 86}"


def test_forged_tokens_are_refused(world: World, thief: Thief) -> None:
    for name in ("theirs", "ended", "mine"):
        for token in forgeries(claims_for(world, thief, name), thief.identity.chain_der[0]):
            assert thief.retrieve(request_of(token, world.delegated[name].retrieval_key)) is Reason.TOKEN_INVALID
            assert thief.retrieve(request_of(token), renew=True) is Reason.TOKEN_INVALID
    assert thief.got == set()


def test_replayed_altered_and_foreign_tokens_are_refused(world: World, thief: Thief) -> None:
    """The thief may even have heard the tokens and retrieval keys of others."""
    theirs = retrieve_request(world.leases["theirs"])
    assert thief.retrieve(world.used) is Reason.TOKEN_USED
    assert thief.retrieve(retrieve_request(world.leases["mine"])) is Reason.TOKEN_USED
    assert thief.retrieve(theirs) is Reason.TOKEN_FOREIGN
    assert thief.retrieve(theirs, renew=True) is Reason.TOKEN_FOREIGN
    told = world.victim.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=world.victim_id, lease_id=world.leases["mine"].lease_id)
    )
    head, body, signature = told.credential_token.split(".")
    for change in (
        {"lease_id": world.leases["theirs"].lease_id},
        {"credential_id": world.delegated["idle"].credential_id},
        {"exp": int(time.time()) + 3600},
    ):
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | change
        assert thief.retrieve(request_of(f"{head}.{encoded(claims)}.{signature}")) is Reason.TOKEN_INVALID
    # A retrieval key that opens another credential does not open this one.
    wrong = request_of(told.credential_token, world.delegated["theirs"].retrieval_key)
    assert thief.retrieve(wrong) is Reason.RETRIEVAL_KEY_WRONG
    assert thief.got == set()


def test_even_a_token_of_jobservice_is_bound_to_lease_pilot_and_credential(world: World, thief: Thief) -> None:
    """Were the token key stolen as well: no lease of the pilot's, no proxy; and no retrieval key, no proxy."""
    real = keys.load(world.rig.state / "keys").token
    for name, change, expected in (
        ("theirs", {}, Reason.LEASE_ENDED),
        ("ended", {}, Reason.LEASE_ENDED),
        ("mine", {"lease_id": world.leases["theirs"].lease_id}, Reason.LEASE_ENDED),
        ("mine", {}, Reason.RETRIEVAL_KEY_WRONG),
    ):
        claims = {key: value for key, value in claims_for(world, thief, name).items() if key not in RESERVED}
        token = tokens.sign(msgspec.convert(claims | change, CredentialClaims), real, world.rig.clock())
        assert thief.retrieve(request_of(token.reveal_text())) is expected
    assert thief.got == set()


RESERVED = ("iss", "aud", "iat", "exp")


# sealed blobs


def candidates(thief: Thief) -> set[bytes]:
    """Return every 32 bytes that the databases could mean by a key: windows of blobs, decoded texts, digests."""
    found: set[bytes] = {bytes(32)}
    for value in thief.values():
        found |= {hashlib.sha256(value).digest(), value[:32].ljust(32, b"\0")}
        for decode in (bytes.fromhex, base64.b64decode, base64.urlsafe_b64decode):
            with contextlib.suppress(ValueError):
                decoded = decode(value.decode(errors="replace"))
                found.add(decoded[:32].ljust(32, b"\0"))
        if len(value) <= 128:
            found |= {value[start : start + 32] for start in range(max(0, len(value) - 31))}
    return {key for key in found if len(key) == 32}


def opens(sealed: bytes, owner: str, name: str, end: int, retrieval_key: bytes, service_key: bytes) -> bool:
    """Open a sealed blob by hand, as the documents say."""
    header, body = sealed[: sealing.HEADER_BYTES], sealed[sealing.HEADER_BYTES :]
    salt, nonce = header[9:41], header[41:53]
    key = HKDF(hashes.SHA256(), 32, salt, sealing.PURPOSE).derive(retrieval_key + service_key)
    bound = b"".join(len(p).to_bytes(4, "big") + p for p in (header, owner.encode(), name.encode(), str(end).encode()))
    try:
        AESGCM(key).decrypt(nonce, body, bound)
    except InvalidTag:
        return False
    return True


def test_the_sealed_blobs_do_not_open_with_anything_in_both_databases(world: World, thief: Thief) -> None:
    rows = thief.look("credentials", "SELECT credential_id, owner_dn, expire_time, sealed FROM credentials")
    assert len(rows) == len(world.delegated)
    found = candidates(thief)
    services = [bytes(32), *sorted(found)[:20]]
    for name, owner, end, sealed in rows:
        for retrieval_key in found:
            for service_key in services[:3]:
                assert not opens(sealed, owner, name, end, retrieval_key, service_key)
    # Had the thief both keys, it would have opened them so: the attempt above is the real one.
    service = keys.read_key(world.rig.state / "keys" / "service.key").reveal()
    assert service not in found
    one = world.delegated["mine"]
    ((owner, end, sealed),) = [row[1:] for row in rows if row[0] == one.credential_id]
    assert opens(sealed, owner, one.credential_id, end, one.retrieval_key, service)
    assert not any(opens(sealed, owner, one.credential_id, end, one.retrieval_key, key) for key in found)
    assert not any(opens(sealed, owner, one.credential_id, end, key, service) for key in found)


def test_no_key_of_the_service_and_no_retrieval_key_is_in_a_copy(world: World, thief: Thief) -> None:
    everything = b"".join(path.read_bytes() for path in thief.copies.values())
    secrets = [path.read_bytes() for path in (world.rig.state / "keys").iterdir()]
    secrets += [delegated.retrieval_key for delegated in world.delegated.values()]
    for secret in secrets:
        for form in (secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)):
            assert form not in everything


# what is the owners', the other pilots', and the admins'


def test_the_thief_is_no_owner_and_no_admin(world: World, thief: Thief) -> None:
    name, job = world.delegated["mine"].credential_id, world.leases["mine"].job_id
    client = thief.client
    calls: list[Callable[[], object]] = [
        lambda: client.credentials.BeginDelegation(pb.BeginDelegationRequest()),
        lambda: client.credentials.CompleteDelegation(pb.CompleteDelegationRequest()),
        lambda: client.credentials.ListCredentials(pb.ListCredentialsRequest()),
        lambda: client.credentials.GetCredential(pb.GetCredentialRequest(credential_id=name)),
        lambda: client.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=name)),
        lambda: client.credentials.ListIssuances(pb.ListIssuancesRequest(credential_id=name)),
        lambda: client.jobs.SubmitJobs(job_pb2.SubmitJobsRequest()),
        lambda: client.jobs.RebindCredential(job_pb2.RebindCredentialRequest(credential_id=name)),
        lambda: client.jobs.GetJob(job_pb2.GetJobRequest(job_id=job)),
        lambda: client.jobs.CancelJobs(job_pb2.CancelJobsRequest(job_ids=[job])),
        lambda: next(client.jobs.GetLog(job_pb2.GetLogRequest(job_id=job))),
        lambda: client.admin.QueryAudit(admin_pb2.QueryAuditRequest()),
        lambda: client.admin.Unban(admin_pb2.UnbanRequest(subject="/O=Toy Grid/CN=x")),
    ]
    for call in calls:
        assert reason(call) is Reason.ROLE_REQUIRED


def test_the_thief_can_do_nothing_with_another_pilots_leases(world: World, thief: Thief) -> None:
    lease, client = world.leases["theirs"], thief.client
    other = world.other_id
    report = pilot_pb2.LeaseReport(lease_id=lease.lease_id, phase=pilot_pb2.ATTEMPT_PHASE_RUNNING)
    (answer,) = client.pilots.Heartbeat(pilot_pb2.HeartbeatRequest(pilot_id=world.victim_id, reports=[report])).answers
    assert (answer.order, answer.reason) == (pilot_pb2.LEASE_ORDER_LOST, "LEASE_FOREIGN")
    result = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_OK)
    name, pilots = lease.lease_id, client.pilots
    calls: list[Callable[[str], object]] = [
        lambda pilot: pilots.FinishJob(pilot_pb2.FinishJobRequest(pilot_id=pilot, lease_id=name, result=result)),
        lambda pilot: pilots.ReleaseJob(pilot_pb2.ReleaseJobRequest(pilot_id=pilot, lease_id=name)),
        lambda pilot: pilots.AppendLog(
            pilot_pb2.AppendLogRequest(pilot_id=pilot, lease_id=name, stream=job_pb2.LOG_STREAM_STDOUT)
        ),
    ]
    for call in calls:
        assert {reason(call, world.victim_id), reason(call, other)} == {Reason.LEASE_FOREIGN}
    calls = [
        lambda pilot: pilots.Heartbeat(pilot_pb2.HeartbeatRequest(pilot_id=pilot)),
        lambda pilot: pilots.AcquireJobs(pilot_pb2.AcquireJobsRequest(pilot_id=pilot, slots=1)),
        lambda pilot: pilots.DeregisterPilot(pilot_pb2.DeregisterPilotRequest(pilot_id=pilot)),
    ]
    for call in calls:
        assert reason(call, other) is Reason.PILOT_NOT_REGISTERED


def test_the_stolen_registration_gives_no_more_leases_than_its_slots(world: World, thief: Thief) -> None:
    submit(world.owners["bob"], world.delegated["idle"])
    more = pilot_pb2.AcquireJobsRequest(pilot_id=world.victim_id, slots=2)
    assert reason(thief.client.pilots.AcquireJobs, more) is Reason.TOO_MANY_LEASES


def test_the_thief_registers_as_many_pilots_as_the_key_may_have_and_harms_no_other(
    make_rig: Callable[..., Rig], grid: ToyGrid, proxies: dict[str, Path], tmp_path: Path
) -> None:
    world = World(make_rig(abuse=PATIENT, limits={"pilots_per_key": 4}), grid, proxies)
    thief = Thief(world, tmp_path)
    more = [register(thief.client) for _ in range(3)]
    for _ in range(2):
        assert reason(register, thief.client) is Reason.TOO_MANY_PILOTS
    # What is registered goes on: the pilot whose proxy it was, and everybody with another key.
    for client, pilot_id in ((world.victim, world.victim_id), (world.other, world.other_id)):
        client.pilots.Heartbeat(pilot_pb2.HeartbeatRequest(pilot_id=pilot_id))
    register(world.other)
    thief.client.pilots.DeregisterPilot(pilot_pb2.DeregisterPilotRequest(pilot_id=more[0]))
    register(thief.client)
    assert reason(register, thief.client) is Reason.TOO_MANY_PILOTS


# being somebody else


def test_the_thief_logs_in_as_nobody_else(world: World, thief: Thief, grid: ToyGrid) -> None:
    """The databases hold the owners' chains in the clear; the keys to them they do not."""
    stranger = world.rig.client(None)
    rows = thief.look("credentials", "SELECT chain FROM credentials")
    for (packed,) in rows:
        chain = msgspec.msgpack.decode(packed, type=list[bytes])
        for shown, expected in (
            (chain, Reason.SIGNATURE_INVALID),
            (chain[1:], Reason.SIGNATURE_INVALID),
            ([thief.identity.chain_der[0], *chain], None),
            (forged_proxy(thief.identity, chain), None),
        ):
            begun = stranger.auth.BeginLogin(auth_pb2.BeginLoginRequest())
            signature, algorithm = sign_challenge(thief.identity.key, AUDIENCE, begun.challenge)
            request = auth_pb2.LoginRequest(
                chain=shown, challenge=begun.challenge, signature=signature, algorithm=algorithm
            )
            told = reason(stranger.auth.Login, request)
            assert told is expected or (expected is None and told.row.family == "VerifyError"), told


def forged_proxy(identity: LocalIdentity, chain: list[bytes]) -> list[bytes]:
    """Return somebody's proxy once more, for the thief's key, and signed with that."""
    model = x509.load_der_x509_certificate(chain[0])
    builder = x509.CertificateBuilder(
        issuer_name=model.issuer,
        subject_name=model.subject,
        public_key=identity.key.public_key(),
        serial_number=model.serial_number,
        not_valid_before=model.not_valid_before_utc,
        not_valid_after=model.not_valid_after_utc,
        extensions=list(model.extensions),
    )
    return [builder.sign(identity.key, hashes.SHA256()).public_bytes(Encoding.DER), *chain[1:]]


def test_session_tokens_cannot_be_made(world: World, thief: Thief) -> None:
    claims: dict[str, object] = {
        "dn": world.leases["mine"].owner_dn,
        "vo": "demo",
        "fqans": [OWNER_ROLE],
        "limited": False,
        "thumbprint": thief_key(thief),
        "iss": "pilotage-auth",
        "aud": AUDIENCE,
        "iat": int(time.time()),
        "exp": int(time.time()) + 3600,
    }
    stranger = world.rig.client(None)
    for token in forgeries(claims, thief.identity.chain_der[0]):
        shown = (("authorization", f"Bearer {token}"),)
        call = stranger.credentials.ListCredentials
        assert reason(call, pb.ListCredentialsRequest(), metadata=shown) is Reason.SESSION_INVALID


def test_the_mutual_port_takes_no_proxy(world: World, thief: Thief) -> None:
    channel = open_mutual_channel(world.rig.mutual_target, ca_dir=world.grid.ca_dir, identity=thief.identity)
    with channel, pytest.raises(grpc.RpcError) as caught:
        Client(channel).pilots.Heartbeat(pilot_pb2.HeartbeatRequest(pilot_id=world.victim_id), timeout=60)
    assert reason_of(caught.value) is None


# and it is seen


def test_what_the_thief_took_is_in_the_audit_with_where_it_came_from(
    world: World, thief: Thief, admin: LocalIdentity
) -> None:
    try_every_lease(thief)
    found = world.rig.mutual_client(admin).admin.QueryAudit(admin_pb2.QueryAuditRequest(act="proxy issued")).entries
    names = {world.leases[name].lease_id for name in ("ended", "mine", "mine too")}
    assert {row.lease_id for row in found} == names
    assert len({row.peer for row in found}) == 2


def test_that_the_thief_asked_for_tokens_of_leases_that_are_not_its_own_is_in_the_audit(
    world: World, thief: Thief, admin: LocalIdentity
) -> None:
    watcher = world.rig.mutual_client(admin)

    def told() -> list[tuple[str, str]]:
        entries = watcher.admin.QueryAudit(admin_pb2.QueryAuditRequest(act="call refused")).entries
        return [(row.reason, row.facts["method"].rpartition("/")[2]) for row in entries]

    # Leases that have ended or that go on are nothing to tell of: pilots ask for those, too.
    assert thief.ask_for_token(world.victim_id, world.leases["mine"].lease_id) is None
    assert thief.ask_for_token(world.victim_id, world.leases["ended"].lease_id) is Reason.LEASE_ENDED
    assert told() == []
    for _ in range(3):
        assert thief.ask_for_token(world.other_id, world.leases["theirs"].lease_id) is Reason.LEASE_FOREIGN
    assert told() == [("LEASE_FOREIGN", "RefreshCredentialToken")]
    world.rig.clock.turn(61)
    assert thief.ask_for_token(world.victim_id, "no such lease") is Reason.LEASE_NOT_FOUND
    assert told()[0] == ("LEASE_NOT_FOUND", "RefreshCredentialToken")


def test_the_thief_that_tries_is_banned_and_then_has_nothing_at_all(
    make_rig: Callable[..., Rig], grid: ToyGrid, proxies: dict[str, Path], tmp_path: Path
) -> None:
    world = World(make_rig(), grid, proxies)
    thief = Thief(world, tmp_path)
    forged = [token for name in ("theirs", "ended") for token in forgeries(claims_for(world, thief, name), bytes(32))]
    told = [thief.retrieve(request_of(token)) for token in forged]
    assert told == [Reason.TOKEN_INVALID] * 10 + [Reason.CALLER_BANNED] * (len(forged) - 10)
    answers = try_every_lease(thief)
    assert set().union(*answers.values()) == {Reason.CALLER_BANNED}
    assert thief.got == set()
