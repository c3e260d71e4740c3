"""The audit of a real server: every act has its row, with who and from where, whatever happens in between."""

import contextlib
import re
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import msgspec
import pytest
from cryptography import x509
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.transport import open_channel
from pilotage.v1 import admin_pb2, pilot_pb2
from pilotage.v1 import credential_pb2 as pb
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server.commands import main
from pilotage_server.rpc.values import page_token
from pilotage_server.store import audit as store
from pilotage_server.store.credentials import Place
from support.journey import Delegated, acquire, complete_request, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_process import ServerProcess
from support.server_rig import OWNER_ROLE, Client, Rig
from support.shell import Shell

Rows = list[admin_pb2.AuditEntry]


@pytest.fixture
def alice_identity(alice_proxy: Path) -> LocalIdentity:
    return load_identity(alice_proxy)


@pytest.fixture
def delegated(owner: Client, alice_identity: LocalIdentity) -> Delegated:
    return delegate(owner, alice_identity, kind=KeyKind.EC_P256)


@pytest.fixture
def watcher(rig: Rig, admin: LocalIdentity) -> Client:
    return rig.mutual_client(admin)


def rows(watcher: Client, **wanted: str) -> Rows:
    """Return the audit, oldest first."""
    request = admin_pb2.QueryAuditRequest(page_size=1000)
    for name, value in wanted.items():
        setattr(request, name, value)
    return list(watcher.admin.QueryAudit(request).entries)[::-1]


def acts(found: Rows) -> list[str]:
    return [f"{row.act} {row.reason}".strip() for row in found]


def verify(rig: Rig, *more: str) -> int:
    """Run `pilotage-server audit verify` beside the server that runs."""
    return main(["audit", "verify", "--config", str(rig.config_path), *more])


def test_every_act_on_a_credential_has_its_row_with_who_what_and_from_where(
    rig: Rig, owner: Client, pilot: Client, watcher: Client, delegated: Delegated, alice: Identity, robot: Identity
) -> None:
    job_id = submit(owner, delegated)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    answer = pilot.credentials.RetrieveCredential(retrieve_request(lease))
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_USED
    renew = refreshed(pilot, pilot_id, lease)
    pilot.credentials.RenewCredential(renew)
    owner.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=delegated.credential_id))
    owner.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=delegated.credential_id))
    found = rows(watcher, credential_id=delegated.credential_id)
    assert acts(found) == [
        "credential stored",
        "proxy issued",
        "retrieval refused TOKEN_USED",
        "proxy renewed",
        "credential destroyed",
    ]
    stored, issued, refused, renewed, destroyed = found
    assert stored.actor_dn == stored.owner_dn == destroyed.actor_dn == alice.dn
    assert stored.facts["fqans"] == f"{OWNER_ROLE} /demo"
    for row in (issued, refused, renewed):
        assert (row.actor_dn, row.owner_dn) == (robot.dn, alice.dn)
        assert (row.job_id, row.lease_id) == (job_id, lease.lease_id)
        assert len(row.actor_thumbprint) == 32
    assert issued.facts["serial"] == str(x509.load_der_x509_certificate(answer.chain[0]).serial_number)
    assert issued.facts["jti"] != renewed.facts["jti"]
    for row in found:
        assert re.match(r"ipv[46]:.*:[0-9]+$", row.peer), row.peer
        assert row.act_time.seconds > 0
    assert verify(rig) == 0


def refreshed(pilot: Client, pilot_id: str, lease: pilot_pb2.Lease) -> pb.RenewCredentialRequest:
    """Return a renewal with a fresh token."""
    fresh = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    )
    first = retrieve_request(lease)
    return pb.RenewCredentialRequest(
        credential_token=fresh.credential_token,
        retrieval_key=fresh.retrieval_key,
        certificate_request=first.certificate_request,
    )


def test_refusals_are_recorded_with_the_reason_the_caller_got(
    rig: Rig,
    owner: Client,
    pilot: Client,
    watcher: Client,
    delegated: Delegated,
    bob_proxy: Path,
    other_pilot_proxy: Path,
    alice_identity: LocalIdentity,
) -> None:
    submit(owner, delegated)
    lease = acquire(pilot, register(pilot))
    thief, bob = rig.client(other_pilot_proxy), rig.client(bob_proxy)
    broken_key = retrieve_request(lease)
    broken_key.retrieval_key = b"x" * 32
    broken_token = retrieve_request(lease)
    broken_token.credential_token += "x"
    wrong_proxy = complete_request(owner, alice_identity, kind=KeyKind.EC_P256)
    del wrong_proxy.chain[:]
    name = delegated.credential_id
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: pilot.credentials.RetrieveCredential(broken_key), "retrieval refused"),
        (lambda: pilot.credentials.RetrieveCredential(broken_token), "retrieval refused"),
        (lambda: thief.credentials.RetrieveCredential(retrieve_request(lease)), "retrieval refused"),
        (lambda: pilot.credentials.RenewCredential(pb.RenewCredentialRequest()), "renewal refused"),
        (lambda: owner.credentials.CompleteDelegation(wrong_proxy), "delegation refused"),
        (lambda: bob.credentials.GetCredential(pb.GetCredentialRequest(credential_id=name)), "access refused"),
        (lambda: bob.credentials.ListIssuances(pb.ListIssuancesRequest(credential_id=name)), "access refused"),
        (lambda: bob.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=name)), "access refused"),
        (lambda: bob.credentials.RetrieveCredential(retrieve_request(lease)), "call refused"),
        (lambda: bob.admin.QueryAudit(admin_pb2.QueryAuditRequest()), "call refused"),
    ]
    before = len(rows(watcher))
    expected = [f"{act} {reason(call).name}" for call, act in calls]
    assert acts(rows(watcher)[before:]) == expected
    foreign = rows(watcher)[before + 2]
    assert (foreign.lease_id, foreign.credential_id) == (lease.lease_id, name)
    assert verify(rig) == 0


def test_a_caller_without_the_role_is_recorded_once_a_minute_and_method(
    rig: Rig, watcher: Client, bob_proxy: Path
) -> None:
    bob = rig.client(bob_proxy)
    before = len(rows(watcher))
    for _ in range(5):
        assert reason(bob.admin.QueryAudit, admin_pb2.QueryAuditRequest()) is Reason.ROLE_REQUIRED
    assert len(rows(watcher)) == before + 1
    rig.clock.turn(61)
    assert reason(bob.admin.QueryAudit, admin_pb2.QueryAuditRequest()) is Reason.ROLE_REQUIRED
    assert len(rows(watcher)) == before + 2


def test_a_clock_that_is_put_back_silences_no_refusal(rig: Rig, watcher: Client, bob_proxy: Path) -> None:
    bob = rig.client(bob_proxy)
    before = len(rows(watcher))
    assert reason(bob.admin.QueryAudit, admin_pb2.QueryAuditRequest()) is Reason.ROLE_REQUIRED
    rig.clock.turn(-1800)
    assert reason(bob.admin.QueryAudit, admin_pb2.QueryAuditRequest()) is Reason.ROLE_REQUIRED
    assert len(rows(watcher)) == before + 2


def test_revocation_expiry_and_a_changed_policy_are_recorded(
    make_rig: Callable[..., Rig], grid: ToyGrid, admin: LocalIdentity, tmp_path: Path
) -> None:
    rig = make_rig()
    who = grid.user("Leaver of the audit")
    identity = load_identity(grid.voms_proxy(who, tmp_path / "leaver", fqans=(OWNER_ROLE, "/demo")))
    name = delegate(rig.client(identity), identity, kind=KeyKind.EC_P256).credential_id
    grid.revoke(who)
    rig.call(lambda app: app.check_credentials())
    rig.clock.turn(13 * 3600)
    rig.call(lambda app: app.prune())
    rig.clock.ahead = rig.clock.ahead * 0
    assert acts(rows(rig.mutual_client(admin), credential_id=name)) == [
        "credential stored",
        "credential revoked",
        "expired credential erased",
    ]
    rig.restart()
    assert acts(rows(rig.mutual_client(admin), act="policy set")) == ["policy set"]
    rig.stop()
    changed = make_rig(**{"retrieval.default": {"proxy": "limited"}})
    old, new = rows(changed.mutual_client(admin), act="policy set")
    assert '"proxy":"limited"' not in old.facts["policy"]
    assert '"default":{"proxy":"limited"}' in new.facts["policy"]
    assert new.actor_dn == ""
    assert verify(changed) == 0


def test_the_audit_comes_in_pages_and_to_admins_only(rig: Rig, owner: Client, watcher: Client, pilot: Client) -> None:
    for _ in range(5):
        assert reason(pilot.credentials.RetrieveCredential, pb.RetrieveCredentialRequest()) is Reason.TOKEN_INVALID
    for nobody in (owner, pilot):
        assert reason(nobody.admin.QueryAudit, admin_pb2.QueryAuditRequest()) is Reason.ROLE_REQUIRED
    found: list[int] = []
    token = ""
    while True:
        page = watcher.admin.QueryAudit(admin_pb2.QueryAuditRequest(page_size=2, page_token=token))
        found += [row.sequence for row in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert found == list(range(len(found), 0, -1))
    assert len(found) >= 8
    for token in ("x", page_token(Place(2**63)), page_token(Place(-1))):
        wrong = admin_pb2.QueryAuditRequest(page_token=token)
        assert reason(watcher.admin.QueryAudit, wrong) is Reason.PAGE_TOKEN_INVALID


def test_an_admin_reads_it_by_the_command_line(
    rig: Rig, delegated: Delegated, grid: ToyGrid, admin: LocalIdentity, tmp_path: Path
) -> None:
    proxy = grid.voms_proxy(grid.user("admin"), tmp_path / "admin.proxy", fqans=("/demo",))
    shell = Shell(rig, proxy, tmp_path / "admin")
    text = shell.ok("admin", "audit", "--credential", delegated.credential_id)
    assert "credential stored" in text
    found = msgspec.json.decode(shell.ok("admin", "audit", "--limit", "1", "--json"), type=list[dict[str, object]])
    assert len(found) == 1
    assert len(str(found[0]["digest"])) == 64
    assert shell.run("admin", "audit", "--dn", "/O=nobody").out == ""


def test_an_admin_sees_and_ends_anybodys_credential_by_its_id(
    rig: Rig, owner: Client, pilot: Client, delegated: Delegated, grid: ToyGrid, tmp_path: Path, bob_proxy: Path
) -> None:
    submit(owner, delegated)
    lease = acquire(pilot, register(pilot))
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    name = delegated.credential_id
    stranger = Shell(rig, bob_proxy, tmp_path / "bob")
    for words in (("log", name), ("destroy", name)):
        done = stranger.run("credential", *words)
        assert (done.code, "CREDENTIAL_NOT_FOUND" in done.err) == (3, True)
    proxy = grid.voms_proxy(grid.user("admin"), tmp_path / "admin.proxy", fqans=("/demo",))
    shell = Shell(rig, proxy, tmp_path / "admin")
    assert lease.lease_id in shell.ok("credential", "log", name)
    assert "is destroyed" in shell.run("credential", "destroy", name).err
    assert reason(submit, owner, delegated) is Reason.CREDENTIAL_DESTROYED


def test_issuances_come_in_pages_newest_first(owner: Client, pilot: Client, delegated: Delegated) -> None:
    submit(owner, delegated)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    serials = [serial(pilot.credentials.RetrieveCredential(retrieve_request(lease)))]
    serials += [serial(pilot.credentials.RenewCredential(refreshed(pilot, pilot_id, lease))) for _ in range(4)]
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListIssuancesRequest(credential_id=delegated.credential_id, page_size=2, page_token=token)
        page = owner.credentials.ListIssuances(request)
        assert len(page.issuances) <= 2
        found += [one.serial for one in page.issuances]
        token = page.next_page_token
        if not token:
            break
    assert found == serials[::-1]


def serial(answer: pb.RetrieveCredentialResponse | pb.RenewCredentialResponse) -> str:
    return str(x509.load_der_x509_certificate(answer.chain[0]).serial_number)


def test_the_log_names_each_row_and_finds_a_tail_that_the_anchor_does_not_know(
    rig: Rig, owner: Client, pilot: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        assert reason(pilot.credentials.RetrieveCredential, pb.RetrieveCredentialRequest()) is Reason.TOKEN_INVALID
    assert verify(rig) == 0
    copy = copied(rig)
    with contextlib.closing(sqlite3.connect(copy)) as connection, connection:
        (last,) = connection.execute("SELECT max(seq) FROM audit").fetchone()
        connection.execute("DROP TRIGGER audit_keeps")
        connection.execute("DELETE FROM audit WHERE seq = ?", (last,))
    assert verify(rig, "--database", str(copy)) == 1
    assert f"AUDIT_BROKEN: The audit is broken at row {last}: it is missing" in capsys.readouterr().err
    (rig.state.parent / "empty.log").touch()
    assert verify(rig, "--database", str(copy), "--log", str(rig.state.parent / "empty.log")) == 0
    assert verify(rig, "--database", str(copy), "--log", str(rig.log_path)) == 1


def copied(rig: Rig) -> Path:
    """Copy the database as a backup does, while the server runs."""
    copy = rig.state.parent / "copy.sqlite"
    with (
        contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    return copy


def test_a_missing_anchor_and_an_old_database_are_told(
    rig: Rig, pilot: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    old = copied(rig)
    assert reason(pilot.credentials.RetrieveCredential, pb.RetrieveCredentialRequest()) is Reason.TOKEN_INVALID
    rig.stop()
    shutil.copy(old, rig.state / "credentials.sqlite")
    for _ in range(2):
        with pytest.raises(PilotageError, match="AUDIT_BROKEN"):
            rig.start()
    (rig.state / "audit.anchor").rename(rig.state / "audit.anchor.old")
    assert verify(rig) == 1
    assert "audit.anchor is missing" in capsys.readouterr().err


def test_show_prints_rows_for_people_and_for_programs(
    rig: Rig, delegated: Delegated, alice: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    show = ["audit", "show", "--config", str(rig.config_path)]
    assert main([*show, "--credential", delegated.credential_id]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert re.match(r"[0-9]+ 20[0-9-]+T[0-9:]+Z credential stored: by=", line)
    assert delegated.credential_id in line
    assert main([*show, "--json", "--last", "1", "--dn", alice.dn]) == 0
    (text,) = capsys.readouterr().out.splitlines()
    assert msgspec.json.decode(text)["owner_dn"] == alice.dn
    assert main([*show]) == 0
    numbers = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_full_disk_refuses_the_proxy_and_leaves_neither_it_nor_a_row(
    rig: Rig, owner: Client, pilot: Client, watcher: Client, delegated: Delegated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is the last thing written: when it does not fit, the token is not spent either."""
    submit(owner, delegated)
    lease = acquire(pilot, register(pilot))

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
        raise error

    before = len(rows(watcher))
    with monkeypatch.context() as broken:
        broken.setattr(store, "append", full)
        assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.DISK_FULL
        bad = pb.RetrieveCredentialRequest()
        assert reason(pilot.credentials.RetrieveCredential, bad) is Reason.TOKEN_INVALID
    assert '"unrecorded":true' in rig.log_text
    assert len(rows(watcher)) == before
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    assert acts(rows(watcher)[before:]) == ["proxy issued"]


def test_many_at_once_make_one_chain(
    make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, admin: LocalIdentity
) -> None:
    rig = make_rig(abuse={"pilot_strikes": 100})
    owner, pilot, watcher = rig.client(alice_proxy), rig.client(pilot_proxy), rig.mutual_client(admin)
    delegated = delegate(owner, load_identity(alice_proxy), kind=KeyKind.EC_P256)
    submit(owner, delegated)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    renewals = [refreshed(pilot, pilot_id, lease) for _ in range(20)]

    def use(request: pb.RenewCredentialRequest) -> None:
        pilot.credentials.RenewCredential(request)
        assert reason(pilot.credentials.RenewCredential, request) is Reason.TOKEN_USED

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, renewals))
    found = acts(rows(watcher, credential_id=delegated.credential_id))
    assert found.count("proxy renewed") == 20
    assert found.count("renewal refused TOKEN_USED") == 20
    assert verify(rig) == 0


ROUNDS = 5
CALLERS = 3


@pytest.fixture
def server(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(grid, tmp_path, host)
    yield made
    made.close()


class Caller:
    """A pilot's thread that renews without pause, and keeps the serial numbers of the proxies it got."""

    def __init__(self) -> None:
        self.serials: list[str] = []
        self.got = threading.Event()

    def run(self, pilot: Client, pilot_id: str, lease: pilot_pb2.Lease) -> None:
        """Renew until the server is gone."""
        with contextlib.suppress(grpc.RpcError):
            while True:
                answer = pilot.credentials.RenewCredential(refreshed(pilot, pilot_id, lease), timeout=120)
                self.serials.append(str(x509.load_der_x509_certificate(answer.chain[0]).serial_number))
                self.got.set()


def test_a_server_killed_again_and_again_has_a_row_for_each_proxy_that_a_pilot_got(
    server: ServerProcess, alice_proxy: Path, pilot_proxy: Path
) -> None:
    """A row more than proxies is a proxy whose pilot the server died on: one for each call in flight, at most."""
    got: list[str] = []
    lease: pilot_pb2.Lease | None = None
    pilot_id = ""
    for _ in range(ROUNDS):
        server.start()
        with contextlib.ExitStack() as stack:
            pilot = _client(stack, server, pilot_proxy)
            if lease is None:
                owner = _client(stack, server, alice_proxy)
                submit(owner, delegate(owner, load_identity(alice_proxy), kind=KeyKind.EC_P256))
                pilot_id = register(pilot)
                lease = acquire(pilot, pilot_id)
                answer = pilot.credentials.RetrieveCredential(retrieve_request(lease))
                got.append(str(x509.load_der_x509_certificate(answer.chain[0]).serial_number))
            callers = [Caller() for _ in range(CALLERS)]
            with ThreadPoolExecutor(CALLERS) as threads:
                running = [threads.submit(caller.run, pilot, pilot_id, lease) for caller in callers]
                assert all(caller.got.wait(30) for caller in callers)
                server.stop(signal.SIGKILL)
                for one in running:
                    one.result(60)
            got += [serial for caller in callers for serial in caller.serials]
    done = server.command("audit", "verify")
    assert done.returncode == 0, done.stderr
    with contextlib.closing(sqlite3.connect(server.state / "credentials.sqlite")) as connection:
        recorded = [
            msgspec.json.decode(row[0])["serial"]
            for row in connection.execute("SELECT facts FROM audit WHERE act IN ('proxy issued', 'proxy renewed')")
        ]
        issued = [row[0] for row in connection.execute("SELECT serial FROM issuances")]
    assert sorted(recorded) == sorted(issued)
    assert len(set(got)) == len(got)
    assert set(got) <= set(recorded)
    assert len(recorded) - len(got) <= ROUNDS * CALLERS


def _client(stack: contextlib.ExitStack, server: ServerProcess, proxy: Path) -> Client:
    channel = open_channel(server.target, ca_dir=server.grid.ca_dir, identity=load_identity(proxy))
    return Client(stack.enter_context(channel))
