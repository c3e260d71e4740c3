"""Uploaded keys: whose parameters they bring must not keep the service busy, and each mistake has its reason."""

import subprocess
from pathlib import Path

import pytest
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
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.gateway.uploads import open_key, parse_upload


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


def test_files_that_are_something_else_are_refused(alice: Identity) -> None:
    certificate, key = alice.cert_path.read_bytes(), alice.key_path.read_bytes()
    for content in (b"", certificate, key, certificate + key + key, certificate + key[: len(key) // 2], b"\xff" * 900):
        assert why(content) is Reason.MYPROXY_MALFORMED
    assert why(certificate.replace(b"MII", b"AAA", 1) + key) is Reason.MYPROXY_MALFORMED


@given(st.binary(max_size=300))
def test_no_body_of_an_encrypted_key_does_more_than_be_refused(body: bytes) -> None:
    content = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + body + b"-----END ENCRYPTED PRIVATE KEY-----\n"
    assert why(content) in (Reason.MYPROXY_MALFORMED, Reason.KEY_KIND_REFUSED)
