"""Proxies that Pilotage signs, shown to OpenSSL and to Globus."""

import datetime
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toygrid import ToyGrid

import pilotage_helper
from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.x509.der import encode_proxy_info, raw_names
from pilotage.x509.files import load_identity, write_proxy
from pilotage.x509.keys import KeyKind, PrivateKey, make_key, thumbprint
from pilotage.x509.proxies import (
    INHERIT_ALL,
    LIMITED,
    PROXY_CERT_INFO,
    chain_end,
    end_entity,
    is_limited,
    is_proxy,
    proxy_info,
    same_key,
    sign_proxy,
)

HOUR = datetime.timedelta(hours=1)
NOW = datetime.datetime.now(datetime.UTC)
Chain = tuple[x509.Certificate, ...]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ToyGrid:
    return ToyGrid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def alice(grid: ToyGrid) -> tuple[Chain, PrivateKey]:
    who = grid.user("Alice")
    identity = load_identity(who.cert_path, who.key_path)
    return identity.chain, identity.key


@pytest.fixture(scope="module")
def keys() -> list[PrivateKey]:
    return [make_key(KeyKind.RSA_2048) for _ in range(3)]


def build(chain: Chain, key: PrivateKey, keys: Sequence[PrivateKey], *, limited: Sequence[bool] = ()) -> Chain:
    """Sign one proxy below the other, for an hour from now: this file may be loaded long before its turn comes."""
    now = datetime.datetime.now(datetime.UTC)
    for number, new_key in enumerate(keys):
        wish = limited[number] if number < len(limited) else False
        proxy = sign_proxy(chain, key, new_key.public_key(), lifetime=HOUR, limited=wish, now=now)
        chain, key = (proxy, *chain), new_key
    return chain


def openssl_says(chain: Chain, grid: ToyGrid, folder: Path) -> str:
    leaf, rest = folder / "leaf.pem", folder / "rest.pem"
    leaf.write_bytes(chain[0].public_bytes(serialization.Encoding.PEM))
    rest.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain[1:]))
    command = ["openssl", "verify", "-allow_proxy_certs", "-x509_strict", "-crl_check_all"]
    command += ["-CApath", str(grid.ca_dir), "-untrusted", str(rest), str(leaf)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_openssl_accepts_a_proxy_of_any_depth(
    depth: int, grid: ToyGrid, alice: tuple[Chain, PrivateKey], keys: list[PrivateKey], tmp_path: Path
) -> None:
    chain = build(*alice, keys[:depth])
    assert openssl_says(chain, grid, tmp_path).endswith("leaf.pem: OK\n")


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("limited", [False, True])
def test_our_own_verifier_accepts_a_proxy_of_any_depth(
    depth: int, limited: bool, grid: ToyGrid, alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]
) -> None:
    chain = build(*alice, keys[:depth], limited=[limited])
    options = pilotage_helper.VerifyOptions(ca_dir=grid.ca_dir, voms_dir=grid.voms_dir)
    identity = pilotage_helper.verify_chain([c.public_bytes(serialization.Encoding.DER) for c in chain], options)
    assert (identity.dn, identity.depth, identity.limited) == ("/O=Toy Grid/CN=Alice", depth, limited)
    assert identity.leaf_thumbprint == thumbprint(keys[depth - 1].public_key())


@pytest.mark.interop
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("limited", [False, True])
def test_globus_reads_a_proxy_of_any_depth(
    depth: int,
    limited: bool,
    grid: ToyGrid,
    alice: tuple[Chain, PrivateKey],
    keys: list[PrivateKey],
    tmp_path: Path,
) -> None:
    chain = build(*alice, keys[:depth], limited=[limited])
    path = tmp_path / "proxy.pem"
    write_proxy(path, chain, keys[depth - 1])
    environ = {"PATH": "/usr/bin:/bin", "X509_CERT_DIR": str(grid.ca_dir), "HOME": str(tmp_path)}
    command = ["grid-proxy-info", "-file", str(path)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    facts = dict(line.split(" : ", 1) for line in done.stdout.splitlines() if " : " in line)
    facts = {name.strip(): value for name, value in facts.items()}
    assert facts["identity"] == "/O=Toy Grid/CN=Alice"
    assert facts["type"] == f"RFC 3820 compliant {'limited' if limited else 'impersonation'} proxy"
    exists = subprocess.run([*command, "-exists", "-valid", "0:30"], env=environ, timeout=120)
    assert exists.returncode == 0


@pytest.mark.interop
def test_a_proxy_can_be_signed_below_one_of_voms(grid: ToyGrid, keys: list[PrivateKey], tmp_path: Path) -> None:
    source = load_identity(grid.voms_proxy(grid.user("Vera"), tmp_path / "voms.pem"))
    chain = build(source.chain, source.key, keys[:1])
    assert openssl_says(chain, grid, tmp_path).endswith("leaf.pem: OK\n")
    assert end_entity(chain) == source.chain[-1]


def test_the_names_repeat_the_issuers_bytes(alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]) -> None:
    proxy = build(*alice, keys[:1])[0]
    issuer, subject = raw_names(proxy)
    _, above = raw_names(alice[0][0])
    assert issuer == above
    assert subject.startswith(above)
    common_name = proxy.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[-1].value
    assert common_name == str(proxy.serial_number)
    assert 0 < proxy.serial_number < 2**63


def test_serial_numbers_differ(alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]) -> None:
    assert len({build(*alice, keys[:1])[0].serial_number for _ in range(5)}) == 5


def test_the_extensions_are_those_of_the_recipe(alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]) -> None:
    proxy = build(*alice, keys[:1])[0]
    info = proxy.extensions.get_extension_for_oid(PROXY_CERT_INFO)
    assert info.critical
    usage = proxy.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment
    assert not usage.value.key_cert_sign
    above = alice[0][0].extensions
    assert (
        proxy.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        == above.get_extension_for_class(x509.ExtendedKeyUsage).value
    )
    authority = proxy.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == above.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    for absent in (x509.SubjectAlternativeName, x509.BasicConstraints):
        with pytest.raises(x509.ExtensionNotFound):
            proxy.extensions.get_extension_for_class(absent)


def test_the_policy_languages_are_spelled_as_rfc_3820_does() -> None:
    assert encode_proxy_info(INHERIT_ALL).hex() == "300c300a06082b06010505071501"
    assert encode_proxy_info(INHERIT_ALL, 0).hex() == "300f020100300a06082b06010505071501"
    assert encode_proxy_info(LIMITED).hex() == "300f300d060b2b060104019b5001010109"


def test_everything_below_a_limited_proxy_is_limited(alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]) -> None:
    chain = build(*alice, keys, limited=[False, True, False])
    assert [is_limited(c) for c in chain] == [True, True, False, False]
    assert [is_proxy(c) for c in chain] == [True, True, True, False]
    assert end_entity(chain) == alice[0][0]


def test_a_proxy_begins_five_minutes_ago_and_ends_as_asked(
    alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]
) -> None:
    proxy = sign_proxy(*alice, keys[0].public_key(), lifetime=HOUR, now=NOW)
    assert abs(NOW - datetime.timedelta(minutes=5) - proxy.not_valid_before_utc) < datetime.timedelta(seconds=2)
    assert abs(NOW + HOUR - proxy.not_valid_after_utc) < datetime.timedelta(seconds=2)


def test_a_proxy_lives_within_every_certificate_above_it(
    alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]
) -> None:
    chain = build(*alice, keys[:1])
    long = sign_proxy(chain, keys[0], keys[1].public_key(), lifetime=HOUR * 24 * 365 * 5000, now=NOW)
    assert long.not_valid_after_utc == chain_end(chain) == chain[0].not_valid_after_utc
    assert long.not_valid_before_utc >= chain[0].not_valid_before_utc


def refused(reason: Reason) -> "pytest.RaisesExc[PilotageError]":
    return pytest.raises(PilotageError, check=lambda error: error.reason is reason)


def test_an_ended_chain_signs_nothing(alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]) -> None:
    chain = build(*alice, keys[:1])
    with refused(Reason.PROXY_EXPIRED):
        sign_proxy(chain, keys[0], keys[1].public_key(), lifetime=HOUR, now=NOW + 2 * HOUR)
    with refused(Reason.CERTIFICATE_EXPIRED):
        sign_proxy(alice[0], alice[1], keys[1].public_key(), lifetime=HOUR, now=NOW + 24 * 365 * HOUR)


def test_another_key_signs_nothing(alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]) -> None:
    with refused(Reason.KEY_MISMATCH):
        sign_proxy(alice[0], keys[0], keys[1].public_key(), lifetime=HOUR, now=NOW)
    with refused(Reason.PROXY_EMPTY):
        sign_proxy((), keys[0], keys[1].public_key(), lifetime=HOUR, now=NOW)


def test_an_authority_signs_no_proxies(grid: ToyGrid, keys: list[PrivateKey]) -> None:
    authority = x509.load_pem_x509_certificate((grid.root / "ca.pem").read_bytes())
    key = serialization.load_pem_private_key((grid.root / "ca.key").read_bytes(), None)
    with refused(Reason.CA_AS_END_ENTITY):
        sign_proxy((authority,), key, keys[0].public_key(), lifetime=HOUR, now=NOW)  # type: ignore[arg-type]


def homemade(name: x509.Name, key: PrivateKey, *extensions: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
    """Make a self-signed end-entity certificate."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .serial_number(7)
        .public_key(key.public_key())
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + 24 * HOUR)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(key, hashes.SHA256())


SIMPLE = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bob")])
NO_SIGNATURES = x509.KeyUsage(False, False, True, False, False, False, False, False, False)


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        (NO_SIGNATURES, Reason.PROXY_KEY_USAGE),
        # path length 0; policy "independent"; not proxyCertInfo at all
        (x509.UnrecognizedExtension(PROXY_CERT_INFO, bytes.fromhex("300f020100300a06082b06010505071501")),
         Reason.PROXY_PATH_LENGTH),
        (x509.UnrecognizedExtension(PROXY_CERT_INFO, bytes.fromhex("300c300a06082b06010505071502")),
         Reason.PROXY_POLICY_UNSUPPORTED),
        (x509.UnrecognizedExtension(PROXY_CERT_INFO, b"\x05\x00"), Reason.PROXY_INFO_MALFORMED),
    ],
)  # fmt: skip
def test_what_no_verifier_would_take_is_not_signed(
    extension: x509.ExtensionType, reason: Reason, keys: list[PrivateKey]
) -> None:
    issuer = homemade(SIMPLE, keys[0], (extension, True))
    with refused(reason):
        sign_proxy((issuer,), keys[0], keys[1].public_key(), lifetime=HOUR, now=NOW)


def path_length_of(proxy: x509.Certificate) -> int | None:
    info = proxy_info(proxy)
    assert info is not None
    return info.path_length


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2])
def test_below_a_path_length_stand_as_many_proxies_as_it_says(
    length: int, limited: bool, grid: ToyGrid, alice: tuple[Chain, PrivateKey], keys: list[PrivateKey], tmp_path: Path
) -> None:
    chain, key = alice
    first = sign_proxy(chain, key, keys[0].public_key(), lifetime=HOUR, limited=limited, path_length=length, now=NOW)
    assert path_length_of(first) == length
    chain, key = (first, *chain), keys[0]
    for number in range(length):
        chain = build(chain, key, [keys[number + 1]])
        key = keys[number + 1]
        assert path_length_of(chain[0]) is None
    assert openssl_says(chain, grid, tmp_path).endswith("leaf.pem: OK\n")
    with refused(Reason.PROXY_PATH_LENGTH):
        build(chain, key, [keys[0]])


def test_a_path_length_is_never_more_than_the_proxies_above_allow(
    alice: tuple[Chain, PrivateKey], keys: list[PrivateKey]
) -> None:
    chain, key = alice
    top = sign_proxy(chain, key, keys[0].public_key(), lifetime=HOUR, path_length=2, now=NOW)
    for wish, length in ((5, 1), (1, 1), (0, 0), (None, None)):
        below = sign_proxy((top, *chain), keys[0], keys[1].public_key(), lifetime=HOUR, path_length=wish, now=NOW)
        assert path_length_of(below) == length
    middle = sign_proxy((top, *chain), keys[0], keys[1].public_key(), lifetime=HOUR, now=NOW)
    last = sign_proxy((middle, top, *chain), keys[1], keys[2].public_key(), lifetime=HOUR, path_length=5, now=NOW)
    assert path_length_of(last) == 0


def test_an_elliptic_curve_key_may_sign_and_be_signed(keys: list[PrivateKey]) -> None:
    key = make_key(KeyKind.EC_P256)
    proxy = sign_proxy((homemade(SIMPLE, key),), key, keys[0].public_key(), lifetime=HOUR, now=NOW)
    below = sign_proxy((proxy,), keys[0], key.public_key(), lifetime=HOUR, now=NOW)
    assert not below.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment
    assert same_key(below, key.public_key())
    assert thumbprint(key.public_key()) != thumbprint(keys[0].public_key())
    info = proxy_info(below)
    assert info is not None
    assert info.path_length is None


ATTRIBUTES = st.sampled_from(
    [NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME, NameOID.LOCALITY_NAME]
)
# `cryptography` wants at most 64 bytes in these.
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40).filter(
    lambda text: len(text.encode()) <= 64
)
RDN = st.lists(st.tuples(ATTRIBUTES, VALUES), min_size=1, max_size=3, unique_by=lambda pair: pair[0].dotted_string)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rdns=st.lists(RDN, min_size=1, max_size=5))
def test_any_name_is_repeated_byte_for_byte(rdns: list[list[tuple[x509.ObjectIdentifier, str]]]) -> None:
    name = x509.Name(
        [x509.RelativeDistinguishedName([x509.NameAttribute(oid, value) for oid, value in rdn]) for rdn in rdns]
    )
    key = SIGNER
    issuer = homemade(name, key)
    proxy = sign_proxy((issuer,), key, key.public_key(), lifetime=HOUR, now=NOW)
    assert raw_names(proxy)[0] == raw_names(issuer)[1]
    assert raw_names(proxy)[1].startswith(raw_names(issuer)[1])


SIGNER = make_key(KeyKind.EC_P256)
