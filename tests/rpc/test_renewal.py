"""Renewal: when a pilot is told to, what it gets, and who hears of it when it gets nothing."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from google.protobuf.timestamp_pb2 import Timestamp

from pilotage.reasons import Reason
from pilotage.v1 import credential_pb2 as pb
from pilotage.v1 import job_pb2, pilot_pb2
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, make_key
from pilotage.x509.requests import make_request
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_rig import Client, Rig

LIFE = 7200
LONG = {"sent_seconds": 86400, "lease_seconds": 86400}


class Running:
    """A job leased by a pilot, and its credential."""

    def __init__(
        self, rig: Rig, owner: Client, pilot: Client, identity: LocalIdentity, *, renews: bool = True, hours: int = 10
    ) -> None:
        self.rig, self.owner, self.pilot = rig, owner, pilot
        self.delegated: Delegated = delegate(owner, identity, lifetime_seconds=hours * 3600, kind=KeyKind.EC_P256)
        self.job_id = submit(owner, self.delegated)
        self.pilot_id = register(pilot, renews=renews)
        self.lease = acquire(pilot, self.pilot_id)

    def retrieve(self) -> pb.RetrieveCredentialResponse:
        """Take the first proxy and begin to run."""
        answer = self.pilot.credentials.RetrieveCredential(retrieve_request(self.lease))
        self.order()
        return answer

    def order(self, failure: pilot_pb2.RenewalFailure | None = None) -> str:
        """Report and return the order with its reason."""
        report = pilot_pb2.LeaseReport(
            lease_id=self.lease.lease_id,
            phase=pilot_pb2.ATTEMPT_PHASE_RUNNING,
            account="demo01",
            uid=20001,
            renewal_failure=failure,
        )
        request = pilot_pb2.HeartbeatRequest(pilot_id=self.pilot_id, reports=[report])
        (answer,) = self.pilot.pilots.Heartbeat(request).answers
        name = pilot_pb2.LeaseOrder.Name(answer.order).removeprefix("LEASE_ORDER_")
        return " ".join(filter(None, (name, answer.reason)))

    def renewal(self) -> pb.RenewCredentialRequest:
        """Return the request of a renewal, with a fresh token."""
        fresh = self.pilot.pilots.RefreshCredentialToken(
            pilot_pb2.RefreshCredentialTokenRequest(pilot_id=self.pilot_id, lease_id=self.lease.lease_id)
        )
        return pb.RenewCredentialRequest(
            credential_token=fresh.credential_token,
            retrieval_key=fresh.retrieval_key,
            certificate_request=make_request(make_key(KeyKind.EC_P256)),
        )

    def job(self) -> job_pb2.Job:
        """Return the job as its owner sees it."""
        return self.owner.jobs.GetJob(job_pb2.GetJobRequest(job_id=self.job_id)).job

    def events(self) -> list[job_pb2.JobEvent]:
        """Return the job's events that moved nothing."""
        events = self.owner.jobs.ListJobEvents(job_pb2.ListJobEventsRequest(job_id=self.job_id)).events
        return [event for event in events if event.from_state == event.to_state]

    def notes(self) -> list[str]:
        """Return the reasons of those."""
        return [event.reason for event in self.events()]


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(**{"retrieval.default": {"max_lifetime_seconds": LIFE}}, leases=LONG)


@pytest.fixture
def identity(alice_proxy: Path) -> LocalIdentity:
    return load_identity(alice_proxy)


@pytest.fixture
def running(rig: Rig, owner: Client, pilot: Client, identity: LocalIdentity) -> Running:
    return Running(rig, owner, pilot, identity)


def test_a_pilot_is_told_to_renew_two_thirds_into_a_proxys_life(running: Running) -> None:
    first = running.retrieve()
    proxy = running.job().proxy
    assert proxy.expire_time.seconds == first.expire_time.seconds
    assert proxy.issued == 1
    issued = first.expire_time.seconds - LIFE
    assert 0.6 * LIFE - 2 <= proxy.next_renewal_time.seconds - issued <= 0.734 * LIFE
    running.rig.clock.turn(0.59 * LIFE)
    assert running.order() == "CONTINUE"
    running.rig.clock.turn(0.15 * LIFE)
    assert [running.order(), running.order()] == ["RENEW", "RENEW"]
    second = running.pilot.credentials.RenewCredential(running.renewal())
    assert second.expire_time.seconds - first.expire_time.seconds > 0.7 * LIFE
    old, new = (x509.load_der_x509_certificate(answer.chain[0]) for answer in (first, second))
    assert old.subject != new.subject
    assert second.chain[1:] == first.chain[1:]
    assert running.order() == "CONTINUE"
    renewed = running.job().proxy
    assert (renewed.issued, renewed.expire_time.seconds, renewed.reason) == (2, second.expire_time.seconds, "")
    found = running.owner.credentials.ListIssuances(
        pb.ListIssuancesRequest(credential_id=running.delegated.credential_id)
    ).issuances
    assert [one.lease_id for one in found] == [running.lease.lease_id] * 2
    assert {one.serial for one in found} == {str(old.serial_number), str(new.serial_number)}
    assert "proxy renewed" in (running.rig.state / "audit.jsonl").read_text()


def test_a_pilot_that_cannot_renew_is_never_told_to(
    rig: Rig, owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    running = Running(rig, owner, pilot, identity, renews=False)
    running.retrieve()
    assert not running.job().proxy.HasField("next_renewal_time")
    rig.clock.turn(0.9 * LIFE)
    assert running.order() == "CONTINUE"


def test_a_proxy_that_ends_with_its_credential_is_not_renewed_in_vain(
    rig: Rig, owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    running = Running(rig, owner, pilot, identity, hours=2)
    running.retrieve()
    assert not running.job().proxy.HasField("next_renewal_time")


@pytest.mark.parametrize(("wanted", "planned"), [(LIFE // 2, False), (LIFE, False), (LIFE + 600, True), (0, True)])
def test_a_proxy_that_lasts_as_long_as_its_pilot_wanted_is_not_renewed(
    running: Running, wanted: int, planned: bool
) -> None:
    request = retrieve_request(running.lease)
    request.lifetime.FromSeconds(wanted)
    running.pilot.credentials.RetrieveCredential(request)
    assert running.job().proxy.HasField("next_renewal_time") is planned


def test_a_token_renews_once_and_neither_method_takes_it_again(running: Running) -> None:
    running.retrieve()
    request = running.renewal()
    running.pilot.credentials.RenewCredential(request)
    assert reason(running.pilot.credentials.RenewCredential, request) is Reason.TOKEN_USED
    again = pb.RetrieveCredentialRequest.FromString(request.SerializeToString())
    assert reason(running.pilot.credentials.RetrieveCredential, again) is Reason.TOKEN_USED
    assert running.notes() == []


def test_a_lease_without_a_proxy_has_nothing_to_renew(running: Running) -> None:
    assert reason(running.pilot.credentials.RenewCredential, running.renewal()) is Reason.NOTHING_TO_RENEW


def test_a_renewal_is_for_the_pilot_that_holds_the_lease(
    running: Running, rig: Rig, other_pilot_proxy: Path, owner: Client
) -> None:
    running.retrieve()
    request = running.renewal()
    thief = rig.client(other_pilot_proxy)
    assert reason(thief.credentials.RenewCredential, request) is Reason.TOKEN_FOREIGN
    assert reason(owner.credentials.RenewCredential, request) is Reason.ROLE_REQUIRED
    assert running.notes() == []


def test_a_payload_that_is_over_renews_nothing(running: Running) -> None:
    running.retrieve()
    request = running.renewal()
    running.pilot.pilots.FinishJob(
        pilot_pb2.FinishJobRequest(
            pilot_id=running.pilot_id,
            lease_id=running.lease.lease_id,
            result=job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_OK),
        )
    )
    assert reason(running.pilot.credentials.RenewCredential, request) is Reason.LEASE_ENDED
    assert not running.job().HasField("proxy")


def test_a_refused_renewal_is_loud(running: Running) -> None:
    running.retrieve()
    running.rig.clock.turn(0.74 * LIFE)
    assert running.order() == "RENEW"
    request = running.renewal()
    request.retrieval_key = b"w" * 32
    assert reason(running.pilot.credentials.RenewCredential, request) is Reason.RETRIEVAL_KEY_WRONG
    job = running.job()
    assert job.state == job_pb2.JOB_STATE_RUNNING
    assert job.proxy.reason == "RETRIEVAL_KEY_WRONG"
    assert job.proxy.HasField("error_time")
    assert running.notes() == ["RETRIEVAL_KEY_WRONG"]
    assert "proxy renewal failed" in running.rig.log_text
    # It is tried again after a while, and events are not made by the dozen.
    assert running.order() == "CONTINUE"
    assert reason(running.pilot.credentials.RenewCredential, request) is Reason.RETRIEVAL_KEY_WRONG
    assert running.notes() == ["RETRIEVAL_KEY_WRONG"]
    running.rig.clock.turn(600)
    assert running.order() == "RENEW"
    running.pilot.credentials.RenewCredential(running.renewal())
    assert running.job().proxy.reason == ""


def test_renewals_are_planned_beyond_a_restart(running: Running, pilot_proxy: Path) -> None:
    running.retrieve()
    running.rig.restart()
    running.pilot = running.rig.client(pilot_proxy)
    assert running.order() == "CONTINUE"
    running.rig.clock.turn(0.74 * LIFE)
    assert running.order() == "RENEW"


def test_an_owner_who_watches_sees_the_proxy(running: Running) -> None:
    watch = running.owner.jobs.WatchJobs(job_pb2.WatchJobsRequest(job_ids=[running.job_id]), timeout=120)
    assert not next(watch).job.HasField("proxy")
    running.pilot.credentials.RetrieveCredential(retrieve_request(running.lease))
    assert next(watch).job.proxy.issued == 1
    watch.cancel()


def test_a_new_proxy_that_its_pilot_could_not_use_is_loud_and_asked_for_again(running: Running) -> None:
    running.retrieve()
    running.rig.clock.turn(0.74 * LIFE)
    running.pilot.credentials.RenewCredential(running.renewal())
    failure = pilot_pb2.RenewalFailure(reason="RENEWAL_REFUSED", message="not\x1blimited")
    assert running.order(failure) == "CONTINUE"
    job = running.job()
    assert (job.state, job.proxy.reason, job.proxy.message) == (
        job_pb2.JOB_STATE_RUNNING,
        "RENEWAL_REFUSED",
        "not limited",
    )
    assert running.notes() == ["RENEWAL_REFUSED"]
    assert "proxy renewal failed" in running.rig.log_text
    # Said a second time, because the first answer was lost, it makes no second event.
    assert running.order(failure) == "CONTINUE"
    assert running.notes() == ["RENEWAL_REFUSED"]
    running.rig.clock.turn(600)
    assert running.order() == "RENEW"
    running.pilot.credentials.RenewCredential(running.renewal())
    assert running.job().proxy.reason == ""


def test_a_pilot_that_tells_of_two_faults_by_turns_makes_no_event_of_each(running: Running) -> None:
    running.retrieve()
    for number in range(20):
        reason_told = ("RENEWAL_REFUSED", "PROXY_MALFORMED")[number % 2]
        running.order(pilot_pb2.RenewalFailure(reason=reason_told, message="no"))
    assert len(running.notes()) <= 3


# A credential of three hours: the second proxy lives as long as it, so that no third one is planned.


@pytest.fixture
def last_renewal(rig: Rig, owner: Client, pilot: Client, identity: LocalIdentity) -> Running:
    return Running(rig, owner, pilot, identity, hours=3)


def unused(running: Running, end: Timestamp) -> pilot_pb2.RenewalFailure:
    """Return what a pilot says whose helper refused the new proxy, while the payload's own lives until `end`."""
    return pilot_pb2.RenewalFailure(reason="RENEWAL_REFUSED", message="no", proxy_expire_time=end)


def test_the_last_proxy_that_its_pilot_could_not_use_is_asked_for_again(last_renewal: Running) -> None:
    running = last_renewal
    first = running.retrieve()
    running.rig.clock.turn(0.74 * LIFE)
    second = running.pilot.credentials.RenewCredential(running.renewal())
    assert not running.job().proxy.HasField("next_renewal_time")
    assert running.order(unused(running, first.expire_time)) == "CONTINUE"
    # The owner sees the proxy that the payload has, not the one that nobody uses.
    proxy = running.job().proxy
    assert (proxy.expire_time, proxy.reason) == (first.expire_time, "RENEWAL_REFUSED")
    assert proxy.HasField("next_renewal_time")
    (event,) = running.events()
    assert first.expire_time.ToDatetime().strftime("ends at %Y-%m-%d %H:%M UTC") in event.message
    running.rig.clock.turn(600)
    assert running.order() == "RENEW"
    third = running.pilot.credentials.RenewCredential(running.renewal())
    assert third.expire_time == second.expire_time
    proxy = running.job().proxy
    assert (proxy.expire_time, proxy.reason) == (third.expire_time, "")
    assert not proxy.HasField("next_renewal_time")


def test_a_proxy_that_its_pilot_never_can_use_is_asked_for_until_the_payloads_own_ends(last_renewal: Running) -> None:
    running = last_renewal
    first = running.retrieve()
    running.rig.clock.turn(0.74 * LIFE)
    running.pilot.credentials.RenewCredential(running.renewal())
    left, asked = 0.26 * LIFE, [0.0]
    running.order(unused(running, first.expire_time))
    gone = 0.0
    while gone < left + 1800:
        running.rig.clock.turn(30)
        gone += 30
        if running.order() == "RENEW":
            asked.append(gone)
            running.pilot.credentials.RenewCredential(running.renewal())
            running.order(unused(running, first.expire_time))
    pauses = [later - before for before, later in itertools.pairwise(asked)]
    assert 3 <= len(pauses) < 30
    assert all(60 <= pause <= 660 for pause in pauses)
    assert pauses == sorted(pauses, reverse=True)
    assert left - 200 < asked[-1] < left
    proxy = running.job().proxy
    assert (proxy.expire_time, proxy.reason) == (first.expire_time, "RENEWAL_REFUSED")
    assert not proxy.HasField("next_renewal_time")


def test_a_pilot_cannot_make_a_proxy_live_longer_by_its_word(last_renewal: Running) -> None:
    running = last_renewal
    first = running.retrieve()
    late = Timestamp(seconds=first.expire_time.seconds + 86400)
    running.order(unused(running, late))
    assert running.job().proxy.expire_time == first.expire_time
    assert reason(running.order, unused(running, Timestamp(seconds=2**60))) is Reason.INVALID_ARGUMENT


def test_a_payload_that_must_end_is_not_renewed_whatever_its_pilot_says(last_renewal: Running) -> None:
    running = last_renewal
    first = running.retrieve()
    running.rig.clock.turn(0.74 * LIFE)
    running.pilot.credentials.RenewCredential(running.renewal())
    running.owner.credentials.DestroyCredential(
        pb.DestroyCredentialRequest(credential_id=running.delegated.credential_id)
    )
    assert running.order(unused(running, first.expire_time)) == "KILL CREDENTIAL_DESTROYED"
    assert not running.job().proxy.HasField("next_renewal_time")


def test_a_failure_of_no_known_reason_is_refused_whole(running: Running) -> None:
    running.retrieve()
    invented = pilot_pb2.RenewalFailure(reason="I made this up")
    assert reason(running.order, invented) is Reason.INVALID_ARGUMENT
    assert running.notes() == []
    assert running.job().proxy.reason == ""
