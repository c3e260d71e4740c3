"""VOMS attributes that a pilot adds to a proxy that has none, or the reason why that payload does not run."""

import asyncio
import datetime
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from toygrid import Identity, ToyGrid

import pilotage_helper
from pilotage.reasons import Reason
from pilotage.states import Outcome
from pilotage.voms.authority import VomsAuthority
from pilotage.voms.members import AuthorityConfig
from pilotage.x509.files import load_identity
from pilotage.x509.keys import KeyKind
from pilotage.x509.pool import KeyPool
from pilotage.x509.proxies import sign_proxy
from pilotage.x509.requests import check_request
from pilotage_pilot.config import PilotConfig, VomsConfig
from pilotage_pilot.outcomes import judge_proxy
from pilotage_pilot.proxies import Fetched, ProxyRefused, fetch_proxy
from pilotage_pilot.renewal import attributes_due, next_try

ANALYSIS, ADMIN = "/demo/Role=analysis", "/demo/Role=admin"
HOUR = datetime.timedelta(hours=1)


class Site(msgspec.Struct, frozen=True):
    """A grid with a VO server, an owner who is a member, and somebody who is not."""

    grid: ToyGrid
    host: Identity
    alice: Identity
    mallory: Identity

    def authority(self, **more: object) -> VomsAuthority:
        values: dict[str, object] = {
            "vo": "demo",
            "certificate": self.host.cert_path,
            "key": self.host.key_path,
            "ca_dir": self.grid.ca_dir,
            "host": "localhost",
            "listen": "127.0.0.1:0",
            "members": {self.alice.dn: ("/demo", ANALYSIS)},
            **more,
        }
        return VomsAuthority(AuthorityConfig(**values))  # type: ignore[arg-type]  # the tests name what it takes


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    grid = ToyGrid(tmp_path_factory.mktemp("grid"))
    host = grid.host("localhost")
    folder = grid.voms_dir / "demo"
    folder.mkdir(mode=0o755)
    (folder / "localhost.lsc").write_text(f"{host.dn}\n{grid.ca_dn}\n")
    (folder / "localhost.lsc").chmod(0o644)
    return Site(grid, host, grid.user("Alice"), grid.user("Mallory"))


@pytest.fixture(scope="module")
def keys() -> Iterator[KeyPool]:
    with KeyPool(KeyKind.RSA_2048, 1) as pool:
        yield pool


Fetch = Callable[..., pilotage_helper.Identity]


@pytest.fixture
def fetch(site: Site, keys: KeyPool, tmp_path: Path) -> Fetch:
    """Return what fetches a proxy of somebody's as a pilot of a site with such a server does, and verifies the file."""

    def run(
        port: int,
        *fqans: str,
        who: Identity | None = None,
        source: Path | None = None,
        limited: bool = False,
        path_length: int | None = None,
        wanted: tuple[str, ...] = (),
        others: tuple[VomsConfig, ...] = (),
        voms_dir: Path | None = None,
        dn: str = "",
        **more: object,
    ) -> pilotage_helper.Identity:
        vomses = tmp_path / "vomses"
        vomses.write_text(f'"demo" "localhost" "{port}" "{dn or site.host.dn}" "demo"\n')
        voms = VomsConfig(vo="demo", fqans=fqans, vomses=vomses, wait_seconds=1, **more)  # type: ignore[arg-type]
        config = PilotConfig(
            "localhost:1",
            site.grid.ca_dir,
            tmp_path / "own",
            tmp_path,
            "TOY",
            voms_dir=voms_dir or site.grid.voms_dir,
            voms=(voms, *others),
        )
        owner = who or site.alice
        held = load_identity(source) if source else load_identity(owner.cert_path, owner.key_path)

        async def ask(request: bytes) -> tuple[x509.Certificate, ...]:
            now = datetime.datetime.now(datetime.UTC)
            key = check_request(request)
            proxy = sign_proxy(
                held.chain, held.key, key, lifetime=2 * HOUR, limited=limited, path_length=path_length, now=now
            )
            return (proxy, *held.chain)

        path = tmp_path / "proxy"
        asyncio.run(fetch_proxy(path, ask, keys, owner.dn, config, wanted))
        options = pilotage_helper.VerifyOptions(
            ca_dir=site.grid.ca_dir, voms_dir=site.grid.voms_dir, require_proxy=True, require_key=True
        )
        return pilotage_helper.verify_pem(path.read_bytes(), options)

    return run


def refused(call: Callable[[], object], folder: Path) -> tuple[Outcome, Reason, bool]:
    """Return what an attempt comes to whose proxy got no attributes; nothing of it may have been written."""
    with pytest.raises(ProxyRefused) as caught:
        call()
    assert not (folder / "proxy").exists()
    verdict = judge_proxy(caught.value.error)
    assert verdict.result.reason == caught.value.error.reason.name
    return verdict.result.outcome, caught.value.error.reason, verdict.blames_node


@pytest.mark.parametrize("protocols", [("rest",), ("legacy",)])
def test_a_proxy_without_attributes_gets_those_that_the_site_wants(
    site: Site, fetch: Fetch, protocols: tuple[str, ...]
) -> None:
    with site.authority(protocols=protocols) as authority:
        who = fetch(authority.port, ANALYSIS)
    assert (who.dn, who.vo, who.fqans, who.limited) == (site.alice.dn, "demo", (ANALYSIS, "/demo"), False)
    # One proxy of the service, and one below it with the attributes; both end together, and so do the attributes.
    assert who.depth == 2
    left = who.not_after - datetime.datetime.now(datetime.UTC)
    assert HOUR < left <= 2 * HOUR
    assert who.voms_not_after is not None
    assert abs(who.voms_not_after - who.not_after) < datetime.timedelta(minutes=1)


def test_without_a_wish_it_gets_the_groups_of_the_vo(site: Site, fetch: Fetch) -> None:
    with site.authority() as authority:
        assert fetch(authority.port).fqans == ("/demo",)


def test_a_proxy_that_has_attributes_is_left_alone_and_no_server_is_asked(
    site: Site, fetch: Fetch, tmp_path: Path
) -> None:
    """Port 1 answers nobody."""
    own = site.grid.voms_proxy(site.alice, tmp_path / "own.pem", fqans=("/demo/Role=own",))
    assert fetch(1, ANALYSIS, source=own).fqans == ("/demo/Role=own",)
    # Attributes of a VO that is not known here are attributes all the same.
    other = site.grid.voms_proxy(site.alice, tmp_path / "other.pem", vo="other", fqans=("/other/Role=own",))
    for path in (site.grid.voms_dir / "other").iterdir():
        path.unlink()
    (site.grid.voms_dir / "other").rmdir()
    assert fetch(1, ANALYSIS, source=other).fqans == ()


def test_a_limited_proxy_stays_limited(site: Site, fetch: Fetch) -> None:
    with site.authority() as authority:
        who = fetch(authority.port, ANALYSIS, limited=True)
    assert (who.fqans, who.limited) == ((ANALYSIS, "/demo"), True)


def test_less_than_the_site_wants_is_refused_unless_it_allows_it(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    with site.authority(leave_out=True) as authority:
        lacking = refused(lambda: fetch(authority.port, ANALYSIS, ADMIN), tmp_path)
        assert lacking == (Outcome.CREDENTIAL, Reason.VOMS_SUBSET, False)
        assert fetch(authority.port, ANALYSIS, ADMIN, allow_subset=True).fqans == (ANALYSIS, "/demo")


def test_what_the_vo_says_of_an_owner_is_the_owners_business(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    with site.authority(suspended={site.alice.dn: "left"}) as authority:
        suspended = refused(lambda: fetch(authority.port), tmp_path)
        stranger = refused(lambda: fetch(authority.port, who=site.mallory), tmp_path)
    assert suspended == (Outcome.CREDENTIAL, Reason.VOMS_SUSPENDED, False)
    assert stranger == (Outcome.CREDENTIAL, Reason.VOMS_NOT_MEMBER, False)
    with site.authority() as authority:
        without = refused(lambda: fetch(authority.port, ADMIN), tmp_path)
    assert without == (Outcome.CREDENTIAL, Reason.VOMS_SERVER_REFUSED, False)


def test_what_is_wrong_with_the_server_or_the_files_here_is_the_nodes(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    node = Outcome.INFRASTRUCTURE
    assert refused(lambda: fetch(1), tmp_path) == (node, Reason.VOMS_SERVER_UNREACHABLE, True)
    imposter = site.grid.host("elsewhere.example.org", addresses=())
    with site.authority(certificate=imposter.cert_path, key=imposter.key_path) as authority:
        assert refused(lambda: fetch(authority.port), tmp_path) == (node, Reason.VOMS_SERVER_IDENTITY, True)
    empty = tmp_path / "vomsdir"
    empty.mkdir(mode=0o755)
    with site.authority() as authority:
        unknown = refused(lambda: fetch(authority.port, voms_dir=empty), tmp_path)
    assert unknown == (node, Reason.VOMS_LSC_UNUSABLE, True)


def test_which_vo_is_asked_follows_from_what_the_job_wants(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    lsc = site.grid.voms_dir / "second" / "localhost.lsc"
    lsc.parent.mkdir(mode=0o755, exist_ok=True)
    lsc.write_text(f"{site.host.dn}\n{site.grid.ca_dn}\n")
    lsc.chmod(0o644)
    members = {site.alice.dn: ("/second", "/second/Role=production")}
    with site.authority() as first, site.authority(vo="second", members=members) as second:
        vomses = tmp_path / "second.vomses"
        vomses.write_text(f'"second" "localhost" "{second.port}" "{site.host.dn}" "second"\n')
        others = (VomsConfig(vo="second", vomses=vomses, wait_seconds=1),)
        # A job that says nothing gets what the site wants of the first VO.
        assert fetch(first.port, ANALYSIS, others=others).fqans == (ANALYSIS, "/demo")
        wanted = ("/second/Role=production",)
        who = fetch(first.port, ANALYSIS, others=others, wanted=wanted)
        assert (who.vo, who.fqans) == ("second", ("/second/Role=production", "/second"))
        # Of the first VO: what the job wants, not what the site does.
        assert fetch(first.port, ANALYSIS, others=others, wanted=("/demo",)).fqans == ("/demo",)
        (tmp_path / "proxy").unlink()
        lacking = refused(lambda: fetch(first.port, others=others, wanted=("/second/Role=admin",)), tmp_path)
        assert lacking == (Outcome.CREDENTIAL, Reason.VOMS_SERVER_REFUSED, False)
    unknown = refused(lambda: fetch(1, wanted=("/third",)), tmp_path)
    assert unknown == (Outcome.INFRASTRUCTURE, Reason.VOMSES_NOT_FOUND, True)


def test_a_proxy_with_attributes_must_have_those_that_the_job_wants(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    own = site.grid.voms_proxy(site.alice, tmp_path / "own.pem", fqans=("/demo/Role=own", "/demo"))
    assert fetch(1, source=own, wanted=("/demo/Role=own",)).fqans == ("/demo/Role=own", "/demo")
    (tmp_path / "proxy").unlink()
    for wanted in ((ANALYSIS,), ("/demo", "/demo/Role=own"), ("/other",)):
        lacking = refused(functools.partial(fetch, 1, source=own, wanted=wanted), tmp_path)
        assert lacking == (Outcome.CREDENTIAL, Reason.VOMS_SUBSET, False)


def test_a_proxy_that_allows_none_below_it_is_refused_before_a_server_is_asked(
    site: Site, fetch: Fetch, tmp_path: Path
) -> None:
    """Port 1 answers nobody, which would be the node's failure after many tries."""
    with pytest.raises(ProxyRefused, match=r"allows no further one below it.*path_length"):
        fetch(1, ANALYSIS, path_length=0)
    assert refused(lambda: fetch(1, ANALYSIS, path_length=0), tmp_path) == (
        Outcome.CREDENTIAL,
        Reason.PROXY_PATH_LENGTH,
        False,
    )
    with site.authority() as authority:
        assert fetch(authority.port, ANALYSIS, path_length=1).fqans == (ANALYSIS, "/demo")


class TestWhenAttributesEndBeforeTheirProxy:
    """The pilot renews by itself, in time."""

    NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
    LATER = NOW + 100 * HOUR

    def after(self, hours: float) -> datetime.datetime:
        return self.NOW + hours * HOUR

    def due(self, fetched: Fetched, needed_until: datetime.datetime = LATER, draw: float = 0.0) -> object:
        return attributes_due(fetched, self.NOW, needed_until=needed_until, draw=lambda: draw)

    def test_the_renewal_is_where_the_servers_would_be_if_the_proxy_ended_with_them(self) -> None:
        fetched = Fetched(self.after(24), self.after(10))
        assert self.due(fetched) == 6 * HOUR
        assert 7.3 * HOUR < self.due(fetched, draw=1.0) < 7.4 * HOUR  # type: ignore[operator]
        assert fetched.end == self.after(10)

    @pytest.mark.parametrize("hours", [None, 24, 23.99, 30])
    def test_there_is_none_when_they_end_with_the_proxy_or_there_are_none(self, hours: float | None) -> None:
        fetched = Fetched(self.after(24), None if hours is None else self.after(hours))
        assert self.due(fetched) is None

    def test_there_is_none_when_the_attempt_is_over_by_then(self) -> None:
        fetched = Fetched(self.after(24), self.after(10))
        assert self.due(fetched, self.after(9)) is None
        assert self.due(fetched, self.after(11)) is not None

    def test_what_is_late_is_done_soon(self) -> None:
        assert self.due(Fetched(self.after(24), self.after(-1))) == datetime.timedelta(seconds=5)

    @pytest.mark.parametrize(
        ("left", "minutes"), [(10, 10), (0.5, 7.5), (0.1, 1.5), (0.02, 1), (0, 10), (-1, 10), (-23.9, None)]
    )
    def test_after_a_failure_it_is_tried_until_the_proxy_ends(self, left: float, minutes: float | None) -> None:
        fetched = Fetched(self.after(left + 24), self.after(left))
        expected = None if minutes is None else datetime.timedelta(minutes=minutes)
        assert next_try(fetched, self.NOW) == expected
