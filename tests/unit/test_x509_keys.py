"""Keys, the pool of ready ones, and the requests they make."""

import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.errors import CredentialError, PilotageError
from pilotage.reasons import Reason
from pilotage.x509.keys import KeyKind, check_public_key, key_from_der, key_to_der, kind_of, make_key
from pilotage.x509.names import slash_form
from pilotage.x509.pool import KeyPool
from pilotage.x509.requests import SUBJECT, check_request, make_request

RSA_KEY = make_key(KeyKind.RSA_2048)
EC_KEY = make_key(KeyKind.EC_P256)


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_request_carries_its_key(kind: KeyKind) -> None:
    key = make_key(kind)
    public = check_request(make_request(key))
    assert public == key.public_key()
    assert kind_of(public) is kind
    assert key_from_der(key_to_der(key)).public_key() == public


def test_a_stored_key_that_is_none_is_refused() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for der in (b"", b"rubbish", edwards):
        with pytest.raises(CredentialError):
            key_from_der(der)


def request_reason(der: bytes) -> Reason:
    with pytest.raises(PilotageError) as caught:
        check_request(der)
    return caught.value.reason


def test_a_request_signed_by_another_key_is_refused() -> None:
    der = make_request(EC_KEY)
    assert request_reason(der[:-1] + bytes([der[-1] ^ 1])) is Reason.CSR_INVALID
    assert request_reason(b"") is Reason.CSR_INVALID
    assert request_reason(der + b"\0") is Reason.CSR_INVALID
    assert request_reason(b"\x30" * 20_000) is Reason.CSR_INVALID


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(3, 2048),
        ec.generate_private_key(ec.SECP256K1()),
    ],
)
def test_weak_and_strange_keys_are_refused(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    der = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT).sign(key, hashes.SHA256())
    assert request_reason(der.public_bytes(serialization.Encoding.DER)) is Reason.KEY_KIND_REFUSED


def test_an_edwards_key_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    der = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT).sign(key, None)
    assert request_reason(der.public_bytes(serialization.Encoding.DER)) is Reason.KEY_KIND_REFUSED
    with pytest.raises(CredentialError):
        check_public_key(key.public_key())


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=600))
def test_rubbish_is_no_request(data: bytes) -> None:
    with pytest.raises(CredentialError):
        check_request(data)


def test_a_pool_refills_itself_and_gives_no_key_twice() -> None:
    with KeyPool(KeyKind.EC_P256, 4) as pool:
        taken = [pool.take() for _ in range(20)]
        assert len({key_to_der(pair.key) for pair in taken}) == 20
        assert all(check_request(pair.request) == pair.key.public_key() for pair in taken)
        full = threading.Event()
        for _ in range(500):
            if pool.ready == 4:
                break
            full.wait(0.01)
        assert pool.ready == 4


def pool_threads() -> int:
    return sum(thread.name.startswith("pilotage-keys") for thread in threading.enumerate())


def test_a_closed_pool_has_no_threads_left_and_still_gives_keys() -> None:
    before = pool_threads()
    pool = KeyPool(KeyKind.EC_P256, 2, threads=3)
    pool.close()
    assert pool_threads() == before
    assert pool.ready == 0
    assert pool.take_ready() is None
    assert isinstance(pool.take().key, ec.EllipticCurvePrivateKey)
    pool.close()


def test_a_pool_of_none_starts_no_thread() -> None:
    before = pool_threads()
    pool = KeyPool(KeyKind.EC_P256, 0)
    assert pool_threads() == before
    pool.take()
    pool.close()


def test_the_slash_form_knows_the_attributes_of_real_grids() -> None:
    name = x509.Name.from_rfc4514_string("CN=Robot - pilot,OU=Users,O=CERN,C=CH,DC=cern,DC=ch")
    assert slash_form(name) == "/DC=ch/DC=cern/C=CH/O=CERN/OU=Users/CN=Robot - pilot"
    mail = x509.Name(
        [x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "a@b.ch"), x509.NameAttribute(x509.NameOID.USER_ID, "alice")]
    )
    assert slash_form(mail) == "/emailAddress=a@b.ch/UID=alice"
    assert slash_form(x509.Name([x509.NameAttribute(x509.ObjectIdentifier("1.2.3.4"), "x")])) == "/1.2.3.4=x"
