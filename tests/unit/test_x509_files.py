"""Identity files: found in the order of grid tools, and refused when they are not private."""

import os
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from toygrid import ToyGrid

import pilotage_helper
from pilotage.errors import CredentialFileError, PilotageError
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509 import files
from pilotage.x509.files import LocalIdentity, find_identity, load_identity, proxy_path, write_private, write_proxy
from pilotage.x509.names import slash_form


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ToyGrid:
    return ToyGrid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def proxy(grid: ToyGrid) -> Path:
    return grid.plain_proxy(grid.user("Alice"), grid.root / "proxy.pem")


@pytest.fixture
def copy(proxy: Path, tmp_path: Path) -> Path:
    path = tmp_path / "proxy.pem"
    write_private(path, proxy.read_bytes())
    return path


def why_not(path: Path, key: Path | None = None) -> str:
    with pytest.raises(CredentialFileError) as caught:
        load_identity(path, key)
    assert caught.value.reason is Reason.IDENTITY_FILE_UNUSABLE
    assert caught.value.exit_code == 4
    assert caught.value.message.startswith(str(key if key is not None else path))
    return caught.value.message


def test_globus_and_we_read_the_same_file(proxy: Path, tmp_path: Path) -> None:
    identity = load_identity(proxy)
    assert len(identity.chain) == 2
    assert identity.chain[0].public_key() == identity.key.public_key()
    write_proxy(tmp_path / "again.pem", identity.chain, identity.key)
    again = load_identity(tmp_path / "again.pem")
    assert again.chain == identity.chain
    labels = [line for line in (tmp_path / "again.pem").read_text().splitlines() if line.startswith("-----BEGIN")]
    assert labels == [
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----",
    ]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601])
def test_a_file_that_others_may_use_is_refused_with_what_to_type(mode: int, copy: Path) -> None:
    copy.chmod(mode)
    assert f"chmod 600 {copy}" in why_not(copy)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_taken(mode: int, copy: Path) -> None:
    copy.chmod(mode)
    load_identity(copy)


def test_somebody_elses_file_is_refused(copy: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it gives a file away")
    os.chown(copy, 4711, 4711)
    assert "belongs to uid 4711" in why_not(copy)
    load_identity(copy, uid=4711)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "not a regular file" in why_not(tmp_path / "fifo")
    assert "not a regular file" in why_not(tmp_path)
    assert "does not exist" in why_not(tmp_path / "absent")


def test_what_is_no_proxy_is_refused(copy: Path, grid: ToyGrid, tmp_path: Path) -> None:
    text = copy.read_text()
    key_at = text.index("-----END CERTIFICATE-----\n") + len("-----END CERTIFICATE-----\n")
    rest_at = text.rindex("-----BEGIN CERTIFICATE")
    write_private(copy, text[key_at:rest_at].encode())
    assert "no certificate" in why_not(copy)
    write_private(copy, (text[:key_at] + text[rest_at:]).encode())
    assert "no private key" in why_not(copy)
    write_private(copy, b"x" * (files.LARGEST_FILE_BYTES + 1))
    assert "larger than any proxy" in why_not(copy)
    alice, bob = grid.user("Another"), grid.user("Bob")
    assert "not the certificate's" in why_not(alice.cert_path, bob.key_path)


def test_an_encrypted_key_is_refused_with_what_to_do(grid: ToyGrid, tmp_path: Path) -> None:
    who = grid.user("Careful")
    key = load_identity(who.cert_path, who.key_path).key
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    write_private(tmp_path / "key.pem", encrypted)
    message = why_not(who.cert_path, tmp_path / "key.pem")
    assert "encrypted" in message
    assert "voms-proxy-init" in message


def test_trust_anchors_in_a_file_are_left_out(copy: Path, grid: ToyGrid) -> None:
    write_private(copy, copy.read_bytes() + (grid.root / "ca.pem").read_bytes())
    assert len(load_identity(copy).chain) == 2


def test_an_identity_is_looked_for_in_the_order_of_grid_tools(
    grid: ToyGrid, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard = tmp_path / "x509up_u1"
    monkeypatch.setattr(files, "proxy_path", lambda uid: standard)
    uid = os.geteuid()
    who = grid.user("Dora")
    home = tmp_path / "home"
    (home / ".globus").mkdir(parents=True)
    environ = {"HOME": str(home)}
    with pytest.raises(PilotageError) as caught:
        find_identity(environ, uid)
    assert caught.value.reason is Reason.IDENTITY_NOT_FOUND
    assert "voms-proxy-init" in caught.value.message
    (home / ".globus" / "usercert.pem").write_bytes(who.cert_path.read_bytes())
    write_private(home / ".globus" / "userkey.pem", who.key_path.read_bytes())
    assert find_identity(environ, uid).source == str(home / ".globus" / "usercert.pem")
    environ |= {"X509_USER_CERT": str(who.cert_path), "X509_USER_KEY": str(who.key_path)}
    assert find_identity(environ, uid).source == str(who.cert_path)
    standard.symlink_to(copy)
    assert find_identity(environ, uid).source == str(standard)
    environ["X509_USER_PROXY"] = str(copy)
    assert find_identity(environ, uid).source == str(copy)


def test_a_named_place_that_is_unusable_is_no_reason_to_look_elsewhere(tmp_path: Path) -> None:
    for environ in (
        {"X509_USER_PROXY": str(tmp_path / "absent")},
        {"X509_USER_CERT": str(tmp_path / "absent"), "HOME": str(tmp_path)},
    ):
        if proxy_path(os.geteuid()).exists() and "X509_USER_PROXY" not in environ:
            continue
        with pytest.raises(PilotageError) as caught:
            find_identity(environ, os.geteuid())
        assert caught.value.reason is Reason.IDENTITY_FILE_UNUSABLE


def test_a_private_file_is_private_from_its_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    old = os.umask(0)
    try:
        write_private(path, b"one")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o7777 == 0o600

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="disk full"):
        write_private(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_names_are_written_as_openssl_does(grid: ToyGrid) -> None:
    who = grid.user('Ünï "quote" / slash + plus')
    name = slash_form(load_identity(who.cert_path, who.key_path).chain[0].subject)
    assert name == '/O=Toy Grid/CN=\\xC3\\x9Cn\\xC3\\xAF "quote" / slash + plus'


@pytest.mark.parametrize("cn", ["Alice", 'Ünï "quote" / slash + plus', "Robot: pilot (1)", "a@b.ch"])
def test_names_are_written_as_the_verifier_does(cn: str, grid: ToyGrid) -> None:
    who = grid.user(cn)
    options = pilotage_helper.VerifyOptions(ca_dir=grid.ca_dir, voms_dir=grid.voms_dir)
    verified = pilotage_helper.verify_pem(who.cert_path.read_bytes(), options)
    assert slash_form(load_identity(who.cert_path, who.key_path).chain[0].subject) == verified.dn


# encrypted keys and PKCS#12


PASSPHRASE = Secret("open sesame")


@pytest.fixture(scope="module")
def dave(grid: ToyGrid) -> LocalIdentity:
    who = grid.user("Dave")
    return load_identity(who.cert_path, who.key_path)


def encrypted_pem(identity: LocalIdentity, folder: Path) -> tuple[Path, Path]:
    """Write a certificate and its key as ~/.globus holds them: the key encrypted."""
    pem = serialization.Encoding.PEM
    sealed = serialization.BestAvailableEncryption(PASSPHRASE.reveal())
    key = identity.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, sealed)
    write_private(folder / "usercert.pem", identity.chain[0].public_bytes(pem))
    write_private(folder / "userkey.pem", key)
    return folder / "usercert.pem", folder / "userkey.pem"


def pkcs12_file(identity: LocalIdentity, path: Path, passphrase: Secret | None = PASSPHRASE, *others: Path) -> Path:
    """Write a PKCS#12 file as OpenSSL and browsers do, with other certificates beside."""
    more = [x509.load_pem_x509_certificate(other.read_bytes()) for other in others]
    sealed = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase.reveal())
    )
    assert isinstance(identity.key, rsa.RSAPrivateKey)
    write_private(path, pkcs12.serialize_key_and_certificates(b"dave", identity.key, identity.chain[0], more, sealed))
    return path


def test_an_encrypted_key_is_opened_with_the_pass_phrase_of_a_person(dave: LocalIdentity, tmp_path: Path) -> None:
    certificate, key = encrypted_pem(dave, tmp_path)
    asked: list[Path] = []

    def ask(path: Path) -> Secret:
        asked.append(path)
        return PASSPHRASE

    assert load_identity(certificate, key, ask=ask).key.private_numbers() == dave.key.private_numbers()
    assert asked == [key]
    assert "nobody can be asked here" in why_not(certificate, key)


def test_a_wrong_pass_phrase_is_told(dave: LocalIdentity, tmp_path: Path) -> None:
    for files_given in (encrypted_pem(dave, tmp_path), (pkcs12_file(dave, tmp_path / "dave.p12"), None)):
        with pytest.raises(CredentialFileError, match="the pass phrase does not open it") as caught:
            load_identity(*files_given, ask=lambda _: Secret("guess"))
        assert "guess" not in str(caught.value)


def test_a_key_in_the_clear_asks_for_nothing(dave: LocalIdentity, proxy: Path, tmp_path: Path) -> None:
    def ask(path: Path) -> Secret:
        raise AssertionError(path)

    load_identity(proxy, ask=ask)
    load_identity(pkcs12_file(dave, tmp_path / "open.p12", None), ask=ask)


def test_a_pkcs12_file_is_a_certificate_and_its_key(dave: LocalIdentity, grid: ToyGrid, tmp_path: Path) -> None:
    anchors = sorted(grid.ca_dir.glob("*.0"))[:1]
    path = pkcs12_file(dave, tmp_path / "dave.PFX", PASSPHRASE, *anchors)
    found = load_identity(path, ask=lambda _: PASSPHRASE)
    assert found.chain == dave.chain
    assert found.key.private_numbers() == dave.key.private_numbers()
    assert "nobody can be asked" in why_not(path)
    path.chmod(0o644)
    assert f"chmod 600 {path}" in why_not(path)
    write_private(path, b"no such thing")
    with pytest.raises(CredentialFileError, match="the pass phrase does not open it"):
        load_identity(path, ask=lambda _: PASSPHRASE)


def test_what_openssl_exports_is_read(dave: LocalIdentity, grid: ToyGrid, tmp_path: Path) -> None:
    who = grid.user("Erin")
    path = tmp_path / "erin.p12"
    command: list[str | Path] = [
        "openssl",
        "pkcs12",
        "-export",
        "-in",
        who.cert_path,
        "-inkey",
        who.key_path,
        "-out",
        path,
    ]
    subprocess.run([*command, "-passout", "pass:open sesame"], check=True, capture_output=True)
    path.chmod(0o600)
    assert slash_form(load_identity(path, ask=lambda _: PASSPHRASE).chain[0].subject) == who.dn


def test_a_home_with_a_pkcs12_file_is_enough(dave: LocalIdentity, tmp_path: Path) -> None:
    folder = tmp_path / ".globus"
    folder.mkdir()
    pkcs12_file(dave, folder / "usercred.p12")
    uid = os.geteuid() + 54321
    places = [place for place in files.identity_places({"HOME": str(tmp_path)}, uid) if place.taken]
    assert [place.certificate for place in places] == [folder / "usercred.p12"]
    found = files.load_place(places[0], os.geteuid(), lambda _: PASSPHRASE)
    assert found.chain == dave.chain
    named = files.identity_places({"X509_USER_CERT": str(folder / "usercred.p12")}, uid)
    assert [place.certificate for place in named if place.taken] == [folder / "usercred.p12"]
