"""The VOMS client against servers that lie, stall, break off or give less than asked for."""

import base64
import datetime
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.voms.attribute import add_attributes, attributes_of, check_holder, raw_names, read_attributes
from pilotage.voms.authority import VomsAuthority
from pilotage.voms.client import VomsClient
from pilotage.voms.issue import Authority, FqanForm, HolderForm, issue_attributes
from pilotage.voms.members import AuthorityConfig
from pilotage.voms.requests import make_request
from pilotage.voms.tls import check_server
from pilotage.voms.vomses import VomsServer
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.proxies import end_entity
from support.scripted_voms import ScriptedVoms

HOUR = datetime.timedelta(hours=1)
NOW = datetime.datetime.now(datetime.UTC)
# This file may be loaded long before its turn comes.
LIFE = 6 * HOUR
ANALYSIS = "/demo/Role=analysis"


class Grid(msgspec.Struct, frozen=True):
    """A toy grid with a VOMS host, a member and somebody else."""

    toy: ToyGrid
    host: Identity
    alice: LocalIdentity
    mallory: LocalIdentity

    def authority(self, form: HolderForm = HolderForm.SUBJECT, fqans: FqanForm = FqanForm.LONG) -> Authority:
        identity = load_identity(self.host.cert_path, self.host.key_path)
        return Authority(identity=identity, vo="demo", host="localhost", port=15000, holder_form=form, fqan_form=fqans)

    def server(self, port: int) -> VomsServer:
        return VomsServer(alias="demo", host="localhost", port=port, dn=self.host.dn, vo="demo")

    def client(self, *ports: int, seconds: float = 60) -> VomsClient:
        """Make a client that asks the servers in the order given."""
        servers = [self.server(port) for port in ports]
        return VomsClient(
            self.toy.ca_dir, servers, deadline_seconds=seconds, server_seconds=seconds / 2, shuffle=lambda order: None
        )

    def config(self, **changes: object) -> AuthorityConfig:
        base = AuthorityConfig(
            vo="demo",
            certificate=self.host.cert_path,
            key=self.host.key_path,
            ca_dir=self.toy.ca_dir,
            host="localhost",
            listen="127.0.0.1:0",
            members={"/O=Toy Grid/CN=Alice": ("/demo", ANALYSIS, "/demo/Role=pilot")},
        )
        return msgspec.structs.replace(base, **changes)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    toy = ToyGrid(tmp_path_factory.mktemp("grid"))
    alice, mallory, host = toy.user("Alice"), toy.user("Mallory", key="ec"), toy.host("localhost")
    return Grid(
        toy=toy,
        host=host,
        alice=load_identity(alice.cert_path, alice.key_path),
        mallory=load_identity(mallory.cert_path, mallory.key_path),
    )


def rest(certificate: bytes) -> bytes:
    text = base64.encodebytes(certificate).decode()
    return f"HTTP/1.1 200 OK\r\n\r\n<voms><ac>{text}</ac></voms>".encode()


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(PilotageError) as caught:
        call()
    return caught.value.reason


# making and reading


@pytest.mark.parametrize("form", list(HolderForm))
@pytest.mark.parametrize("fqans", list(FqanForm))
def test_what_is_issued_is_read_back(grid: Grid, form: HolderForm, fqans: FqanForm) -> None:
    person = grid.alice.chain[0]
    der = issue_attributes(
        grid.authority(form, fqans),
        person,
        [ANALYSIS, "/demo"],
        lifetime=LIFE,
        now=NOW,
        targets=["wn1.example.org", "wn2.example.org"],
        generic=[("nickname", "älice", "demo")],
    )
    read = read_attributes(der)
    assert (read.vo, read.host, read.port) == ("demo", "localhost", 15000)
    assert read.fqans == (ANALYSIS, "/demo")
    assert read.targets == ("wn1.example.org", "wn2.example.org")
    assert read.generic == (("nickname", "älice", "demo"),)
    assert read.authority == grid.host.dn
    assert read.not_after == (NOW + LIFE).replace(microsecond=0)
    assert read.holder_name == raw_names(person)[form is HolderForm.SUBJECT]
    check_holder(read, person)
    with pytest.raises(PilotageError) as caught:
        check_holder(read, grid.mallory.chain[0])
    assert caught.value.reason is Reason.VOMS_HOLDER


def test_the_fields_programs_attributes_are_read(grid: Grid, tmp_path: Path) -> None:
    alice = grid.toy.user("Alice")
    proxy = load_identity(
        grid.toy.voms_proxy(alice, tmp_path / "proxy", fqans=(ANALYSIS, "/demo/Role=NULL/Capability=NULL"))
    )
    (read,) = attributes_of(proxy.chain)
    assert read.fqans == (ANALYSIS, "/demo")
    check_holder(read, end_entity(proxy.chain))


def test_attributes_never_outlive_the_certificate_they_are_for(grid: Grid) -> None:
    person = grid.alice.chain[0]
    der = issue_attributes(grid.authority(), person, ["/demo"], lifetime=10_000 * HOUR, now=NOW)
    assert read_attributes(der).not_after <= person.not_valid_after_utc


def test_every_cut_and_every_flipped_byte_is_read_or_refused_with_a_reason(grid: Grid) -> None:
    der = issue_attributes(grid.authority(), grid.alice.chain[0], [ANALYSIS], lifetime=LIFE, now=NOW)
    for position in range(0, len(der), 7):
        assert reason_of(lambda cut=position: read_attributes(der[:cut])) is Reason.VOMS_MALFORMED  # type: ignore[misc]
        changed = bytearray(der)
        changed[position] ^= 0x15
        try:
            read_attributes(bytes(changed))
        except PilotageError as error:
            assert error.reason.name.startswith("VOMS_")  # noqa: PT017 - most flips are refused, not all
    assert reason_of(lambda: read_attributes(der + b"\0")) is Reason.VOMS_MALFORMED
    assert reason_of(lambda: read_attributes(b"\x30" * 70_000)) is Reason.VOMS_TOO_LARGE


def test_attributes_go_below_a_certificate_and_below_a_proxy(grid: Grid, tmp_path: Path) -> None:
    alice = grid.toy.user("Alice")
    eec = load_identity(alice.cert_path, alice.key_path)
    below = load_identity(grid.toy.plain_proxy(alice, tmp_path / "proxy"))
    der = issue_attributes(grid.authority(), eec.chain[0], [ANALYSIS], lifetime=LIFE, now=NOW)
    for identity in (eec, below):
        extended = add_attributes(identity, [der], lifetime=LIFE, now=NOW)
        assert attributes_of(extended.chain)[0].der == der
        assert extended.chain[1:] == identity.chain
        assert extended.key.public_key() == extended.chain[0].public_key()
    assert attributes_of(eec.chain) == attributes_of(below.chain) == ()


def test_somebody_elses_attributes_do_not_go_into_a_proxy(grid: Grid) -> None:
    der = issue_attributes(grid.authority(), grid.mallory.chain[0], [ANALYSIS], lifetime=LIFE, now=NOW)
    assert reason_of(lambda: add_attributes(grid.alice, [der], lifetime=LIFE, now=NOW)) is Reason.VOMS_HOLDER
    assert reason_of(lambda: add_attributes(grid.alice, [], lifetime=LIFE, now=NOW)) is Reason.INVALID_ARGUMENT


# asking


@pytest.mark.parametrize("protocols", [("rest", "legacy"), ("rest",), ("legacy",)])
def test_attributes_come_by_either_protocol(grid: Grid, protocols: tuple[str, ...]) -> None:
    with VomsAuthority(grid.config(protocols=protocols)) as authority:
        grant = grid.client(authority.port).ask(grid.alice, make_request("demo", [ANALYSIS]))
    assert grant.attributes.fqans == (ANALYSIS, "/demo")


def test_the_extended_proxy_is_the_persons_and_lives_as_long_as_asked(grid: Grid) -> None:
    with VomsAuthority(grid.config()) as authority:
        extended = grid.client(authority.port).extend(grid.alice, make_request("demo", [ANALYSIS], lifetime=LIFE))
    assert end_entity(extended.chain) == grid.alice.chain[0]
    left = extended.chain[0].not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert abs(left - LIFE) < datetime.timedelta(minutes=2)


def test_less_than_asked_is_refused_unless_allowed(grid: Grid) -> None:
    with VomsAuthority(grid.config(leave_out=True)) as authority:
        client = grid.client(authority.port)
        with pytest.raises(PilotageError, match="/demo/Role=admin not granted") as caught:
            client.ask(grid.alice, make_request("demo", [ANALYSIS, "/demo/Role=admin"]))
        assert caught.value.reason is Reason.VOMS_SUBSET
        grant = client.ask(grid.alice, make_request("demo", ["/demo/Role=admin", ANALYSIS], allow_subset=True))
    assert grant.attributes.fqans == (ANALYSIS, "/demo")
    assert any("subset" in warning for warning in grant.warnings)


def test_another_fqan_first_is_refused(grid: Grid) -> None:
    der = issue_attributes(grid.authority(), grid.alice.chain[0], ["/demo", ANALYSIS], lifetime=LIFE, now=NOW)
    with ScriptedVoms(grid.toy, grid.host, lambda _: rest(der)) as server:
        client = grid.client(server.port)
        ask = make_request("demo", [ANALYSIS])
        assert reason_of(lambda: client.ask(grid.alice, ask)) is Reason.VOMS_SUBSET
        client.ask(grid.alice, make_request("demo", [ANALYSIS], allow_subset=True))


@pytest.mark.parametrize(
    ("who", "vo", "fqan", "shift", "reason"),
    [
        ("mallory", "demo", ANALYSIS, 0, Reason.VOMS_HOLDER),
        ("alice", "other", "/other/Role=analysis", 0, Reason.VOMS_ANSWER_MALFORMED),
        ("alice", "demo", ANALYSIS, -24, Reason.VOMS_EXPIRED),
        ("alice", "demo", ANALYSIS, 24, Reason.VOMS_NOT_YET_VALID),
    ],
)
def test_attributes_that_are_not_ours_now_are_refused(
    grid: Grid, who: str, vo: str, fqan: str, shift: int, reason: Reason
) -> None:
    person: x509.Certificate = getattr(grid, who).chain[0]
    authority = msgspec.structs.replace(grid.authority(), vo=vo)
    der = issue_attributes(authority, person, [fqan], lifetime=LIFE, now=NOW + shift * HOUR)
    with ScriptedVoms(grid.toy, grid.host, lambda _: rest(der)) as server:
        client = grid.client(server.port)
        assert reason_of(lambda: client.ask(grid.alice, make_request("demo"))) is reason


@pytest.mark.parametrize(
    "body",
    [b"", b"HTTP/1.1 404 Not Found\r\n\r\n", b"\x00" * 100, rest(b"junk"), rest(b"\x30\x80" * 20), b"A" * 400_000],
)
def test_an_answer_that_is_no_answer_is_malformed(grid: Grid, body: bytes) -> None:
    with ScriptedVoms(grid.toy, grid.host, lambda _: body) as server:
        client = grid.client(server.port)
        assert reason_of(lambda: client.ask(grid.alice, make_request("demo"))) is Reason.VOMS_ANSWER_MALFORMED


def test_a_server_that_does_not_know_rest_is_asked_in_the_old_way(grid: Grid) -> None:
    with ScriptedVoms(grid.toy, grid.host, lambda _: b"") as server:
        client = grid.client(server.port)
        reason_of(lambda: client.ask(grid.alice, make_request("demo")))
    assert server.requests[0].startswith(b"GET /generate-ac?lifetime=43200 HTTP/1.0\r\n")
    assert server.requests[1].startswith(b"0<?xml")


def test_a_refusal_by_rest_is_not_asked_again_in_the_old_way(grid: Grid) -> None:
    body = b"HTTP/1.1 403 x\r\n\r\n<voms><error><code>SuspendedUser</code><message>no</message></error></voms>"
    with ScriptedVoms(grid.toy, grid.host, lambda _: body) as server:
        client = grid.client(server.port)
        assert reason_of(lambda: client.ask(grid.alice, make_request("demo"))) is Reason.VOMS_SUSPENDED
    assert len(server.requests) == 1


def test_a_silent_server_costs_no_more_than_the_deadline(grid: Grid) -> None:
    with ScriptedVoms(grid.toy, grid.host, lambda _: None) as server:
        begin = time.monotonic()
        client = grid.client(server.port, seconds=1)
        assert reason_of(lambda: client.ask(grid.alice, make_request("demo"))) is Reason.VOMS_SERVER_UNREACHABLE
    assert time.monotonic() - begin < 20


def test_the_next_server_is_asked_when_one_is_down_or_does_not_know_us(grid: Grid) -> None:
    stranger = grid.config(members={"/O=Toy Grid/CN=Nobody": ("/demo",)})
    with VomsAuthority(stranger) as unhelpful, VomsAuthority(grid.config()) as authority:
        client = grid.client(1, unhelpful.port, authority.port)
        assert client.ask(grid.alice, make_request("demo")).server.port == authority.port
        client = grid.client(unhelpful.port, 1)
        assert reason_of(lambda: client.ask(grid.alice, make_request("demo"))) is Reason.VOMS_NOT_MEMBER


def test_a_server_that_does_not_trust_our_authority_refuses(grid: Grid) -> None:
    with ScriptedVoms(grid.toy, grid.host, lambda _: b"", trust_clients=False) as server:
        client = grid.client(server.port)
        assert reason_of(lambda: client.ask(grid.alice, make_request("demo"))) is Reason.VOMS_SERVER_REFUSED


def test_a_proxy_is_taken_as_the_clients_certificate(grid: Grid, tmp_path: Path) -> None:
    alice = grid.toy.user("Alice")
    identity = load_identity(grid.toy.plain_proxy(alice, tmp_path / "proxy"))
    with VomsAuthority(grid.config(holder=HolderForm.ISSUER)) as authority:
        extended = grid.client(authority.port).extend(identity, make_request("demo", [ANALYSIS]))
    assert attributes_of(extended.chain)[0].holder_serial == end_entity(extended.chain).serial_number


# who the server is


def test_a_server_of_another_authority_is_not_trusted(grid: Grid, tmp_path: Path) -> None:
    other = ToyGrid(tmp_path / "other", name="Other Grid")
    with ScriptedVoms(grid.toy, other.host("localhost"), lambda _: b"") as server:
        client = grid.client(server.port)
        assert reason_of(lambda: client.ask(grid.alice, make_request("demo"))) is Reason.VOMS_SERVER_IDENTITY
    assert server.requests == []


def test_a_person_or_another_host_is_not_the_server(grid: Grid) -> None:
    elsewhere = grid.toy.host("elsewhere.example.org", addresses=())
    with ScriptedVoms(grid.toy, elsewhere, lambda _: b"") as server:
        client = grid.client(server.port)
        with pytest.raises(PilotageError, match="elsewhere") as caught:
            client.ask(grid.alice, make_request("demo"))
    assert caught.value.reason is Reason.VOMS_SERVER_IDENTITY
    with ScriptedVoms(grid.toy, grid.toy.user("localhost"), lambda _: b"") as server:
        client = grid.client(server.port)
        assert reason_of(lambda: client.ask(grid.alice, make_request("demo"))) is Reason.VOMS_SERVER_IDENTITY


@pytest.mark.parametrize(
    ("host", "dn", "good"),
    [
        ("voms.example.org", "/O=x/CN=x", True),
        ("VOMS.example.org", "/O=x/CN=x", True),
        ("127.0.0.1", "/O=x/CN=x", True),
        ("127.0.0.2", "/O=x/CN=x", False),
        ("alias.example.org", "/O=Toy Grid/CN=voms.example.org", True),
        ("alias.example.org", "/O=Toy Grid/CN=voms.example.or", False),
        ("alias.example.org", "/O=x/CN=x", False),
        ("example.org", "/O=x/CN=x", False),
    ],
)
def test_a_server_is_known_by_its_names_or_by_the_vomses_subject(grid: Grid, host: str, dn: str, good: bool) -> None:
    shown = x509.load_pem_x509_certificate(grid.toy.host("voms.example.org").cert_path.read_bytes())
    server = VomsServer(alias="demo", host=host, port=1, dn=dn, vo="demo")
    der = shown.public_bytes(Encoding.DER)
    if good:
        check_server(server, der)
    else:
        assert reason_of(lambda: check_server(server, der)) is Reason.VOMS_SERVER_IDENTITY


@pytest.mark.parametrize(
    ("host", "good"), [("a.example.org", True), ("a.b.example.org", False), ("example.org", False)]
)
def test_a_star_stands_for_one_label(grid: Grid, host: str, good: bool) -> None:
    shown = x509.load_pem_x509_certificate(grid.toy.host("*.example.org").cert_path.read_bytes())
    server = VomsServer(alias="demo", host=host, port=1, dn="/O=x/CN=x", vo="demo")
    der = shown.public_bytes(Encoding.DER)
    if good:
        check_server(server, der)
    else:
        assert reason_of(lambda: check_server(server, der)) is Reason.VOMS_SERVER_IDENTITY


def test_a_client_without_servers_says_so(grid: Grid) -> None:
    assert reason_of(lambda: VomsClient(grid.toy.ca_dir, [])) is Reason.VOMSES_NOT_FOUND
