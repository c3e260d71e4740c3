"""Uploaded keys: whose parameters they bring must not keep the service busy, and each mistake has its reason."""

import base64
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.myproxy.messages import LARGEST_TEXT
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.gateway.uploads import PBES2, PBKDF2, open_key, parse_upload


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return ToyGrid(tmp_path_factory.mktemp("grid")).user("Alice")


def why(content: bytes) -> Reason:
    with pytest.raises(PilotageError) as caught:
        parse_upload(content)
    return caught.value.reason


def openssl(alice: Identity, out: Path, *options: str) -> bytes:
    command = ["openssl", "pkcs8", "-topk8", "-in", str(alice.key_path), "-passout", "pass:secret", "-out", str(out)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return alice.cert_path.read_bytes() + out.read_bytes()


def test_a_plain_key_and_one_of_either_encrypted_form_are_read(alice: Identity) -> None:
    certificate, plain = alice.cert_path.read_bytes(), alice.key_path.read_bytes()
    key = load_pem_private_key(plain, None)
    assert not parse_upload(certificate + plain).encrypted
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        closed = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
        upload = parse_upload(certificate + closed)
        assert upload.encrypted
        assert upload.key == Secret(closed)
        assert open_key(upload.key, Secret("secret")).public_key() == upload.public_key
        with pytest.raises(PilotageError, match="PASSPHRASE_WRONG"):
            open_key(upload.key, Secret("wrong"))


def test_a_key_that_would_take_hours_to_open_is_refused(alice: Identity, tmp_path: Path) -> None:
    fine = openssl(alice, tmp_path / "k", "-iter", "10000")
    assert parse_upload(fine).encrypted
    for iterations in ("3000000", "2000001"):
        assert why(openssl(alice, tmp_path / "k", "-iter", iterations)) is Reason.KEY_KIND_REFUSED
    assert why(openssl(alice, tmp_path / "k", "-scrypt", "-scrypt_N", "16384")) is Reason.KEY_KIND_REFUSED


def test_headers_hide_no_effort(alice: Identity, tmp_path: Path) -> None:
    """Those who open a key skip the headers of PEM; who looks for its iterations must not read them in its place."""
    costly = openssl(alice, tmp_path / "k", "-iter", "3000000")
    pbkdf2 = b"\x04\x08" + bytes(8) + b"\x02\x02\x08\x00"
    kdf = b"\x30\x1b\x06\x09" + PBKDF2 + b"\x30\x0e" + pbkdf2
    harmless = b"\x30\x2a\x30\x28\x06\x09" + PBES2 + kdf + b"\x04" * 1
    harmless += bytes(-len(harmless) % 3)
    shown = base64.b64encode(harmless)
    assert not shown.endswith(b"=")
    hidden = costly.replace(b"ENCRYPTED PRIVATE KEY-----\n", b"ENCRYPTED PRIVATE KEY-----\n" + shown[:4] + b": ", 1)
    hidden = hidden.replace(shown[:4] + b": ", shown[:4] + b": " + shown[4:] + b"\n\n", 1)
    # The trick does work on those who open it.
    load_pem_private_key(hidden[hidden.index(b"-----BEGIN ENC") :], b"secret")
    assert why(hidden) is Reason.MYPROXY_MALFORMED


def der(tag: int, content: bytes) -> bytes:
    length = len(content).to_bytes(2, "big")
    return bytes([tag, 0x82]) + length + content if len(content) > 255 else bytes([tag, 0x81]) + length[1:] + content


def rsa_pem(p: int, q: int, modulus: int) -> bytes:
    """Return a key file (RFC 8017, A.1.2) of these primes that says it has this modulus."""
    private = pow(65537, -1, (p - 1) * (q - 1))
    parts = (modulus, 65537, private, p, q, private % (p - 1), private % (q - 1), pow(q, -1, p))
    numbers = b"\x02\x01\x00" + b"".join(_integer(part) for part in parts)
    body = base64.encodebytes(der(0x30, numbers)).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{body}-----END RSA PRIVATE KEY-----\n".encode()


def _integer(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return der(0x02, content) if len(content) > 127 else bytes([0x02, len(content)]) + content


def test_primes_that_take_minutes_to_test_are_not_tested(alice: Identity) -> None:
    large, small = 2**9941 - 1, 2**9689 - 1
    others = x509.load_pem_x509_certificate(alice.cert_path.read_bytes()).public_key()
    assert isinstance(others, rsa.RSAPublicKey)
    for primes in (rsa_pem(large, small, large * small), rsa_pem(large, small, others.public_numbers().n)):
        began = time.monotonic()
        with pytest.raises(PilotageError):
            open_key(parse_upload(alice.cert_path.read_bytes() + primes).key, None)
        assert time.monotonic() - began < 5


def test_a_key_whose_primes_are_none_is_refused(alice: Identity) -> None:
    sane = load_pem_private_key(alice.key_path.read_bytes(), None)
    assert isinstance(sane, rsa.RSAPrivateKey)
    numbers = sane.private_numbers()
    odd = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d ^ 2, numbers.dmp1, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    )
    key = odd.private_key(unsafe_skip_rsa_key_validation=True)
    closed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(PilotageError):
        open_key(Secret(closed), Secret("secret"))


def test_an_encryption_described_without_end_is_refused(alice: Identity) -> None:
    deep = b""
    while len(deep) < 11_000:
        length = len(deep)
        deep = b"\x30" + (bytes([length]) if length < 128 else b"\x82" + length.to_bytes(2, "big")) + deep
    body = base64.encodebytes(deep)
    content = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + body + b"-----END ENCRYPTED PRIVATE KEY-----\n"
    assert why(alice.cert_path.read_bytes() + content) is Reason.MYPROXY_MALFORMED


def test_a_file_of_many_beginnings_is_refused_at_once() -> None:
    line = b"-----BEGIN PRIVATE KEY-----\n"
    began = time.monotonic()
    assert why(line * (LARGEST_TEXT // len(line))) is Reason.MYPROXY_MALFORMED
    assert time.monotonic() - began < 0.2


def test_files_that_are_something_else_are_refused(alice: Identity) -> None:
    certificate, key = alice.cert_path.read_bytes(), alice.key_path.read_bytes()
    for content in (b"", certificate, key, certificate + key + key, certificate + key[: len(key) // 2], b"\xff" * 900):
        assert why(content) is Reason.MYPROXY_MALFORMED
    assert why(certificate.replace(b"MII", b"AAA", 1) + key) is Reason.MYPROXY_MALFORMED


@given(st.binary(max_size=300))
def test_no_body_of_an_encrypted_key_does_more_than_be_refused(body: bytes) -> None:
    content = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + body + b"-----END ENCRYPTED PRIVATE KEY-----\n"
    assert why(content) in (Reason.MYPROXY_MALFORMED, Reason.KEY_KIND_REFUSED)
