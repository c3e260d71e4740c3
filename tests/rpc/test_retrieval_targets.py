"""The policy of retrievals through the whole service: which pilots get and are offered what, and what is renewed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage.v1 import admin_pb2, job_pb2, pilot_pb2
from pilotage.v1 import credential_pb2 as pb
from pilotage.x509.files import LocalIdentity
from pilotage_server.clock import utc_now
from pilotage_server.jobs import Askers
from pilotage_server.retrieval import RetrievalPolicy
from support.journey import retrieve_request, submit
from support.refusals import reason, refused
from support.retrieval import BY_VO, HOUR, OTHER_PILOT_DN, PILOT_DN, Member, Node, facts, proxy_with
from support.server_rig import PILOT_ROLE, Rig


def audited(rig: Rig, admin: LocalIdentity, act: str) -> list[admin_pb2.AuditEntry]:
    return list(rig.mutual_client(admin).admin.QueryAudit(admin_pb2.QueryAuditRequest(act=act)).entries)


def test_a_pilot_outside_the_targets_is_refused_audited_not_punished_and_nothing_is_spent(
    ruled: Callable[..., Rig], alice_proxy: Path, others_proxy: Path, pilot_proxy: Path, admin: LocalIdentity
) -> None:
    """JobService believes in another policy than CredentialService: two hosts, two files, one forgotten."""
    closed = {"retrieval.vo.demo": {"targets": [OTHER_PILOT_DN]}, "abuse": {"pilot_strikes": 1}}
    rig = ruled(**closed)
    assert rig.app is not None
    rig.app._pilot_desk._askers = Askers(RetrievalPolicy(), utc_now)
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
    rig = ruled(**{"retrieval.vo.demo": {"targets": [PILOT_DN]}})
    rig.client(pilot_proxy).credentials.RetrieveCredential(request)


def test_the_audit_says_under_which_policy_a_proxy_was_made(
    ruled: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, admin: LocalIdentity
) -> None:
    rig = ruled(**BY_VO)
    Member(rig, alice_proxy).submit()
    pilot = Node(rig, pilot_proxy)
    pilot.retrieve(pilot.take())
    (row,) = audited(rig, admin, "proxy issued")
    assert (row.facts["policy"], row.facts["path_length"]) == ("limited", "1")
    (policy,) = audited(rig, admin, "policy set")
    assert '"vo":{"demo":{"max_lifetime_seconds":3600,"path_length":1,"proxy":"limited"}}' in policy.facts["policy"]


def test_a_credential_of_two_vos_is_under_the_stricter_policy_whichever_comes_first(
    ruled: Callable[..., Rig],
    grid: ToyGrid,
    alice: Identity,
    pilot_proxy: Path,
    other_pilot_proxy: Path,
    tmp_path: Path,
) -> None:
    rig = ruled(
        **{
            "retrieval.vo.other": {"targets": [OTHER_PILOT_DN], "proxy": "limited"},
            "retrieval.vo.demo": {"max_lifetime_seconds": HOUR},
        }
    )
    pilot, other = Node(rig, pilot_proxy), Node(rig, other_pilot_proxy)
    for vos in (("demo", "other"), ("other", "demo")):
        Member(rig, proxy_with(grid, alice, tmp_path / "both", *vos)).submit()
        assert pilot.offers() == []
        assert facts(other.retrieve(other.take()), rig) == (True, None, 1)


def test_a_job_that_is_given_a_credential_of_more_vos_goes_to_other_pilots(
    ruled: Callable[..., Rig],
    grid: ToyGrid,
    alice: Identity,
    pilot_proxy: Path,
    other_pilot_proxy: Path,
    tmp_path: Path,
) -> None:
    rig = ruled(**{"retrieval.vo.other": {"targets": [OTHER_PILOT_DN]}})
    first = Member(rig, proxy_with(grid, alice, tmp_path / "one", "demo"))
    second = Member(rig, proxy_with(grid, alice, tmp_path / "two", "demo", "other"))
    job_id = first.submit()
    destroy = pb.DestroyCredentialRequest(credential_id=first.delegated.credential_id)
    first.client.credentials.DestroyCredential(destroy)
    rebind = job_pb2.RebindCredentialRequest(
        credential_id=second.delegated.credential_id, retrieval_key=second.delegated.retrieval_key
    )
    assert second.client.jobs.RebindCredential(rebind).released == 1
    assert Node(rig, pilot_proxy).offers() == []
    other = Node(rig, other_pilot_proxy)
    lease = other.take()
    assert lease.job_id == job_id
    other.retrieve(lease)


# who is offered what


def test_the_broker_passes_over_jobs_that_the_pilot_could_not_serve(
    ruled: Callable[..., Rig],
    alice_proxy: Path,
    others_proxy: Path,
    plain_proxy: Path,
    pilot_proxy: Path,
    other_pilot_proxy: Path,
) -> None:
    rig = ruled(
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
    ruled: Callable[..., Rig], alice_proxy: Path, others_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path
) -> None:
    rig = ruled(**{"retrieval.vo.demo": {"targets": [OTHER_PILOT_DN]}})
    alice, bob = Member(rig, alice_proxy), Member(rig, others_proxy)
    first, second = Node(rig, pilot_proxy), Node(rig, other_pilot_proxy)

    def wait(node: Node) -> list[str]:
        request = pilot_pb2.AcquireJobsRequest(pilot_id=node.pilot_id, slots=1)
        request.wait.FromSeconds(60)
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
        assert calls[1].result(timeout=50) == [hers]
        assert not calls[0].done()
        his = bob.submit()
        assert calls[0].result(timeout=50) == [his]


def test_a_job_that_was_offered_before_the_policy_changed_goes_to_another_pilot(
    ruled: Callable[..., Rig], others_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path
) -> None:
    rig = ruled()
    member = Member(rig, others_proxy)
    job_id = member.submit()
    pilot = Node(rig, pilot_proxy)
    lease = pilot.take()
    rig.stop()
    rig = ruled(**{"retrieval.vo.other": {"targets": [OTHER_PILOT_DN]}})
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


# renewal


def test_a_renewal_follows_a_policy_that_became_narrower(
    ruled: Callable[..., Rig], others_proxy: Path, pilot_proxy: Path
) -> None:
    rig = ruled(**{"retrieval.vo.other": {"max_lifetime_seconds": 4 * HOUR}})
    Member(rig, others_proxy).submit()
    pilot = Node(rig, pilot_proxy)
    lease = pilot.take()
    assert facts(pilot.retrieve(lease), rig) == (False, None, 4)
    rig.stop()
    rig = ruled(**{"retrieval.vo.other": {"max_lifetime_seconds": 3 * HOUR, "proxy": "limited", "path_length": 2}})
    pilot = Node(rig, pilot_proxy, pilot.pilot_id)
    assert facts(pilot.renew(lease), rig) == (True, 2, 3)


def test_a_renewal_never_goes_beyond_what_its_lease_had_under_a_narrower_policy(
    ruled: Callable[..., Rig], others_proxy: Path, pilot_proxy: Path
) -> None:
    rig = ruled(**{"retrieval.vo.other": {"max_lifetime_seconds": 2 * HOUR, "proxy": "limited", "path_length": 1}})
    member = Member(rig, others_proxy)
    member.submit()
    pilot = Node(rig, pilot_proxy)
    lease = pilot.take()
    assert facts(pilot.retrieve(lease), rig) == (True, 1, 2)
    rig.stop()
    rig = ruled()
    pilot = Node(rig, pilot_proxy, pilot.pilot_id)
    for _ in range(2):
        assert facts(pilot.renew(lease), rig) == (True, 1, 2)
    # A new lease begins under the new policy.
    submit(rig.client(member.identity), member.delegated)
    assert facts(pilot.retrieve(pilot.take()), rig)[:2] == (False, None)


def test_a_second_retrieval_goes_beyond_what_its_lease_had_no_more_than_a_renewal(
    ruled: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig = ruled(**BY_VO)
    owner, pilot = Member(rig, alice_proxy), Node(rig, pilot_proxy)
    owner.submit()
    lease = pilot.take()
    assert facts(pilot.retrieve(lease), rig) == (True, 1, 1)
    rig.stop()
    rig = ruled()
    pilot = Node(rig, pilot_proxy, pilot.pilot_id)
    lease.credential_token = pilot.token(lease)
    assert facts(pilot.retrieve(lease), rig) == (True, 1, 1)


def test_a_lease_goes_on_when_its_pilot_is_a_target_no_more_and_its_owner_hears_why_it_is_not_renewed(
    ruled: Callable[..., Rig], others_proxy: Path, pilot_proxy: Path, other_pilot_proxy: Path, admin: LocalIdentity
) -> None:
    rig = ruled(**{"retrieval.vo.other": {"max_lifetime_seconds": 2 * HOUR}})
    member = Member(rig, others_proxy)
    job_id, later = member.submit(), member.submit()
    pilot = Node(rig, pilot_proxy)
    lease = pilot.take()
    pilot.retrieve(lease)
    pilot.order(lease)
    rig.stop()
    rig = ruled(**{"retrieval.vo.other": {"max_lifetime_seconds": 2 * HOUR, "targets": [OTHER_PILOT_DN]}})
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
