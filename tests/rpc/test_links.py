"""Several names of one person: linked by proof of both, seen and handled as one, and each job runs as whom it says."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from toygrid import Identity, ToyGrid

import pilotage_helper
from pilotage.reasons import Reason
from pilotage.v1 import admin_pb2, job_pb2, pilot_pb2
from pilotage.v1 import credential_pb2 as pb
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_rig import OWNER_ROLE, Client, Rig
from support.shell import Shell

EC = KeyKind.EC_P256


@pytest.fixture(scope="session")
def carol(grid: ToyGrid) -> Identity:
    return grid.user("Carol")


@pytest.fixture(scope="session")
def carol_proxy(grid: ToyGrid, carol: Identity) -> Path:
    return grid.voms_proxy(carol, grid.root / "carol.proxy", fqans=(OWNER_ROLE, "/demo"))


@pytest.fixture
def other(rig: Rig, bob_proxy: Path) -> Client:
    """Alice's other name, which happens to be Bob."""
    return rig.client(bob_proxy)


@pytest.fixture
def theirs(other: Client, bob_proxy: Path) -> Delegated:
    return delegate(other, load_identity(bob_proxy), kind=EC)


def link(client: Client, dn: str) -> bool:
    return client.credentials.LinkName(pb.LinkNameRequest(dn=dn)).linked


@pytest.fixture
def linked(owner: Client, other: Client, alice: Identity, bob: Identity) -> None:
    assert not link(owner, bob.dn)
    assert link(other, alice.dn)


def listed(client: Client) -> list[str]:
    return [one.credential_id for one in client.credentials.ListCredentials(pb.ListCredentialsRequest()).credentials]


def jobs(client: Client) -> list[str]:
    return [job.job_id for job in client.jobs.ListJobs(job_pb2.ListJobsRequest()).jobs]


def see(client: Client, theirs: Delegated) -> Reason | None:
    """Look at a credential; return why not."""
    request = pb.GetCredentialRequest(credential_id=theirs.credential_id)
    if theirs.credential_id in listed(client):
        client.credentials.GetCredential(request)
        return None
    return reason(client.credentials.GetCredential, request)


# the link


def test_a_link_needs_both_names(
    owner: Client, other: Client, alice: Identity, bob: Identity, theirs: Delegated
) -> None:
    assert not link(owner, bob.dn)
    assert not link(owner, bob.dn)
    assert see(owner, theirs) is Reason.CREDENTIAL_NOT_FOUND
    assert link(other, alice.dn)
    assert see(owner, theirs) is None
    assert link(owner, bob.dn)
    (one, two) = owner.credentials.ListLinks(pb.ListLinksRequest()).links
    assert {(one.dn, one.other_dn), (two.dn, two.other_dn)} == {(alice.dn, bob.dn), (bob.dn, alice.dn)}
    assert one.link_time.seconds == two.link_time.seconds > 0


def test_what_one_name_says_of_another_gives_it_nothing(
    rig: Rig, owner: Client, other: Client, alice: Identity, bob: Identity, theirs: Delegated, carol_proxy: Path
) -> None:
    """Nobody can make himself a name of somebody else's, nor have a third one answer."""
    carol = rig.client(carol_proxy)
    assert not link(carol, bob.dn)
    assert not link(owner, bob.dn)
    assert not link(carol, alice.dn)
    for client in (owner, carol):
        assert see(client, theirs) is Reason.CREDENTIAL_NOT_FOUND
    asked = other.credentials.ListLinks(pb.ListLinksRequest()).links
    assert [link.HasField("link_time") for link in asked] == [False, False]


def test_who_asked_is_answered_within_a_day_or_not_at_all(
    rig: Rig, owner: Client, alice: Identity, bob: Identity, bob_proxy: Path, alice_proxy: Path, grid: ToyGrid
) -> None:
    link(owner, bob.dn)
    # Sessions end meanwhile; the proxies of the tests do not live that long.
    rig.call(lambda app: age(app, 86401))
    assert not link(rig.client(bob_proxy), alice.dn)
    assert link(owner, bob.dn)


async def age(app: object, seconds: int) -> None:
    database = app._databases["credentials"]  # type: ignore[attr-defined]
    await database.write(
        lambda c: c.execute("UPDATE links SET ask_time = ask_time - ?", (seconds * 1_000_000,)) and None
    )


def test_links_are_pairs_and_not_chains(
    rig: Rig, owner: Client, other: Client, linked: None, alice: Identity, bob: Identity, carol: Identity,
    carol_proxy: Path, theirs: Delegated,
) -> None:  # fmt: skip
    third = rig.client(carol_proxy)
    link(third, alice.dn)
    link(owner, carol.dn)
    mine = delegate(third, load_identity(carol_proxy), kind=EC)
    assert set(listed(owner)) == {theirs.credential_id, mine.credential_id}
    assert see(third, theirs) is Reason.CREDENTIAL_NOT_FOUND
    assert see(other, mine) is Reason.CREDENTIAL_NOT_FOUND


@pytest.mark.parametrize("first", [True, False])
def test_either_name_ends_a_link_at_once(
    owner: Client, other: Client, linked: None, alice: Identity, bob: Identity, theirs: Delegated, first: bool
) -> None:
    job = submit(other, theirs)
    assert see(owner, theirs) is None
    (owner if first else other).credentials.UnlinkName(pb.UnlinkNameRequest(dn=bob.dn if first else alice.dn))
    assert see(owner, theirs) is Reason.CREDENTIAL_NOT_FOUND
    assert jobs(owner) == []
    assert reason(owner.jobs.GetJob, job_pb2.GetJobRequest(job_id=job)) is Reason.JOB_NOT_FOUND
    assert reason(submit, owner, theirs) is Reason.CREDENTIAL_NOT_FOUND
    owner.credentials.UnlinkName(pb.UnlinkNameRequest(dn=bob.dn))
    assert not link(owner, bob.dn)


def test_a_link_outlives_a_restart(rig: Rig, linked: None, theirs: Delegated, alice_proxy: Path, bob: Identity) -> None:
    rig.restart()
    owner = rig.client(alice_proxy)
    assert see(owner, theirs) is None
    owner.credentials.UnlinkName(pb.UnlinkNameRequest(dn=bob.dn))
    rig.restart()
    assert see(rig.client(alice_proxy), theirs) is Reason.CREDENTIAL_NOT_FOUND


def test_what_cannot_be_linked_is_refused(
    rig: Rig, owner: Client, pilot: Client, alice: Identity, grid: ToyGrid, tmp_path: Path
) -> None:
    for dn in ("", "alice", "/demo", alice.dn, "/O=x\n", "/O=" + "x" * 2000):
        assert reason(owner.credentials.LinkName, pb.LinkNameRequest(dn=dn)) is Reason.INVALID_ARGUMENT
    for number in range(16):
        link(owner, f"/O=Toy Grid/CN=Name {number}")
    assert reason(owner.credentials.LinkName, pb.LinkNameRequest(dn="/O=x/CN=17")) is Reason.INVALID_ARGUMENT
    limited = grid.voms_proxy(grid.user("Limited"), tmp_path / "limited", fqans=(OWNER_ROLE,), limited=True)
    call = rig.client(limited).credentials
    assert reason(call.LinkName, pb.LinkNameRequest(dn=alice.dn)) is Reason.LIMITED_PROXY_REFUSED
    assert reason(pilot.credentials.LinkName, pb.LinkNameRequest(dn=alice.dn)) is Reason.ROLE_REQUIRED


def test_links_are_audited(
    rig: Rig, owner: Client, linked: None, alice: Identity, bob: Identity, admin: LocalIdentity
) -> None:
    owner.credentials.UnlinkName(pb.UnlinkNameRequest(dn=bob.dn))
    found = rig.mutual_client(admin).admin.QueryAudit(admin_pb2.QueryAuditRequest()).entries
    told = [(row.act, row.actor_dn, row.facts["other"]) for row in found if row.act.startswith(("link", "names"))]
    assert told == [
        ("names unlinked", alice.dn, bob.dn),
        ("names linked", bob.dn, alice.dn),
        ("link asked for", alice.dn, bob.dn),
    ]


# what it gives


def test_jobs_and_credentials_of_a_linked_name_are_seen_and_handled(
    owner: Client, other: Client, linked: None, theirs: Delegated, alice_proxy: Path, pilot: Client, bob: Identity
) -> None:
    mine = delegate(owner, load_identity(alice_proxy), kind=EC)
    first, second, third = submit(owner, mine), submit(other, theirs), submit(owner, mine)
    for client in (owner, other):
        assert jobs(client) == [third, second, first]
        assert set(listed(client)) == {mine.credential_id, theirs.credential_id}
    page = owner.jobs.ListJobs(job_pb2.ListJobsRequest(page_size=2))
    rest = owner.jobs.ListJobs(job_pb2.ListJobsRequest(page_size=2, page_token=page.next_page_token))
    assert [job.job_id for job in (*page.jobs, *rest.jobs)] == [third, second, first]
    assert owner.jobs.ListJobEvents(job_pb2.ListJobEventsRequest(job_id=second)).events
    watch = owner.jobs.WatchJobs(job_pb2.WatchJobsRequest(job_ids=[second]), timeout=120)
    assert next(watch).job.owner_dn == bob.dn
    (result,) = owner.jobs.CancelJobs(job_pb2.CancelJobsRequest(job_ids=[second])).results
    assert result.reason == ""
    assert [answer.job.state for answer in watch] == [job_pb2.JOB_STATE_CANCELLED]
    gone = owner.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=theirs.credential_id))
    assert gone.credential.destroy_time.seconds > 0
    issuances = pb.ListIssuancesRequest(credential_id=theirs.credential_id)
    assert list(owner.credentials.ListIssuances(issuances).issuances) == []


def test_a_job_submitted_with_a_linked_names_credential_runs_as_that_name(
    rig: Rig, owner: Client, other: Client, linked: None, theirs: Delegated, pilot: Client, alice: Identity,
    bob: Identity, grid: ToyGrid,
) -> None:  # fmt: skip
    job_id = submit(owner, theirs)
    lease = acquire(pilot, register(pilot))
    assert (lease.job_id, lease.owner_dn) == (job_id, bob.dn)
    answer = pilot.credentials.RetrieveCredential(retrieve_request(lease))
    options = pilotage_helper.VerifyOptions(ca_dir=grid.ca_dir, voms_dir=grid.voms_dir, require_proxy=True)
    assert pilotage_helper.verify_chain(answer.chain, options).dn == bob.dn
    job = other.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)).job
    assert job.owner_dn == bob.dn
    events = other.jobs.ListJobEvents(job_pb2.ListJobEventsRequest(job_id=job_id)).events
    assert f"Submitted by {alice.dn}" in events[0].message
    (issued,) = owner.credentials.ListIssuances(pb.ListIssuancesRequest(credential_id=theirs.credential_id)).issuances
    assert issued.job_id == job_id
    owner.credentials.UnlinkName(pb.UnlinkNameRequest(dn=bob.dn))
    assert reason(owner.jobs.GetJob, job_pb2.GetJobRequest(job_id=job_id)) is Reason.JOB_NOT_FOUND
    other.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id))


def test_a_held_job_keeps_its_name_whichever_name_delegates(
    owner: Client, other: Client, linked: None, theirs: Delegated, alice_proxy: Path, bob_proxy: Path, bob: Identity,
    pilot: Client,
) -> None:  # fmt: skip
    job_id = submit(owner, theirs)
    other.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=theirs.credential_id))

    def rebind(client: Client, new: Delegated) -> tuple[int, int]:
        request = job_pb2.RebindCredentialRequest(credential_id=new.credential_id, retrieval_key=new.retrieval_key)
        answer = client.jobs.RebindCredential(request)
        return answer.released, answer.still_held

    assert rebind(owner, delegate(owner, load_identity(alice_proxy), kind=EC)) == (0, 0)
    assert rebind(owner, delegate(other, load_identity(bob_proxy), kind=EC)) == (1, 0)
    lease = acquire(pilot, register(pilot))
    assert (lease.job_id, lease.owner_dn) == (job_id, bob.dn)
    pilot.credentials.RetrieveCredential(retrieve_request(lease))


def test_outputs_and_logs_of_a_linked_name_are_read(
    owner: Client, other: Client, linked: None, theirs: Delegated, pilot: Client
) -> None:
    submit(other, theirs)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    pilot.pilots.AppendLog(
        pilot_pb2.AppendLogRequest(
            pilot_id=pilot_id, lease_id=lease.lease_id, stream=job_pb2.LOG_STREAM_STDOUT, data=b"hello\n"
        )
    )
    request = job_pb2.GetLogRequest(job_id=lease.job_id, stream=job_pb2.LOG_STREAM_STDOUT)
    assert b"".join(chunk.data for chunk in owner.jobs.GetLog(request)) == b"hello\n"


# by the command line


def test_two_names_are_linked_and_used_by_the_commands(
    rig: Rig, alice: Identity, bob: Identity, alice_proxy: Path, bob_proxy: Path, tmp_path: Path, pilot: Client
) -> None:
    old = Shell(rig, alice_proxy, tmp_path / "home")
    as_bob = {"X509_USER_PROXY": str(bob_proxy)}
    assert f'pilotage link add "{alice.dn}"' in old.run("link", "add", bob.dn).err
    assert "not yet" in old.ok("link", "list")
    assert "are linked" in old.run("link", "add", alice.dn, environ=as_bob).err
    assert "not yet" not in old.ok("link", "list")
    done = old.run("submit", "--as", bob.dn, "--", "/bin/true")
    assert (done.code, "CREDENTIAL_NOT_FOUND" in done.err) == (3, True)
    assert old.run("credential", "delegate", "--key", "ec", environ=as_bob).code == 0
    job_id = old.ok("submit", "--as", bob.dn, "--", "/bin/true").strip()
    found = msgspec.json.decode(old.ok("show", job_id, "--json"), type=dict[str, object])
    assert found["owner_dn"] == bob.dn
    assert acquire(pilot, register(pilot)).owner_dn == bob.dn
    old.ok("link", "remove", bob.dn)
    assert old.ok("link", "list") == ""
    assert old.run("show", job_id).code == 3


def test_a_dn_that_is_not_linked_is_no_choice(
    make_rig: Callable[..., Rig], alice_proxy: Path, bob: Identity, tmp_path: Path
) -> None:
    shell = Shell(make_rig(), alice_proxy, tmp_path / "home")
    done = shell.run("submit", "--as", bob.dn, "--", "/bin/true")
    assert "is that DN linked" in done.err
