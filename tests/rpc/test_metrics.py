"""What Prometheus scrapes from a server that runs: every refusal with its code, and nothing about anybody."""

import contextlib
import datetime
import http.client
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.v1 import auth_pb2, credential_pb2, job_pb2, pilot_pb2
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server import exposition
from pilotage_server.auth.challenge import SIZE
from pilotage_server.exposition import MOST_CONNECTIONS
from support.journey import acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_process import ServerProcess
from support.server_rig import Client, Rig

EC = KeyKind.EC_P256
PORT = {"metrics": {"port": 0}}


def scrape_text(port: int) -> str:
    """Read the page as Prometheus does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        return answer.read().decode()
    finally:
        connection.close()


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.samples: list[Sample] = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with this name and these labels; 0 when there are none."""
        return sum(one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items())


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(**PORT, leases={"sent_seconds": 86400, "lease_seconds": 86400})


@pytest.fixture
def scrape(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Scrape]:
    """Return what scrapes the rig, each time with a new census."""
    monkeypatch.setattr("pilotage_server.exposition.CENSUS_SECONDS", 0.0)

    def take() -> Scrape:
        assert rig.app is not None
        return Scrape(scrape_text(rig.app.metrics_port))

    return take


def renewal(pilot: Client, pilot_id: str, lease: pilot_pb2.Lease) -> credential_pb2.RenewCredentialRequest:
    fresh = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    )
    asked = retrieve_request(lease)
    return credential_pb2.RenewCredentialRequest(
        credential_token=fresh.credential_token,
        retrieval_key=fresh.retrieval_key,
        certificate_request=asked.certificate_request,
    )


@pytest.fixture
def lease(rig: Rig, owner: Client, pilot: Client, alice_proxy: Path) -> tuple[str, pilot_pb2.Lease]:
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    pilot_id = register(pilot, renews=True)
    return pilot_id, acquire(pilot, pilot_id)


def test_a_renewal_that_fails_is_counted_by_its_reason_whoever_tells_of_it(
    scrape: Callable[[], Scrape], pilot: Client, lease: tuple[str, pilot_pb2.Lease]
) -> None:
    pilot_id, held = lease
    pilot.credentials.RetrieveCredential(retrieve_request(held))
    before = scrape()
    request = renewal(pilot, pilot_id, held)
    request.retrieval_key = b"w" * 32
    assert reason(pilot.credentials.RenewCredential, request) is Reason.RETRIEVAL_KEY_WRONG
    failure = pilot_pb2.RenewalFailure(reason="RENEWAL_REFUSED", message="no")
    report = pilot_pb2.LeaseReport(lease_id=held.lease_id, renewal_failure=failure)
    pilot.pilots.Heartbeat(pilot_pb2.HeartbeatRequest(pilot_id=pilot_id, reports=[report]))
    after = scrape()

    def more(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    wrong = "RETRIEVAL_KEY_WRONG"
    assert more("pilotage_renewals_failed_total") == 2
    assert more("pilotage_renewals_failed_total", told_by="server", reason=wrong) == 1
    assert more("pilotage_renewals_failed_total", told_by="pilot", reason="RENEWAL_REFUSED") == 1
    assert more("pilotage_acts_total", act="renewal refused", reason=wrong) == 1
    assert more("pilotage_rpc_calls_total", method="RenewCredential", outcome="refused", reason=wrong) == 1
    assert more("pilotage_rpc_calls_total", method="Heartbeat", outcome="ok") == 1
    assert more("pilotage_rpc_seconds_count", method="RenewCredential") == 1


def test_what_is_done_and_what_is_there_is_counted(
    rig: Rig, scrape: Callable[[], Scrape], owner: Client, pilot: Client, alice_proxy: Path
) -> None:
    before = scrape()
    delegated = delegate(owner, load_identity(alice_proxy), kind=EC)
    job_ids = [submit(owner, delegated) for _ in range(3)]
    pilot_id = register(pilot)
    held = acquire(pilot, pilot_id)
    pilot.credentials.RetrieveCredential(retrieve_request(held))
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(held)) is Reason.TOKEN_USED
    owner.jobs.CancelJobs(job_pb2.CancelJobsRequest(job_ids=[set_aside(job_ids, held)]))
    middle = scrape()
    for name, labels, more in (
        ("pilotage_logins_total", {"outcome": "ok"}, 2),
        ("pilotage_acts_total", {"act": "credential stored"}, 1),
        ("pilotage_acts_total", {"act": "proxy issued"}, 1),
        ("pilotage_acts_total", {"act": "retrieval refused", "reason": "TOKEN_USED"}, 1),
        ("pilotage_strikes_total", {"reason": "TOKEN_USED"}, 1),
        ("pilotage_job_moves_total", {"to": "activated"}, 3),
        ("pilotage_job_moves_total", {"to": "sent"}, 1),
        ("pilotage_job_moves_total", {"to": "cancelled", "reason": "CANCELLED_BY_OWNER"}, 1),
    ):
        assert middle.value(name, **labels) - before.value(name, **labels) == more, (name, labels)
    assert middle.value("pilotage_jobs", state="activated") == 1
    assert middle.value("pilotage_jobs", state="sent") == 1
    assert middle.value("pilotage_leases", state="live") == 1
    assert middle.value("pilotage_pilots") == 1
    assert middle.value("pilotage_credentials") == 1
    assert middle.value("pilotage_audit_rows") == rig_rows(rig)
    assert middle.value("pilotage_store_up") == 1
    result = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_PAYLOAD, exit_code=3, reason="PAYLOAD_FAILED")
    pilot.pilots.FinishJob(pilot_pb2.FinishJobRequest(pilot_id=pilot_id, lease_id=held.lease_id, result=result))
    acquire(pilot, pilot_id)
    rig.clock.turn(2 * 86400)
    after = scrape()
    ended = {"outcome": "payload", "reason": "PAYLOAD_FAILED"}
    assert (
        after.value("pilotage_attempts_ended_total", **ended) - middle.value("pilotage_attempts_ended_total", **ended)
        == 1
    )
    assert after.value("pilotage_leases", state="live") == 0
    assert after.value("pilotage_leases", state="expired") == 1
    assert after.value("pilotage_credentials") == 0


def set_aside(job_ids: list[str], held: pilot_pb2.Lease) -> str:
    """Return a job that was not leased."""
    return next(job_id for job_id in job_ids if job_id != held.job_id)


def rig_rows(rig: Rig) -> int:
    return (rig.state / "audit.jsonl").read_text().count('"seq":') - (rig.state / "audit.jsonl").read_text().count(
        '"audit anchored"'
    )


@pytest.mark.parametrize(
    "expected", [Reason.TOKEN_USED, Reason.TOKEN_FOREIGN, Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID]
)
def test_a_bad_token_is_counted_by_what_is_wrong_with_it(
    scrape: Callable[[], Scrape],
    rig: Rig,
    pilot: Client,
    lease: tuple[str, pilot_pb2.Lease],
    other_pilot_proxy: Path,
    expected: Reason,
) -> None:
    request, caller = retrieve_request(lease[1]), pilot
    if expected is Reason.TOKEN_USED:
        pilot.credentials.RetrieveCredential(request)
    elif expected is Reason.TOKEN_FOREIGN:
        caller = rig.client(other_pilot_proxy)
    elif expected is Reason.TOKEN_EXPIRED:
        rig.clock.turn(301)
    else:
        request.credential_token = request.credential_token[:-8] + "AAAAAAAA"
    before = scrape()
    assert reason(caller.credentials.RetrieveCredential, request) is expected
    after = scrape()
    for name, labels in (
        ("pilotage_strikes_total", {}),
        ("pilotage_acts_total", {"act": "retrieval refused"}),
        ("pilotage_rpc_calls_total", {"method": "RetrieveCredential", "outcome": "refused"}),
    ):
        wanted = labels | {"reason": expected.name}
        assert after.value(name, **wanted) - before.value(name, **wanted) == 1, name
    # The same code in reply, log and audit.
    assert f'"reason":"{expected.name}"' in rig.log_text
    assert f'"reason":"{expected.name}"' in (rig.state / "audit.jsonl").read_text()


def test_logins_that_are_refused_are_counted_by_reason(scrape: Callable[[], Scrape], rig: Rig) -> None:
    before = scrape()
    stranger, algorithm = rig.client(None), auth_pb2.SIGNATURE_ALGORITHM_ECDSA_SHA256
    assert (
        reason(stranger.auth.Login, auth_pb2.LoginRequest(challenge=os.urandom(SIZE), algorithm=algorithm))
        is Reason.CHALLENGE_INVALID
    )
    labels = {"outcome": "refused", "reason": "CHALLENGE_INVALID"}
    assert scrape().value("pilotage_logins_total", **labels) - before.value("pilotage_logins_total", **labels) == 1


def test_every_reason_shown_is_a_code_and_no_value_of_a_label_is_a_callers_own(
    scrape: Callable[[], Scrape],
    rig: Rig,
    owner: Client,
    pilot: Client,
    lease: tuple[str, pilot_pb2.Lease],
    other_pilot_proxy: Path,
    admin: LocalIdentity,
) -> None:
    pilot_id, held = lease
    thief = rig.client(other_pilot_proxy)
    assert reason(thief.credentials.RetrieveCredential, retrieve_request(held)) is Reason.TOKEN_FOREIGN
    answer = pilot.credentials.RetrieveCredential(retrieve_request(held))
    assert reason(owner.jobs.GetJob, job_pb2.GetJobRequest(job_id="no such job")) is Reason.JOB_NOT_FOUND
    result = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_PAYLOAD, exit_code=1, message="I made this up")
    pilot.pilots.FinishJob(pilot_pb2.FinishJobRequest(pilot_id=pilot_id, lease_id=held.lease_id, result=result))
    seen = scrape()
    reasons = {sample.labels["reason"] for sample in seen.samples if sample.labels.get("reason")}
    assert {"TOKEN_FOREIGN", "JOB_NOT_FOUND"} <= reasons
    assert reasons <= set(Reason.__members__)
    refused = [one for one in seen.samples if one.labels.get("outcome") == "refused"]
    assert refused
    assert all(one.labels["reason"] for one in refused)
    secrets = [held.credential_token, held.retrieval_key.hex(), held.lease_id, held.job_id, pilot_id, "I made this up"]
    secrets += [
        held.owner_dn,
        "/O=",
        "/CN=",
        "/demo",
        "Alice",
        "Robot",
        "no such job",
        str(rig.state),
        answer.chain[0].hex(),
    ]
    secrets += [(rig.state / "keys" / name).read_bytes().hex() for name in ("service.key", "token.key")]
    assert [secret for secret in secrets if secret in seen.text] == []
    assert len(seen.samples) < 3000


def test_metrics_follow_the_naming_rules(scrape: Callable[[], Scrape], owner: Client) -> None:
    families = scrape().families
    assert {family.documentation for family in families} & {""} == set()
    for family in families:
        assert family.name.startswith(("pilotage_", "process_")), family.name
        assert not family.name.endswith(("_milliseconds", "_minutes", "_kilobytes"))
        kinds = {sample.name.removeprefix(family.name) for sample in family.samples}
        expected = {"counter": {"_total"}, "gauge": {""}, "histogram": {"_bucket", "_count", "_sum"}}[family.type]
        assert kinds <= expected, family.name


def test_the_manual_names_every_metric_and_no_other(scrape: Callable[[], Scrape], owner: Client) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    told = set(re.findall(r"^\| (`pilotage_.*?) \|", page, re.MULTILINE))
    names = {name for cell in told for name in re.findall(r"`(pilotage_\w+)`", cell)}
    shown = {
        family.name + "_total" * (family.type == "counter")
        for family in scrape().families
        if family.name.startswith("pilotage_")
    }
    assert names == shown


def test_a_scrape_tells_how_old_keys_and_revocation_lists_are(
    scrape: Callable[[], Scrape], rig: Rig, grid: ToyGrid
) -> None:
    seen = scrape()
    now = datetime.datetime.now(datetime.UTC).timestamp()
    for key in ("session", "token", "wrap", "service"):
        assert 0 <= now - seen.value("pilotage_key_created_timestamp_seconds", key=key) < 600
        assert seen.value("pilotage_retired_keys", key=key) == 0
    assert seen.value("pilotage_crls") > 0
    assert seen.value("pilotage_crls_unreadable") == 0
    ends = seen.value("pilotage_crl_next_update_timestamp_seconds")
    assert now < ends < now + 366 * 86400
    assert seen.value("pilotage_host_certificate_end_timestamp_seconds") > now
    broken = grid.ca_dir / "0badc0de.r0"
    broken.write_bytes(b"not a list")
    try:
        assert scrape().value("pilotage_crls_unreadable") == 1
        assert scrape().value("pilotage_crl_next_update_timestamp_seconds") == ends
    finally:
        broken.unlink()


def test_many_scrapes_ask_the_databases_once(
    make_rig: Callable[..., Rig], alice_proxy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilotage_server.exposition.CENSUS_SECONDS", 3600.0)
    rig = make_rig(**PORT)
    owner = rig.client(alice_proxy)
    assert rig.app is not None
    assert Scrape(scrape_text(rig.app.metrics_port)).value("pilotage_credentials") == 0
    delegate(owner, load_identity(alice_proxy), kind=EC)
    assert Scrape(scrape_text(rig.app.metrics_port)).value("pilotage_credentials") == 0


def test_a_scrape_tells_when_the_databases_do_not_answer(rig: Rig, scrape: Callable[[], Scrape]) -> None:
    assert scrape().value("pilotage_store_up") == 1
    rig.call(lambda app: app._databases["jobs"].close())
    seen = scrape()
    assert seen.value("pilotage_store_up") == 0
    assert not [one for one in seen.samples if one.name == "pilotage_jobs"]
    assert seen.value("pilotage_key_created_timestamp_seconds") > 0


def test_a_silent_connection_holds_up_neither_scrapes_nor_the_end(rig: Rig, scrape: Callable[[], Scrape]) -> None:
    assert rig.app is not None
    with socket.create_connection(("127.0.0.1", rig.app.metrics_port)):
        assert scrape().value("pilotage_store_up") == 1
        began = time.monotonic()
        rig.stop()
        assert time.monotonic() - began < 10


def test_connections_beyond_the_few_that_are_answered_are_closed(rig: Rig, scrape: Callable[[], Scrape]) -> None:
    assert rig.app is not None
    address = ("127.0.0.1", rig.app.metrics_port)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address, timeout=120)) for _ in range(MOST_CONNECTIONS)]
        for connection in silent:
            connection.sendall(b"GET /met")
        # One more is told to go at once: nothing waits for what never comes.
        deadline = time.monotonic() + 60
        refused = False
        while not refused and time.monotonic() < deadline:
            with socket.create_connection(address, timeout=120) as one_more:
                one_more.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                try:
                    refused = one_more.recv(1) == b""
                except ConnectionResetError:
                    refused = True
        assert refused
    until = time.monotonic() + 60
    while True:
        try:
            assert scrape().value("pilotage_store_up") == 1
            break
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < until


def test_a_port_that_is_taken_keeps_the_server_from_starting(make_rig: Callable[..., Rig]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(PilotageError, match=r"\[metrics\]") as refused:
            make_rig(metrics={"port": taken.getsockname()[1]})
        assert refused.value.reason is Reason.UNAVAILABLE


def test_work_of_the_servers_own_that_fails_is_counted(rig: Rig, scrape: Callable[[], Scrape]) -> None:
    labels = {"work": "taking up keys", "reason": "CONFIG_INVALID"}
    before = scrape().value("pilotage_background_failures_total", **labels)
    (rig.state / "keys" / "token.key").chmod(0o644)
    rig.call(lambda app: app.prune())
    assert scrape().value("pilotage_background_failures_total", **labels) == before + 1


def test_there_is_no_port_unless_one_is_configured(make_rig: Callable[..., Rig]) -> None:
    plain = make_rig()
    assert plain.app is not None
    assert plain.app.metrics_port == 0
    assert plain.app._exposition is None
    assert "metrics_port" not in plain.log_text


@pytest.fixture
def process(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(grid, tmp_path, host, PORT)
    yield made
    made.close()


def test_the_server_program_shows_its_metrics_on_loopback_and_its_own_memory(process: ServerProcess) -> None:
    process.start()
    line = next(one for one in process.log_path.read_text().splitlines() if '"serving"' in one)
    port = int(line.partition('"metrics_port":')[2].partition(",")[0].rstrip("}"))
    assert Scrape(scrape_text(port)).value("process_resident_memory_bytes") > 1e6
    listening = Path("/proc/net/tcp").read_text()
    assert f" 0100007F:{port:04X} 00000000:0000 0A " in listening
    assert f" 00000000:{port:04X} " not in listening
    assert process.stop() == 0


def test_a_connection_that_dribbles_keeps_no_place_for_long(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and the request never ends."""
    assert rig.app is not None
    monkeypatch.setattr(exposition, "CONNECTION_SECONDS", 1.0)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", rig.app.metrics_port), 10) as slow:
        slow.setblocking(False)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 10:
                slow.send(b"x")
                time.sleep(0.2)
                with contextlib.suppress(BlockingIOError):
                    if not slow.recv(1):
                        break
    assert time.monotonic() - began < 5
