"""The policy of retrievals by VO, through the whole service: what proxies are, who gets them, who is offered what."""

import datetime
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from toygrid import Identity, ToyGrid

import pilotage_helper
from pilotage.errors import PilotageError, VerifyError
from pilotage.reasons import Reason
from pilotage.v1 import admin_pb2, job_pb2, pilot_pb2
from pilotage.v1 import credential_pb2 as pb
from pilotage.voms.attribute import add_attributes
from pilotage.voms.issue import Authority, issue_attributes
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, PrivateKey, make_key
from pilotage.x509.proxies import end_entity, is_limited, proxy_info, sign_proxy
from pilotage.x509.requests import check_request
from pilotage_server.clock import utc_now
from pilotage_server.commands import main
from pilotage_server.retrieval import RetrievalPolicy
from support import vectors
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.refusals import reason, refused
from support.server_rig import OWNER_ROLE, PILOT_ROLE, Rig

HOUR = 3600
EC = KeyKind.EC_P256
LONG = {"sent_seconds": 86400, "lease_seconds": 86400}
OTHERS_ROLE = "/other/Role=analysis"
ROLES = {"owner": [OWNER_ROLE, OTHERS_ROLE, "/O=Toy Grid/CN=Carol"]}
PILOT_DN = "/O=Toy Grid/CN=Robot - pilot factory"
OTHER_PILOT_DN = "/O=Toy Grid/CN=Robot - other pilot"
BY_VO = {
    "retrieval.default": {"max_lifetime_seconds": 2 * HOUR},
    "retrieval.vo.demo": {"proxy": "limited", "path_length": 1, "max_lifetime_seconds": HOUR},
    "retrieval.plain": {"path_length": 0},
}


@pytest.fixture(scope="module")
def others_proxy(grid: ToyGrid, bob: Identity) -> Path:
    """Bob's, in another VO."""
    return grid.voms_proxy(bob, grid.root / "bob-other.proxy", vo="other", fqans=(OTHERS_ROLE,))


@pytest.fixture(scope="module")
def plain_proxy(grid: ToyGrid) -> Path:
    """Carol's, without attributes."""
    return grid.plain_proxy(grid.user("Carol"), grid.root / "carol.proxy")


@pytest.fixture
def make(make_rig: Callable[..., Rig], alice_proxy: Path, others_proxy: Path, plain_proxy: Path) -> Callable[..., Rig]:
    """Return what starts a server with a policy, once all proxies and their VOs are there; again, it is the same."""

    def start(**policy: object) -> Rig:
        return make_rig(**{"roles": ROLES, "leases": LONG, **policy})

    return start


class Member:
    """An owner with a stored credential."""

    def __init__(self, rig: Rig, proxy: Path, *, limited: bool = False) -> None:
        self.identity = load_identity(proxy)
        self.client = rig.client(self.identity)
        self.delegated: Delegated = delegate(self.client, self.identity, kind=EC, limited=limited)

    def submit(self) -> str:
        return submit(self.client, self.delegated)

    def job(self, job_id: str) -> job_pb2.Job:
        return self.client.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)).job


class Node:
    """A registered pilot."""

    def __init__(self, rig: Rig, proxy: Path, pilot_id: str = "") -> None:
        self.client = rig.client(proxy)
        self.pilot_id = pilot_id or register(self.client, renews=True)

    def offers(self) -> list[pilot_pb2.Lease]:
        """Take all that there is for it, at once."""
        request = pilot_pb2.AcquireJobsRequest(pilot_id=self.pilot_id, slots=4)
        return list(self.client.pilots.AcquireJobs(request).leases)

    def take(self) -> pilot_pb2.Lease:
        return acquire(self.client, self.pilot_id)

    def token(self, lease: pilot_pb2.Lease) -> str:
        request = pilot_pb2.RefreshCredentialTokenRequest(pilot_id=self.pilot_id, lease_id=lease.lease_id)
        return self.client.pilots.RefreshCredentialToken(request).credential_token

    def order(self, lease: pilot_pb2.Lease) -> int:
        report = pilot_pb2.LeaseReport(lease_id=lease.lease_id, phase=pilot_pb2.ATTEMPT_PHASE_RUNNING)
        request = pilot_pb2.HeartbeatRequest(pilot_id=self.pilot_id, reports=[report])
        return self.client.pilots.Heartbeat(request).answers[0].order

    def retrieve(self, lease: pilot_pb2.Lease, key: PrivateKey | None = None) -> tuple[x509.Certificate, ...]:
        return loaded(self.client.credentials.RetrieveCredential(retrieve_request(lease, key)).chain)

    def renewal(self, lease: pilot_pb2.Lease) -> pb.RenewCredentialRequest:
        first = retrieve_request(lease)
        return pb.RenewCredentialRequest(
            credential_token=self.token(lease),
            retrieval_key=lease.retrieval_key,
            certificate_request=first.certificate_request,
        )

    def renew(self, lease: pilot_pb2.Lease) -> tuple[x509.Certificate, ...]:
        return loaded(self.client.credentials.RenewCredential(self.renewal(lease)).chain)


def loaded(chain: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_der_x509_certificate(certificate) for certificate in chain)


def path_length(chain: Sequence[x509.Certificate]) -> int | None:
    info = proxy_info(chain[0])
    assert info is not None
    return info.path_length


def seconds_left(chain: Sequence[x509.Certificate], rig: Rig) -> float:
    return (chain[0].not_valid_after_utc - rig.clock()).total_seconds()


def facts(chain: Sequence[x509.Certificate], rig: Rig) -> tuple[bool, int | None, int]:
    """Return what the policy decides of a proxy: limited, path length, and life in hours."""
    return is_limited(chain[0]), path_length(chain), round(seconds_left(chain, rig) / HOUR)


# what proxies are


def test_proxies_are_limited_short_and_bounded_as_the_policy_of_their_vo_says(
    make: Callable[..., Rig], alice_proxy: Path, others_proxy: Path, plain_proxy: Path, pilot_proxy: Path
) -> None:
    rig = make(**BY_VO)
    pilot, found = Node(rig, pilot_proxy), {}
    for proxy in (alice_proxy, others_proxy, plain_proxy):
        member = Member(rig, proxy)
        member.submit()
        found[proxy] = facts(pilot.retrieve(pilot.take()), rig)
    assert found == {alice_proxy: (True, 1, 1), others_proxy: (False, None, 2), plain_proxy: (False, 0, 2)}


def below(chain: Sequence[x509.Certificate], key: PrivateKey, number: int) -> vectors.Entity:
    """Make a proxy below a chain, whatever that allows."""
    limited = vectors.proxy_info(vectors.LIMITED)
    return vectors.proxy(
        vectors.Entity(chain[0], key, tuple(chain[1:])),
        subject=vectors.below(chain[0].subject, str(number)),
        extensions=vectors.proxy_extensions(limited),
        end=chain[0].not_valid_after_utc,
    )


def openssl_says(chain: Sequence[x509.Certificate], grid: ToyGrid, folder: Path) -> str:
    (folder / "leaf.pem").write_bytes(vectors.pem(chain[0]))
    (folder / "rest.pem").write_bytes(vectors.chain_pem(chain[1:]))
    command = ["openssl", "verify", "-allow_proxy_certs", "-CApath", str(grid.ca_dir)]
    command += ["-untrusted", str(folder / "rest.pem"), str(folder / "leaf.pem")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


def we_say(chain: Sequence[x509.Certificate], grid: ToyGrid) -> str:
    options = pilotage_helper.VerifyOptions(ca_dir=grid.ca_dir, voms_dir=grid.voms_dir, require_proxy=True)
    try:
        pilotage_helper.verify_chain([vectors.der(certificate) for certificate in chain], options)
    except VerifyError as error:
        return error.reason.name
    return "OK"


def test_verifiers_hold_who_gets_a_proxy_to_its_path_length(
    make: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, grid: ToyGrid, tmp_path: Path
) -> None:
    rig = make(**BY_VO)
    Member(rig, alice_proxy).submit()
    pilot, key = Node(rig, pilot_proxy), make_key(KeyKind.RSA_2048)
    chain = pilot.retrieve(pilot.take(), key)
    assert openssl_says(chain, grid, tmp_path).endswith("leaf.pem: OK\n")
    assert we_say(chain, grid) == "OK"
    once = below(chain, key, 1)
    assert openssl_says(once.chain, grid, tmp_path).endswith("leaf.pem: OK\n")
    assert we_say(once.chain, grid) == "OK"
    assert isinstance(once.key, PrivateKey)
    twice = below(once.chain, once.key, 2)
    assert "path length" in openssl_says(twice.chain, grid, tmp_path).lower()
    assert we_say(twice.chain, grid) == "PROXY_PATH_LENGTH"


def test_a_limited_credential_stays_limited_under_a_policy_of_full_proxies(
    make: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig = make(**{"retrieval.vo.demo": {"proxy": "full"}})
    Member(rig, alice_proxy, limited=True).submit()
    pilot = Node(rig, pilot_proxy)
    assert is_limited(pilot.retrieve(pilot.take())[0])


def test_a_path_length_is_never_more_than_the_stored_chain_allows(
    make: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig = make(**{"retrieval.vo.demo": {"path_length": 5}})
    identity = load_identity(alice_proxy)
    owner, pilot = rig.client(identity), Node(rig, pilot_proxy)
    begun = owner.credentials.BeginDelegation(pb.BeginDelegationRequest(key_kind=pb.KEY_KIND_EC_P256))
    public = check_request(begun.certificate_request)
    life = datetime.timedelta(hours=10)
    proxy = sign_proxy(identity.chain, identity.key, public, lifetime=life, path_length=3, now=utc_now())
    request = pb.CompleteDelegationRequest(
        delegation_id=begun.delegation_id,
        chain=[vectors.der(proxy), *identity.chain_der],
        retrieval_key=b"k" * 32,
    )
    stored = owner.credentials.CompleteDelegation(request).credential
    submit(owner, Delegated(stored.credential_id, b"k" * 32, stored))
    assert path_length(pilot.retrieve(pilot.take())) == 2


def test_attributes_cannot_be_added_below_a_path_length_of_nought_and_the_pilot_is_told_so(
    make: Callable[..., Rig], plain_proxy: Path, pilot_proxy: Path, grid: ToyGrid
) -> None:
    server = grid.voms_host("demo")
    authority = Authority(load_identity(server.cert_path, server.key_path), "demo", "voms.demo.example.org", 15000)
    for length, works in ((0, False), (1, True)):
        rig = make(**{"retrieval.plain": {"path_length": length}})
        Member(rig, plain_proxy).submit()
        pilot, key = Node(rig, pilot_proxy), make_key(KeyKind.RSA_2048)
        chain = pilot.retrieve(pilot.take(), key)
        rig.stop()
        identity, life = LocalIdentity(chain=chain, key=key, source="a pilot"), datetime.timedelta(hours=1)
        given = issue_attributes(authority, end_entity(chain), ["/demo"], lifetime=life, now=utc_now())
        if works:
            assert we_say(add_attributes(identity, [given], lifetime=life, now=utc_now()).chain, grid) == "OK"
        else:
            with pytest.raises(PilotageError, match="PROXY_PATH_LENGTH"):
                add_attributes(identity, [given], lifetime=life, now=utc_now())


# who gets them


def audited(rig: Rig, admin: LocalIdentity, act: str) -> list[admin_pb2.AuditEntry]:
    return list(rig.mutual_client(admin).admin.QueryAudit(admin_pb2.QueryAuditRequest(act=act)).entries)


def test_a_pilot_outside_the_targets_is_refused_audited_not_punished_and_nothing_is_spent(
    make: Callable[..., Rig], alice_proxy: Path, others_proxy: Path, pilot_proxy: Path, admin: LocalIdentity
) -> None:
    """JobService believes in another policy than CredentialService: two hosts, two files, one forgotten."""
    closed = {"retrieval.vo.demo": {"targets": [OTHER_PILOT_DN]}, "abuse": {"pilot_strikes": 1}}
    rig = make(**closed)
    assert rig.app is not None
    rig.app._pilot_desk._policy = RetrievalPolicy()
    Member(rig, alice_proxy).submit()
    pilot = Node(rig, pilot_proxy)
    lease = pilot.take()
    request = retrieve_request(lease)
    error = refused(pilot.client.credentials.RetrieveCredential, request)
    assert f"does not let the pilot {PILOT_DN} have credentials of the VO demo" in str(error)
    for _ in range(3):
        assert reason(pilot.client.credentials.RetrieveCredential, request) is Reason.TARGET_REFUSED
    (row, *_) = audited(rig, admin, "retrieval refused")
    assert (row.reason, row.actor_dn, row.lease_id, row.job_id) == (
        "TARGET_REFUSED",
        PILOT_DN,
        lease.lease_id,
        lease.job_id,
    )
    assert audited(rig, admin, "caller banned") == []
    Member(rig, others_proxy).submit()
    pilot.retrieve(pilot.take())
    rig.stop()
    rig = make(**{"retrieval.vo.demo": {"targets": [PILOT_DN]}})
    rig.client(pilot_proxy).credentials.RetrieveCredential(request)


def test_the_audit_says_under_which_policy_a_proxy_was_made(
    make: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, admin: LocalIdentity
) -> None:
    rig = make(**BY_VO)
    Member(rig, alice_proxy).submit()
    pilot = Node(rig, pilot_proxy)
    pilot.retrieve(pilot.take())
    (row,) = audited(rig, admin, "proxy issued")
    assert (row.facts["policy"], row.facts["path_length"]) == ("limited", "1")
    (policy,) = audited(rig, admin, "policy set")
    assert '"vo":{"demo":{"max_lifetime_seconds":3600,"path_length":1,"proxy":"limited"}}' in policy.facts["policy"]


# who is offered what


def test_the_broker_passes_over_jobs_that_the_pilot_could_not_serve(
    make: Callable[..., Rig],
    alice_proxy: Path,
    others_proxy: Path,
    plain_proxy: Path,
    pilot_proxy: Path,
    other_pilot_proxy: Path,
) -> None:
    rig = make(
        **{
            "retrieval.default": {"targets": [PILOT_ROLE]},
            "retrieval.vo.demo": {"targets": ["/O=Toy Grid/CN=Robot - other *"]},
            "retrieval.plain": {"targets": []},
        }
    )
    alice, bob, carol = (Member(rig, proxy) for proxy in (alice_proxy, others_proxy, plain_proxy))
    waits, hers = carol.submit(), [alice.submit() for _ in range(3)]
    his = bob.submit()
    pilot, other = Node(rig, pilot_proxy), Node(rig, other_pilot_proxy)
    (lease,) = pilot.offers()
    assert lease.job_id == his
    pilot.retrieve(lease)
    assert pilot.offers() == []
    leases = other.offers()
    assert sorted(lease.job_id for lease in leases) == sorted(hers)
    for lease in leases:
        other.retrieve(lease)
    assert other.offers() == []
    assert carol.job(waits).state == job_pb2.JOB_STATE_ACTIVATED


def test_a_pilot_that_waits_is_not_woken_for_a_job_that_it_could_not_serve(
    make: Callable[..., Rig], alice_proxy: Path, others_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path
) -> None:
    rig = make(**{"retrieval.vo.demo": {"targets": [OTHER_PILOT_DN]}})
    alice, bob = Member(rig, alice_proxy), Member(rig, others_proxy)
    first, second = Node(rig, pilot_proxy), Node(rig, other_pilot_proxy)

    def wait(node: Node) -> list[str]:
        request = pilot_pb2.AcquireJobsRequest(pilot_id=node.pilot_id, slots=1)
        request.wait.FromSeconds(20)
        return [lease.job_id for lease in node.client.pilots.AcquireJobs(request).leases]

    with ThreadPoolExecutor(2) as threads:
        assert rig.app is not None
        places, calls = rig.app._notices._places, []
        for node in (first, second):
            calls.append(threads.submit(wait, node))
            # The first in the row would be called first.
            while len(places) < len(calls):
                time.sleep(0.01)
        hers = alice.submit()
        assert calls[1].result(timeout=15) == [hers]
        assert not calls[0].done()
        his = bob.submit()
        assert calls[0].result(timeout=15) == [his]


# renewal


def test_a_renewal_follows_a_policy_that_became_narrower(
    make: Callable[..., Rig], others_proxy: Path, pilot_proxy: Path
) -> None:
    rig = make(**{"retrieval.vo.other": {"max_lifetime_seconds": 4 * HOUR}})
    Member(rig, others_proxy).submit()
    pilot = Node(rig, pilot_proxy)
    lease = pilot.take()
    assert facts(pilot.retrieve(lease), rig) == (False, None, 4)
    rig.stop()
    rig = make(**{"retrieval.vo.other": {"max_lifetime_seconds": 3 * HOUR, "proxy": "limited", "path_length": 2}})
    pilot = Node(rig, pilot_proxy, pilot.pilot_id)
    assert facts(pilot.renew(lease), rig) == (True, 2, 3)


def test_a_renewal_never_goes_beyond_what_its_lease_had_under_a_narrower_policy(
    make: Callable[..., Rig], others_proxy: Path, pilot_proxy: Path
) -> None:
    rig = make(**{"retrieval.vo.other": {"max_lifetime_seconds": 2 * HOUR, "proxy": "limited", "path_length": 1}})
    member = Member(rig, others_proxy)
    member.submit()
    pilot = Node(rig, pilot_proxy)
    lease = pilot.take()
    assert facts(pilot.retrieve(lease), rig) == (True, 1, 2)
    rig.stop()
    rig = make()
    pilot = Node(rig, pilot_proxy, pilot.pilot_id)
    for _ in range(2):
        assert facts(pilot.renew(lease), rig) == (True, 1, 2)
    # A new lease begins under the new policy.
    submit(rig.client(member.identity), member.delegated)
    assert facts(pilot.retrieve(pilot.take()), rig)[:2] == (False, None)


def test_a_lease_goes_on_when_its_pilot_is_a_target_no_more_and_its_owner_hears_why_it_is_not_renewed(
    make: Callable[..., Rig], others_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path, admin: LocalIdentity
) -> None:
    rig = make(**{"retrieval.vo.other": {"max_lifetime_seconds": 2 * HOUR}})
    member = Member(rig, others_proxy)
    job_id, later = member.submit(), member.submit()
    pilot = Node(rig, pilot_proxy)
    lease = pilot.take()
    pilot.retrieve(lease)
    pilot.order(lease)
    rig.stop()
    rig = make(**{"retrieval.vo.other": {"max_lifetime_seconds": 2 * HOUR, "targets": [OTHER_PILOT_DN]}})
    pilot = Node(rig, pilot_proxy, pilot.pilot_id)
    member.client = rig.client(member.identity)
    assert pilot.order(lease) == pilot_pb2.LEASE_ORDER_CONTINUE
    rig.clock.turn(1.6 * HOUR)
    assert pilot.order(lease) == pilot_pb2.LEASE_ORDER_RENEW
    assert reason(pilot.client.credentials.RenewCredential, pilot.renewal(lease)) is Reason.TARGET_REFUSED
    job = member.job(job_id)
    assert (job.state, job.proxy.reason) == (job_pb2.JOB_STATE_RUNNING, "TARGET_REFUSED")
    events = member.client.jobs.ListJobEvents(job_pb2.ListJobEventsRequest(job_id=job_id)).events
    (told,) = [event for event in events if event.from_state == event.to_state]
    assert told.reason == "TARGET_REFUSED"
    assert f"The policy does not let the pilot {PILOT_DN} have credentials of the VO other." in told.message
    assert "proxy renewal failed" in rig.log_text
    assert [row.reason for row in audited(rig, admin, "renewal refused")] == ["TARGET_REFUSED"]
    assert pilot.order(lease) == pilot_pb2.LEASE_ORDER_CONTINUE
    # What had not begun goes to a pilot that is one.
    assert pilot.offers() == []
    assert [found.job_id for found in Node(rig, other_pilot_proxy).offers()] == [later]


# configuration


def test_check_config_tells_a_mistake_of_the_policy_in_one_line(
    make: Callable[..., Rig], capsys: pytest.CaptureFixture[str]
) -> None:
    rig = make(**BY_VO)
    rig.stop()
    command = ["check-config", "--config", str(rig.config_path)]
    assert main(command) == 0
    capsys.readouterr()
    good = rig.config_path.read_text()
    for old, new, told in (
        ('"limited"', '"half"', "half"),
        ("path_length = 1", "path_length = -1", "retrieval.vo.demo.path_length: -1"),
        ("vo.demo", "vo.dmeo", "retrieval.vo.dmeo: server.voms_dir has no directory of this VO"),
    ):
        rig.config_path.write_text(good.replace(old, new))
        assert main(command) != 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pilotage-server: CONFIG_INVALID: ")
        assert told in line


def test_a_job_that_was_offered_before_the_policy_changed_goes_to_another_pilot(
    make: Callable[..., Rig], others_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path
) -> None:
    rig = make()
    member = Member(rig, others_proxy)
    job_id = member.submit()
    pilot = Node(rig, pilot_proxy)
    lease = pilot.take()
    rig.stop()
    rig = make(**{"retrieval.vo.other": {"targets": [OTHER_PILOT_DN]}})
    pilot = Node(rig, pilot_proxy, pilot.pilot_id)
    assert reason(pilot.client.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TARGET_REFUSED
    ended = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_INFRASTRUCTURE, reason="TARGET_REFUSED")
    request = pilot_pb2.FinishJobRequest(pilot_id=pilot.pilot_id, lease_id=lease.lease_id, result=ended)
    assert pilot.client.pilots.FinishJob(request).state == job_pb2.JOB_STATE_ACTIVATED
    assert pilot.offers() == []
    other = Node(rig, other_pilot_proxy)
    (again,) = other.offers()
    assert again.job_id == job_id
    other.retrieve(again)
