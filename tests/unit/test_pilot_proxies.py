"""The proxy that a pilot retrieves: for a ready key of its own, verified before it is written."""

import asyncio
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import Outcome
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, PublicKey, make_key
from pilotage.x509.pool import KeyPool
from pilotage.x509.proxies import sign_proxy
from pilotage.x509.requests import check_request
from pilotage_pilot.config import PilotConfig
from pilotage_pilot.lease import Lease
from pilotage_pilot.outcomes import judge_proxy
from pilotage_pilot.payload import Attempt
from pilotage_pilot.proxies import ProxyRefused
from pilotage_pilot.tools import Tools
from support.key_pools import no_more_keys

LEASE = Lease(
    lease_id="lease",
    job_id="job",
    attempt=1,
    owner_dn="",
    command=("/bin/true",),
    environment={},
    input_sandbox="",
    outputs=(),
    cores=1,
    memory_bytes=0,
    disk_bytes=0,
    wall_seconds=60,
    token=Secret(b"token"),
    retrieval_key=Secret(b"key"),
)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ToyGrid:
    return ToyGrid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def alice(grid: ToyGrid) -> Identity:
    return grid.user("Alice", key="ec")


@pytest.fixture
def keys() -> Iterator[KeyPool]:
    with KeyPool(KeyKind.EC_P256, 2) as pool:
        yield pool


class Service:
    """A session that answers with a proxy of whomever it likes, for whichever key."""

    def __init__(self, who: Identity, key: PublicKey | None = None, *, bare: bool = False) -> None:
        self._who: LocalIdentity = load_identity(who.cert_path, who.key_path)
        self._key = key
        self._bare = bare

    async def retrieve_credential(
        self, lease: Lease, request: bytes, lifetime: datetime.timedelta
    ) -> tuple[x509.Certificate, ...]:
        now = datetime.datetime.now(datetime.UTC)
        key = self._key or check_request(request)
        proxy = sign_proxy(self._who.chain, self._who.key, key, lifetime=lifetime, now=now)
        return self._who.chain if self._bare else (proxy, *self._who.chain)


Fetch = Callable[..., Path]


@pytest.fixture
def fetch(grid: ToyGrid, alice: Identity, keys: KeyPool, tmp_path: Path) -> Fetch:
    """Return what retrieves a proxy for a job of Alice's."""

    def run(service: Service, ca_dir: Path | None = None) -> Path:
        config = PilotConfig("localhost:1", ca_dir or grid.ca_dir, tmp_path / "own", tmp_path, "TOY")
        # Of the tools only the session, the keys and the configuration have a part in this.
        tools = Tools(config, service, None, None, keys)  # type: ignore[arg-type]
        lease = msgspec.structs.replace(LEASE, owner_dn=alice.dn)
        return asyncio.run(Attempt(lease, tools, lambda: None)._fetch_proxy(tmp_path))

    return run


def refused(call: Callable[[], object], folder: Path) -> tuple[Outcome, Reason, bool]:
    """Return what an attempt comes to whose proxy is refused; nothing of it may have been written."""
    with pytest.raises(ProxyRefused) as caught:
        call()
    assert not (folder / "proxy").exists()
    verdict = judge_proxy(caught.value.error)
    assert caught.value.error.reason.name == verdict.result.reason
    return verdict.result.outcome, caught.value.error.reason, verdict.blames_node


def test_a_retrieval_takes_a_key_that_is_ready(
    fetch: Fetch, alice: Identity, keys: KeyPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(alice)
    with no_more_keys(monkeypatch, keys):
        path = fetch(service)
        assert keys.ready == keys.size - 1
    assert load_identity(path).chain[1].subject == load_identity(alice.cert_path, alice.key_path).chain[0].subject


def test_a_proxy_of_another_owner_is_not_written(fetch: Fetch, grid: ToyGrid, tmp_path: Path) -> None:
    bob = Service(grid.user("Bob", key="ec"))
    assert refused(lambda: fetch(bob), tmp_path) == (Outcome.CREDENTIAL, Reason.DELEGATION_WRONG_OWNER, False)


def test_a_proxy_for_another_key_is_not_written(fetch: Fetch, alice: Identity, tmp_path: Path) -> None:
    service = Service(alice, make_key(KeyKind.EC_P256).public_key())
    assert refused(lambda: fetch(service), tmp_path) == (Outcome.CREDENTIAL, Reason.KEY_MISMATCH, False)


def test_a_chain_that_is_no_proxy_is_not_written(fetch: Fetch, alice: Identity, tmp_path: Path) -> None:
    service = Service(alice, bare=True)
    assert refused(lambda: fetch(service), tmp_path) == (Outcome.CREDENTIAL, Reason.NOT_A_PROXY, False)


def test_a_proxy_of_an_unknown_authority_is_not_written(fetch: Fetch, alice: Identity, tmp_path: Path) -> None:
    """The name is the owner's, the authority is not: whoever can name a certificate is not the owner yet."""
    namesake = ToyGrid(tmp_path / "other").user("Alice", key="ec")
    assert namesake.dn == alice.dn
    outcome, reason, blames_node = refused(lambda: fetch(Service(namesake)), tmp_path)
    assert (outcome, blames_node) == (Outcome.CREDENTIAL, False)
    assert reason in (Reason.CHAIN_UNKNOWN_CA, Reason.CHAIN_SIGNATURE)


def test_a_revoked_owner_is_refused_and_a_stale_list_is_the_nodes_fault(tmp_path: Path) -> None:
    grid = ToyGrid(tmp_path / "grid")
    alice = grid.user("Alice", key="ec")
    config = PilotConfig("localhost:1", grid.ca_dir, tmp_path / "own", tmp_path, "TOY")
    with KeyPool(KeyKind.EC_P256, 0) as keys:
        tools = Tools(config, Service(alice), None, None, keys)  # type: ignore[arg-type]

        def fetch() -> Path:
            lease = msgspec.structs.replace(LEASE, owner_dn=alice.dn)
            return asyncio.run(Attempt(lease, tools, lambda: None)._fetch_proxy(tmp_path))

        grid.write_crl(days=-2)
        assert refused(fetch, tmp_path) == (Outcome.INFRASTRUCTURE, Reason.CRL_EXPIRED, True)
        grid.revoke(alice)
        assert refused(fetch, tmp_path) == (Outcome.CREDENTIAL, Reason.CERTIFICATE_REVOKED, False)
