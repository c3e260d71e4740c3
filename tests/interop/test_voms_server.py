"""Our VOMS client against Debian's own voms-server and MariaDB."""

import asyncio
import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from toygrid import Identity, ToyGrid

import pilotage_helper
from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.voms.attribute import attributes_of, raw_names
from pilotage.voms.client import VomsClient, VomsGrant
from pilotage.voms.requests import NO_DELEGATION, legacy_request, make_request, rest_request
from pilotage.voms.tls import Deadline, client_context, connect
from pilotage.voms.vomses import parse_vomses
from pilotage.x509.files import LocalIdentity, load_identity, write_proxy
from pilotage.x509.keys import KeyKind, make_key
from pilotage.x509.pool import KeyPool
from pilotage.x509.proxies import end_entity, sign_proxy
from pilotage.x509.requests import check_request
from pilotage_pilot.attributes import with_attributes
from pilotage_pilot.config import PilotConfig, VomsConfig
from pilotage_pilot.proxies import Fetched, ProxyRefused, check_proxy, fetch_proxy
from pilotage_pilot.renewal import attributes_due
from support.real_voms import PORT, RealVoms, why_not

pytestmark = [pytest.mark.interop, pytest.mark.root]

ANALYSIS, ZETA, PILOT = "/demo/Role=analysis", "/demo/Role=zeta", "/demo/sub/Role=pilot"
MAXIMUM = datetime.timedelta(hours=12)


class Rig:
    """A voms-server with one member, and our client in its network."""

    def __init__(self, grid: ToyGrid, alice: Identity, voms: RealVoms) -> None:
        self.grid = grid
        self.voms = voms
        self.person = alice
        self.alice = load_identity(alice.cert_path, alice.key_path)
        (self.server,) = parse_vomses(voms.vomses_line, "vomses")
        self.client = VomsClient(grid.ca_dir, [self.server], deadline_seconds=30)

    def ask(self, *fqans: str, identity: LocalIdentity | None = None, **more: object) -> VomsGrant:
        request = make_request("demo", fqans, **more)  # type: ignore[arg-type]  # the tests name what it takes
        return self.voms.inside(lambda: self.client.ask(identity or self.alice, request))

    def extend(self, identity: LocalIdentity, *fqans: str) -> LocalIdentity:
        return self.voms.inside(lambda: self.client.extend(identity, make_request("demo", fqans)))

    def raw(self, *pieces: bytes) -> bytes:
        def talk() -> bytes:
            with connect(self.server, client_context(self.alice, self.grid.ca_dir), Deadline.after(20)) as wire:
                for piece in pieces:
                    wire.send(piece)
                return wire.receive(100_000)

        return self.voms.inside(talk)


def put_up(folder: Path, *, newformat: bool) -> Iterator[Rig]:
    if reason := why_not():
        pytest.skip(reason)
    grid = ToyGrid(folder)
    alice = grid.user("Alice")
    with RealVoms(grid, {alice.dn: ["/demo/sub", ANALYSIS, ZETA, PILOT]}, newformat=newformat) as voms:
        yield Rig(grid, alice, voms)
        root = voms.root
    assert not root.exists()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    yield from put_up(tmp_path_factory.mktemp("grid"), newformat=False)


@pytest.fixture(scope="module")
def new_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    yield from put_up(tmp_path_factory.mktemp("grid"), newformat=True)


def reason_of(rig: Rig, *fqans: str, **more: object) -> Reason:
    with pytest.raises(PilotageError) as caught:
        rig.ask(*fqans, **more)  # type: ignore[arg-type]  # passed on
    return caught.value.reason


def test_the_server_gives_a_role_and_every_group(rig: Rig) -> None:
    grant = rig.ask(ANALYSIS)
    assert grant.attributes.fqans == (ANALYSIS, "/demo", "/demo/sub")
    assert grant.attributes.not_after - grant.attributes.not_before == MAXIMUM
    assert (grant.attributes.host, grant.attributes.port) == ("localhost", PORT)
    assert grant.warnings == ()


def test_the_first_wish_comes_first_whatever_the_alphabet_says(rig: Rig) -> None:
    assert rig.ask(ZETA, ANALYSIS, PILOT).attributes.fqans[:3] == (ZETA, ANALYSIS, PILOT)
    assert rig.ask(PILOT, ZETA).attributes.fqans[:2] == (PILOT, ZETA)
    assert rig.ask("/demo/sub").attributes.fqans[0] == "/demo/sub"


def test_without_a_wish_the_groups_come(rig: Rig) -> None:
    assert rig.ask().attributes.fqans == ("/demo", "/demo/sub")


def test_a_role_that_one_does_not_have_is_refused(rig: Rig) -> None:
    assert reason_of(rig, "/demo/Role=admin") is Reason.VOMS_SERVER_REFUSED
    assert reason_of(rig, ANALYSIS, "/demo/Role=admin") is Reason.VOMS_SERVER_REFUSED


def test_somebody_who_is_no_member_is_told_so(rig: Rig) -> None:
    mallory = rig.grid.user("Mallory")
    identity = load_identity(mallory.cert_path, mallory.key_path)
    assert reason_of(rig, identity=identity) is Reason.VOMS_NOT_MEMBER


def test_a_longer_life_is_cut_with_a_warning(rig: Rig) -> None:
    grant = rig.ask(lifetime=datetime.timedelta(days=7))
    assert grant.attributes.not_after - grant.attributes.not_before == MAXIMUM
    assert any("shortened" in warning for warning in grant.warnings)


def test_a_plain_proxy_is_extended_and_believed_by_everybody(rig: Rig, tmp_path: Path) -> None:
    plain = load_identity(rig.grid.plain_proxy(rig.person, tmp_path / "plain"))
    extended = rig.extend(plain, PILOT)
    proxy = tmp_path / "proxy"
    write_proxy(proxy, extended.chain, extended.key)
    environ = {"X509_CERT_DIR": str(rig.grid.ca_dir), "X509_VOMS_DIR": str(rig.grid.voms_dir)}
    info = rig.voms.run("voms-proxy-info2", "-file", str(proxy), "-all", "-acexists", "demo", environ=environ)
    assert info.returncode == 0, info.stdout + info.stderr
    assert f"attribute : {PILOT}/Capability=NULL" in info.stdout
    options = pilotage_helper.VerifyOptions(ca_dir=rig.grid.ca_dir, voms_dir=rig.grid.voms_dir, require_proxy=True)
    who = pilotage_helper.verify_pem(proxy.read_bytes(), options)
    assert (who.dn, who.vo, who.fqans[0]) == (rig.person.dn, "demo", PILOT)
    assert set(who.fqans) == {PILOT, "/demo", "/demo/sub"}


def test_attributes_that_end_before_their_proxy_are_renewed_before_they_end(rig: Rig, tmp_path: Path) -> None:
    """The server's maximum is 12 hours, the proxy lives for 20."""
    now = datetime.datetime.now(datetime.UTC)
    fetched = fetch(rig, tmp_path)
    assert fetched.attributes_end is not None
    assert fetched.proxy_end - now > datetime.timedelta(hours=19)
    assert abs(fetched.end - now - MAXIMUM) < datetime.timedelta(minutes=6)
    due = attributes_due(fetched, now, needed_until=fetched.proxy_end)
    assert due is not None
    assert datetime.timedelta(hours=7) < due < datetime.timedelta(hours=9)


def test_a_proxy_that_allows_none_below_it_does_not_bother_the_server(rig: Rig, tmp_path: Path) -> None:
    before = rig.voms.log.read_bytes()
    with pytest.raises(ProxyRefused) as caught:
        fetch(rig, tmp_path, path_length=0)
    assert caught.value.error.reason is Reason.PROXY_PATH_LENGTH
    assert rig.voms.log.read_bytes() == before
    fetch(rig, tmp_path, path_length=1)
    assert rig.voms.log.read_bytes() != before


def test_a_job_gets_of_the_real_server_what_it_wants_instead_of_what_the_site_does(rig: Rig, tmp_path: Path) -> None:
    fetch(rig, tmp_path, wanted=(PILOT, ZETA))
    options = pilotage_helper.VerifyOptions(ca_dir=rig.grid.ca_dir, voms_dir=rig.grid.voms_dir, require_proxy=True)
    who = pilotage_helper.verify_pem((tmp_path / "proxy").read_bytes(), options)
    assert who.fqans[:2] == (PILOT, ZETA)
    assert ANALYSIS not in who.fqans
    with pytest.raises(ProxyRefused) as caught:
        fetch(rig, tmp_path, wanted=("/demo/Role=admin",))
    assert caught.value.error.reason is Reason.VOMS_SERVER_REFUSED


def fetch(rig: Rig, folder: Path, path_length: int | None = None, wanted: tuple[str, ...] = ()) -> Fetched:
    """Fetch a proxy of 20 hours from a service that sends it without attributes, as a pilot of the server's node."""
    vomses = folder / "vomses"
    vomses.write_text(rig.voms.vomses_line)
    config = PilotConfig(
        "localhost:1",
        rig.grid.ca_dir,
        folder,
        folder,
        "TOY",
        voms_dir=rig.grid.voms_dir,
        voms=VomsConfig("demo", (ANALYSIS,), vomses),
    )

    async def ask(request: bytes) -> tuple[x509.Certificate, ...]:
        life, now = datetime.timedelta(hours=20), datetime.datetime.now(datetime.UTC)
        key = check_request(request)
        proxy = sign_proxy(rig.alice.chain, rig.alice.key, key, lifetime=life, path_length=path_length, now=now)
        return (proxy, *rig.alice.chain)

    with KeyPool(KeyKind.EC_P256, 1) as keys:
        return rig.voms.inside(
            lambda: asyncio.run(fetch_proxy(folder / "proxy", ask, keys, rig.person.dn, config, wanted))
        )


def test_a_pilot_adds_attributes_to_a_proxy_that_the_service_would_send(rig: Rig, tmp_path: Path) -> None:
    """The proxy asks for itself: nobody's end-entity key is on a worker node."""
    stored = load_identity(rig.grid.plain_proxy(rig.person, tmp_path / "stored"))
    key, new_key = make_key(KeyKind.RSA_2048), make_key(KeyKind.RSA_2048)
    now = datetime.datetime.now(datetime.UTC)
    life = datetime.timedelta(hours=2)
    sent = sign_proxy(stored.chain, stored.key, key.public_key(), lifetime=life, now=now)
    vomses = tmp_path / "vomses"
    vomses.write_text(rig.voms.vomses_line)
    voms = VomsConfig("demo", (ANALYSIS, PILOT), vomses)
    config = PilotConfig("localhost:1", rig.grid.ca_dir, tmp_path, tmp_path, "TOY", voms_dir=rig.grid.voms_dir)
    chain = rig.voms.inside(lambda: with_attributes((sent, *stored.chain), key, new_key, config, voms))
    assert chain[1:] == (sent, *stored.chain)
    assert chain[0].public_key() == new_key.public_key()
    who = check_proxy(chain, new_key, rig.person.dn, config)
    assert (who.dn, who.vo, who.fqans[:2]) == (rig.person.dn, "demo", (ANALYSIS, PILOT))
    refused = VomsConfig("demo", (ANALYSIS, "/demo/Role=admin"), vomses)
    with pytest.raises(PilotageError, match="VOMS_SERVER_REFUSED"):
        rig.voms.inside(lambda: with_attributes((sent, *stored.chain), key, new_key, config, refused))


def test_a_proxy_that_has_some_attributes_gets_no_others(rig: Rig) -> None:
    """voms-server gives only what is in both; our client notices."""
    plain_groups = rig.extend(rig.alice)
    with pytest.raises(PilotageError) as caught:
        rig.ask(ANALYSIS, identity=plain_groups)
    assert caught.value.reason is Reason.VOMS_SUBSET
    assert ANALYSIS in caught.value.message
    grant = rig.ask(ANALYSIS, identity=plain_groups, allow_subset=True)
    assert ANALYSIS not in grant.attributes.fqans


def test_targets_break_this_server_and_the_client_says_so(rig: Rig) -> None:
    """2.1.0~rc3 ends the connection without an answer."""
    assert reason_of(rig, targets=["wn1.example.org"]) is Reason.VOMS_ANSWER_MALFORMED


def test_this_server_speaks_only_the_old_protocol_and_wants_its_byte_apart(rig: Rig) -> None:
    request = make_request("demo", [ANALYSIS])
    assert rig.raw(rest_request(request, "localhost", PORT)) == b""
    old = legacy_request(request)
    assert b"<number>" not in rig.raw(NO_DELEGATION, old)
    assert b"<number>1005</number>" in rig.raw(NO_DELEGATION + old)


def test_the_holder_is_meant_by_subject_or_by_issuer(rig: Rig, new_rig: Rig) -> None:
    for each, place in ((rig, 1), (new_rig, 0)):
        attributes = each.ask(ANALYSIS).attributes
        assert attributes.holder_name == raw_names(end_entity(each.alice.chain))[place]
        extended = each.extend(each.alice, ANALYSIS)
        options = pilotage_helper.VerifyOptions(ca_dir=each.grid.ca_dir, voms_dir=each.grid.voms_dir)
        assert pilotage_helper.verify_chain(extended.chain_der, options).fqans == attributes.fqans
        assert attributes_of(extended.chain)[0].fqans == attributes.fqans


def test_the_server_is_nowhere_but_in_its_own_network(rig: Rig) -> None:
    with pytest.raises(PilotageError) as caught:
        rig.client.ask(rig.alice, make_request("demo"))
    assert caught.value.reason is Reason.VOMS_SERVER_UNREACHABLE


def test_a_server_that_cannot_start_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := why_not():
        pytest.skip(reason)
    roots = []

    def fail(voms: RealVoms, newformat: bool) -> None:
        roots.append(voms.root)
        raise RuntimeError("on purpose")

    monkeypatch.setattr(RealVoms, "_start_voms", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        RealVoms(ToyGrid(tmp_path / "grid"), {})
    assert len(roots) == 1
    assert not roots[0].exists()
    socket = f"{roots[0]}/run/socket"
    assert socket not in Path("/proc/net/unix").read_text()
