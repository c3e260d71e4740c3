"""Too much, too often, or not theirs: limits that outlive a restart, and bans that stay until they are lifted."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage.v1 import admin_pb2, auth_pb2, job_pb2, pilot_pb2
from pilotage.v1 import credential_pb2 as pb
from pilotage.wire_errors import reason_of
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, make_key
from pilotage.x509.requests import make_request
from support.journey import acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_rig import OWNER_ROLE, PILOT_ROLE, Client, Rig
from support.shell import Shell

EC = KeyKind.EC_P256


@pytest.fixture
def alice_identity(alice_proxy: Path) -> LocalIdentity:
    return load_identity(alice_proxy)


@pytest.fixture
def admin_shell(rig: Rig, grid: ToyGrid, tmp_path: Path) -> Shell:
    proxy = grid.voms_proxy(grid.user("admin"), tmp_path / "admin.proxy", fqans=("/demo",))
    return Shell(rig, proxy, tmp_path / "admin")


def lease_of(owner: Client, pilot: Client, identity: LocalIdentity) -> pilot_pb2.Lease:
    """A job of the owner's with a credential of its own, acquired by the pilot."""
    submit(owner, delegate(owner, identity, kind=EC))
    return acquire(pilot, register(pilot))


def fresh(pilot: Client, lease: pilot_pb2.Lease, pilot_id: str) -> pb.RetrieveCredentialRequest:
    """Return a retrieval with a token of its own."""
    request = retrieve_request(lease)
    told = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    )
    request.credential_token = told.credential_token
    return request


# rates


def test_a_pilot_that_asks_too_often_is_slowed_down_and_a_restart_does_not_forget(
    make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path, admin: LocalIdentity
) -> None:
    rig = make_rig(abuse={"pilot_issues_per_minute": 4})
    rig.clock.stand()
    identity = load_identity(alice_proxy)
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegate(owner, identity, kind=EC))
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    for _ in range(4):
        pilot.credentials.RetrieveCredential(fresh(pilot, lease, pilot_id))
    kept = fresh(pilot, lease, pilot_id)
    assert reason(pilot.credentials.RetrieveCredential, kept) is Reason.RATE_LIMITED
    rig.restart()
    pilot, owner = rig.client(pilot_proxy), rig.client(alice_proxy)
    assert reason(pilot.credentials.RetrieveCredential, kept) is Reason.RATE_LIMITED
    other = rig.client(other_pilot_proxy)
    other.credentials.RetrieveCredential(retrieve_request(lease_of(owner, other, identity)))
    rig.clock.turn(16)
    pilot.credentials.RetrieveCredential(kept)
    assert reason(pilot.credentials.RetrieveCredential, fresh(pilot, lease, pilot_id)) is Reason.RATE_LIMITED
    found = rig.mutual_client(admin).admin.QueryAudit(admin_pb2.QueryAuditRequest(act="retrieval refused"))
    # Within a minute one row tells of all of them; a restart begins a new minute.
    assert [row.reason for row in found.entries] == ["RATE_LIMITED", "RATE_LIMITED"]


def test_an_owners_credentials_are_not_drained_by_many_pilots(
    make_rig: Callable[..., Rig], alice_proxy: Path, bob_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path
) -> None:
    rig = make_rig(abuse={"owner_issues_per_minute": 2})
    rig.clock.stand()
    owner, bob = rig.client(alice_proxy), rig.client(bob_proxy)
    first, second = rig.client(pilot_proxy), rig.client(other_pilot_proxy)
    first.credentials.RetrieveCredential(retrieve_request(lease_of(owner, first, load_identity(alice_proxy))))
    second.credentials.RetrieveCredential(retrieve_request(lease_of(owner, second, load_identity(alice_proxy))))
    third = retrieve_request(lease_of(owner, first, load_identity(alice_proxy)))
    assert reason(first.credentials.RetrieveCredential, third) is Reason.RATE_LIMITED
    first.credentials.RetrieveCredential(retrieve_request(lease_of(bob, first, load_identity(bob_proxy))))


def test_an_owner_delegates_so_often_and_no_more(
    make_rig: Callable[..., Rig], alice_proxy: Path, bob_proxy: Path
) -> None:
    rig = make_rig(abuse={"owner_delegations_per_minute": 2})
    rig.clock.stand()
    owner, bob = rig.client(alice_proxy), rig.client(bob_proxy)
    for _ in range(2):
        delegate(owner, load_identity(alice_proxy), kind=EC)
    assert reason(owner.credentials.BeginDelegation, pb.BeginDelegationRequest()) is Reason.RATE_LIMITED
    delegate(bob, load_identity(bob_proxy), kind=EC)
    rig.clock.turn(31)
    delegate(owner, load_identity(alice_proxy), kind=EC)


def test_the_limits_are_exact_when_all_come_at_once(
    make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig = make_rig(abuse={"pilot_issues_per_minute": 5})
    rig.clock.stand()
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    calls = [pilot.credentials.RetrieveCredential.future(fresh(pilot, lease, pilot_id)) for _ in range(20)]
    outcomes = []
    for call in calls:
        error = call.exception(30)
        outcomes.append(None if error is None else reason_of(error))
    assert outcomes.count(None) == 5
    assert outcomes.count(Reason.RATE_LIMITED) == 15


def test_who_is_refused_too_often_waits_and_does_not_fill_the_audit(
    make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path, admin: LocalIdentity
) -> None:
    rig = make_rig(abuse={"refusals_per_minute": 5})
    rig.clock.stand()
    owner, pilot, other = rig.client(alice_proxy), rig.client(pilot_proxy), rig.client(other_pilot_proxy)
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    good = retrieve_request(acquire(pilot, register(pilot)))
    bad = pb.RetrieveCredentialRequest.FromString(good.SerializeToString())
    bad.retrieval_key = b"guess" * 6 + b"!!"
    told = [reason(pilot.credentials.RetrieveCredential, bad) for _ in range(40)]
    assert told == [Reason.RETRIEVAL_KEY_WRONG] * 5 + [Reason.RATE_LIMITED] * 35
    found = rig.mutual_client(admin).admin.QueryAudit(admin_pb2.QueryAuditRequest(act="retrieval refused")).entries
    assert len(found) == 6
    # The limit is the caller's own, and passes; nothing was spent.
    other.credentials.RetrieveCredential(retrieve_request(lease_of(owner, other, load_identity(alice_proxy))))
    rig.clock.turn(30)
    pilot.credentials.RetrieveCredential(good)


def test_who_is_refused_too_often_hears_nothing_of_the_next_token(
    make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, admin: LocalIdentity
) -> None:
    rig = make_rig(abuse={"refusals_per_minute": 3, "pilot_strikes": 1000, "dn_strikes": 1000})
    rig.clock.stand()
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    lease = acquire(pilot, register(pilot))
    assert [spoil(pilot, lease) for _ in range(10)] == [Reason.TOKEN_INVALID] * 3 + [Reason.RATE_LIMITED] * 7
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.RATE_LIMITED
    found = rig.mutual_client(admin).admin.QueryAudit(admin_pb2.QueryAuditRequest(act="retrieval refused")).entries
    assert [row.reason for row in found] == ["RATE_LIMITED"] + ["TOKEN_INVALID"] * 3
    rig.clock.turn(30)
    pilot.credentials.RetrieveCredential(retrieve_request(lease))


# bans


def spoil(pilot: Client, lease: pilot_pb2.Lease) -> Reason:
    """Show an altered token."""
    request = retrieve_request(lease)
    request.credential_token = request.credential_token[:-10] + "AAAAAAAAAA"
    return reason(pilot.credentials.RetrieveCredential, request)


def test_bad_tokens_of_every_kind_count_until_an_admin_lifts_the_ban(
    rig: Rig, owner: Client, pilot: Client, alice_identity: LocalIdentity, other_pilot_proxy: Path, admin_shell: Shell
) -> None:
    submit(owner, delegate(owner, alice_identity, kind=EC))
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    other = rig.client(other_pilot_proxy)
    theirs = lease_of(owner, other, alice_identity)
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    old = fresh(pilot, lease, pilot_id)
    for _ in range(3):
        assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_USED
        assert reason(pilot.credentials.RetrieveCredential, retrieve_request(theirs)) is Reason.TOKEN_FOREIGN
        assert spoil(pilot, lease) is Reason.TOKEN_INVALID
    rig.clock.turn(301)
    assert reason(pilot.credentials.RetrieveCredential, old) is Reason.TOKEN_EXPIRED
    again = pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    for call in (
        lambda: pilot.pilots.RefreshCredentialToken(again),
        lambda: pilot.credentials.RetrieveCredential(old),
        lambda: pilot.pilots.AcquireJobs(pilot_pb2.AcquireJobsRequest(pilot_id=pilot_id, slots=1)),
        lambda: pilot.pilots.Heartbeat(pilot_pb2.HeartbeatRequest(pilot_id=pilot_id)),
        lambda: register(pilot),
    ):
        assert reason(call) is Reason.CALLER_BANNED
    assert pilot.auth.WhoAmI(auth_pb2.WhoAmIRequest()).principal.dn.endswith("pilot factory")
    assert "10 credential tokens were used, foreign, expired or altered." in admin_shell.ok("admin", "bans")
    assert admin_shell.ok("admin", "audit", "--act", "banned", "--json").count('"act"') == 1
    dn = pilot.auth.WhoAmI(auth_pb2.WhoAmIRequest()).principal.dn
    admin_shell.ok("admin", "unban", dn)
    assert admin_shell.ok("admin", "bans") == ""
    register(pilot)
    assert spoil(pilot, lease) is Reason.TOKEN_INVALID
    register(pilot)


def test_a_ban_outlives_a_restart_and_new_logins_and_hits_one_key_only(
    rig: Rig,
    owner: Client,
    pilot: Client,
    alice_identity: LocalIdentity,
    pilot_proxy: Path,
    grid: ToyGrid,
    robot: Identity,
    tmp_path: Path,
) -> None:
    lease = lease_of(owner, pilot, alice_identity)
    for _ in range(10):
        assert spoil(pilot, lease) is Reason.TOKEN_INVALID
    assert reason(register, pilot) is Reason.CALLER_BANNED
    rig.restart()
    assert reason(register, rig.client(pilot_proxy)) is Reason.CALLER_BANNED
    sibling = grid.voms_proxy(robot, tmp_path / "sibling", fqans=(PILOT_ROLE, "/demo"))
    register(rig.client(sibling))


def test_strikes_are_forgotten_after_a_while_and_not_by_a_restart(
    rig: Rig, owner: Client, pilot: Client, alice_identity: LocalIdentity, pilot_proxy: Path
) -> None:
    lease = lease_of(owner, pilot, alice_identity)
    for _ in range(9):
        spoil(pilot, lease)
    rig.clock.turn(3601)
    pilot = rig.client(pilot_proxy)
    spoil(pilot, lease)
    register(pilot)
    for _ in range(8):
        spoil(pilot, lease)
    rig.restart()
    pilot = rig.client(pilot_proxy)
    spoil(pilot, lease)
    assert reason(register, pilot) is Reason.CALLER_BANNED


def test_new_keys_of_one_name_do_not_get_round_the_count(
    make_rig: Callable[..., Rig], grid: ToyGrid, robot: Identity, pilot_proxy: Path, tmp_path: Path
) -> None:
    """Who holds a robot's certificate or proxy makes as many keys as he likes."""
    rig = make_rig(abuse={"dn_strikes": 25})
    rig.clock.stand()
    bad = pb.RetrieveCredentialRequest(credential_token="x", certificate_request=make_request(make_key(EC)))
    for number in range(5):
        proxy = grid.voms_proxy(robot, tmp_path / f"proxy{number}", fqans=(PILOT_ROLE, "/demo"))
        client = rig.client(proxy)
        for _ in range(5):
            assert reason(client.credentials.RetrieveCredential, bad) is Reason.TOKEN_INVALID
    assert reason(register, rig.client(pilot_proxy)) is Reason.CALLER_BANNED


def test_an_admin_bans_a_name_or_an_attribute_with_all_below_it(
    rig: Rig, owner: Client, pilot: Client, admin_shell: Shell, alice: Identity, bob_proxy: Path,
    alice_identity: LocalIdentity,
) -> None:  # fmt: skip
    bob = rig.client(bob_proxy)
    lease = lease_of(owner, pilot, alice_identity)
    job = job_pb2.GetJobRequest(job_id=lease.job_id)
    admin_shell.ok("admin", "ban", alice.dn, "--why", "Key stolen")
    assert reason(owner.jobs.GetJob, job) is Reason.CALLER_BANNED
    bob.jobs.ListJobs(job_pb2.ListJobsRequest())
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.CREDENTIAL_OWNER_BANNED
    assert "Key stolen." in admin_shell.ok("admin", "bans")
    admin_shell.ok("admin", "unban", alice.dn)
    owner.jobs.GetJob(job)
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    admin_shell.ok("admin", "ban", OWNER_ROLE, "--why", "x")
    for one in (owner, bob):
        assert reason(one.jobs.ListJobs, job_pb2.ListJobsRequest()) is Reason.CALLER_BANNED
    register(pilot)
    refused = admin_shell.run("admin", "ban", "/demo", "--why", "x")
    assert (refused.code, "shut yourself out" in refused.err) == (2, True)
    for subject in ("", "alice", "/", "/x\ny"):
        assert admin_shell.run("admin", "ban", subject, "--why", "x").code == 2
        assert admin_shell.run("admin", "unban", subject).code == 2
    assert admin_shell.run("admin", "ban", alice.dn, "--why", "").code == 2


def test_a_limited_proxy_of_an_admin_changes_nothing_for_others(
    rig: Rig, grid: ToyGrid, owner: Client, alice: Identity, alice_identity: LocalIdentity, tmp_path: Path
) -> None:
    """Jobs of admins have such proxies, on worker nodes: else a pilot that is banned lifts its ban with one."""
    path = grid.plain_proxy(grid.user("admin"), tmp_path / "limited.proxy", limited=True)
    delegated = delegate(owner, alice_identity, kind=EC)
    client = rig.client(path)
    ban, unban = admin_pb2.BanRequest(subject=alice.dn, why="x"), admin_pb2.UnbanRequest(subject=alice.dn)
    assert reason(client.admin.Ban, ban) is Reason.LIMITED_PROXY_REFUSED
    assert reason(client.admin.Unban, unban) is Reason.LIMITED_PROXY_REFUSED
    destroy = pb.DestroyCredentialRequest(credential_id=delegated.credential_id)
    assert reason(client.credentials.DestroyCredential, destroy) is Reason.CREDENTIAL_NOT_FOUND
    assert list(client.admin.ListBans(admin_pb2.ListBansRequest()).bans) == []
    owner.credentials.GetCredential(pb.GetCredentialRequest(credential_id=delegated.credential_id))


@pytest.mark.parametrize(
    "subject",
    [
        f"{PILOT_ROLE}/Capability=NULL",
        "/demo/Role=NULL/Capability=NULL",
        f"{PILOT_ROLE}/",
        "/demo//Role=pilot",
        "/demo/Role=pi lot",
    ],
)
def test_a_ban_that_would_shut_nobody_out_is_refused(rig: Rig, pilot: Client, admin_shell: Shell, subject: str) -> None:
    """Attributes as voms-proxy-info prints them, and what is none: no caller has those."""
    told = admin_shell.run("admin", "ban", subject, "--why", "stolen")
    assert (told.code, "INVALID_ARGUMENT" in told.err) == (2, True)
    assert admin_shell.ok("admin", "bans") == ""
    register(pilot)


def test_the_jobs_of_a_banned_owner_are_held_and_stopped(
    rig: Rig, owner: Client, pilot: Client, admin_shell: Shell, alice: Identity, alice_identity: LocalIdentity
) -> None:
    delegated = delegate(owner, alice_identity, kind=EC)
    submit(owner, delegated)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    waiting = submit(owner, delegated)
    admin_shell.ok("admin", "ban", alice.dn, "--why", "x")
    rig.call(lambda app: app.prune())
    report = pilot_pb2.LeaseReport(lease_id=lease.lease_id, phase=pilot_pb2.ATTEMPT_PHASE_RUNNING)
    (answer,) = pilot.pilots.Heartbeat(pilot_pb2.HeartbeatRequest(pilot_id=pilot_id, reports=[report])).answers
    assert (answer.order, answer.reason) == (pilot_pb2.LEASE_ORDER_KILL, "CREDENTIAL_OWNER_BANNED")
    admin_shell.ok("admin", "unban", alice.dn)
    held = owner.jobs.GetJob(job_pb2.GetJobRequest(job_id=waiting)).job
    assert (held.state, held.reason) == (job_pb2.JOB_STATE_HELD, "CREDENTIAL_OWNER_BANNED")


def test_a_stream_ends_when_its_reader_is_banned(
    rig: Rig, owner: Client, pilot: Client, admin_shell: Shell, alice: Identity, alice_identity: LocalIdentity
) -> None:
    lease = lease_of(owner, pilot, alice_identity)
    watch = owner.jobs.WatchJobs(job_pb2.WatchJobsRequest(job_ids=[lease.job_id]), timeout=120)
    next(watch)
    admin_shell.ok("admin", "ban", alice.dn, "--why", "x")
    # The next change is the first thing that the stream would tell.
    pilot.pilots.DeregisterPilot(pilot_pb2.DeregisterPilotRequest(pilot_id=pilot_of(rig, lease)))
    with pytest.raises(grpc.RpcError) as caught:
        list(watch)
    assert reason_of(caught.value) is Reason.CALLER_BANNED


def pilot_of(rig: Rig, lease: pilot_pb2.Lease) -> str:
    with contextlib.closing(sqlite3.connect(rig.state / "jobs.sqlite")) as connection:
        row = connection.execute("SELECT pilot_id FROM lease WHERE lease_id = ?", (lease.lease_id,)).fetchone()
    return str(row[0])


def test_bans_come_in_pages_and_only_admins_see_or_make_them(
    rig: Rig, owner: Client, pilot: Client, admin: LocalIdentity
) -> None:
    watcher = rig.mutual_client(admin)
    for number in range(5):
        watcher.admin.Ban(admin_pb2.BanRequest(subject=f"/O=Toy Grid/CN=Mallory {number}", why="x"))
        watcher.admin.Ban(admin_pb2.BanRequest(subject=f"/O=Toy Grid/CN=Mallory {number}", why="again"))
    found: list[str] = []
    token = ""
    while True:
        page = watcher.admin.ListBans(admin_pb2.ListBansRequest(page_size=2, page_token=token))
        found += [f"{ban.subject[-1]} {ban.why}" for ban in page.bans]
        token = page.next_page_token
        if not token:
            break
    assert found == [f"{number} x." for number in range(5)]
    subject = "/O=Toy Grid/CN=Mallory 1"
    for nobody in (owner, pilot):
        assert reason(nobody.admin.ListBans, admin_pb2.ListBansRequest()) is Reason.ROLE_REQUIRED
        assert reason(nobody.admin.Unban, admin_pb2.UnbanRequest(subject=subject)) is Reason.ROLE_REQUIRED
        assert reason(nobody.admin.Ban, admin_pb2.BanRequest(subject=subject, why="x")) is Reason.ROLE_REQUIRED
