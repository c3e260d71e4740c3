"""Parsed chains: the same answer as from the bytes, bounded, no key within."""

import datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import make_key
from pilotage.x509.proxies import sign_proxy
from pilotage_server.credentials.issuers import Issuers

NOW = datetime.datetime.now(datetime.UTC)
HOUR = datetime.timedelta(hours=1)


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> list[LocalIdentity]:
    grid = ToyGrid(tmp_path_factory.mktemp("grid"))
    return [_proxy(grid.user(f"owner {number}")) for number in range(3)]


def _proxy(person: Identity) -> LocalIdentity:
    own, key = load_identity(person.cert_path, person.key_path), make_key()
    made = sign_proxy(own.chain, own.key, key.public_key(), lifetime=HOUR, now=NOW)
    return LocalIdentity(chain=(made, *own.chain), key=key, source="")


def test_a_chain_that_comes_again_is_not_parsed_again(owners: list[LocalIdentity]) -> None:
    issuers = Issuers()
    chain = owners[0].chain_der
    assert issuers.of(chain) is issuers.of([bytes(bytearray(one)) for one in chain])


def test_another_chain_is_another_issuer_whatever_the_cuts(owners: list[LocalIdentity]) -> None:
    issuers = Issuers()
    first, second = (owner.chain_der for owner in owners[:2])
    assert issuers.of(first) is not issuers.of(second)
    with pytest.raises(PilotageError) as caught:
        issuers.of([b"".join(first)])
    assert caught.value.reason is Reason.PROXY_MALFORMED


def test_a_proxy_of_a_kept_chain_still_needs_its_key(owners: list[LocalIdentity]) -> None:
    issuers = Issuers()
    public = make_key().public_key()
    for _ in range(2):
        with pytest.raises(PilotageError) as caught:
            issuers.of(owners[0].chain_der).sign(owners[1].key, public, lifetime=HOUR, now=NOW)
        assert caught.value.reason is Reason.KEY_MISMATCH
    made = issuers.of(owners[0].chain_der).sign(owners[0].key, public, lifetime=HOUR, now=NOW)
    made.verify_directly_issued_by(owners[0].chain[0])


def test_a_kept_chain_ends_when_it_ends(owners: list[LocalIdentity]) -> None:
    issuer = Issuers().of(owners[0].chain_der)
    public = make_key().public_key()
    issuer.sign(owners[0].key, public, lifetime=HOUR, now=NOW)
    with pytest.raises(PilotageError) as caught:
        issuer.sign(owners[0].key, public, lifetime=HOUR, now=owners[0].chain[0].not_valid_after_utc)
    assert caught.value.reason is Reason.PROXY_EXPIRED


def test_the_least_lately_used_chain_is_forgotten_first(owners: list[LocalIdentity]) -> None:
    issuers = Issuers(size=2)
    first, second, third = (owner.chain_der for owner in owners)
    kept, lost = issuers.of(first), issuers.of(second)
    assert issuers.of(first) is kept
    issuers.of(third)
    assert issuers.of(first) is kept
    assert issuers.of(second) is not lost


def test_nothing_is_kept_of_a_chain_that_is_none(owners: list[LocalIdentity]) -> None:
    issuers = Issuers()
    encoded = owners[0].chain[0].public_bytes(Encoding.PEM)
    for _ in range(2):
        with pytest.raises(PilotageError) as caught:
            issuers.of([encoded])
        assert caught.value.reason is Reason.PROXY_MALFORMED
    assert not issuers._known
