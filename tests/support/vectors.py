"""Certificates of every kind, good and hostile, made with `cryptography` and raw DER.

Authority and entities here are those of one small grid in a folder; each function changes exactly
one thing, so that a test can name the one reason for which the verifier must refuse the result.
"""

import base64
import datetime
import functools
import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Sha2 = hashes.SHA256 | hashes.SHA384 | hashes.SHA512
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)

PROXY_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
GT3_DRAFT = x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222")
INHERIT_ALL = "1.3.6.1.5.5.7.21.1"
INDEPENDENT = "1.3.6.1.5.5.7.21.2"
LIMITED = "1.3.6.1.4.1.3536.1.1.1.9"


# DER


def tlv(tag: int, *parts: bytes) -> bytes:
    """Encode one value with a definite length."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def integer(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return tlv(0x02, value.to_bytes(size, "big", signed=True))


def oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    body = b""
    for number in (first * 40 + second, *rest):
        septets = [number & 0x7F]
        while number := number >> 7:
            septets.append(0x80 | (number & 0x7F))
        body += bytes(reversed(septets))
    return tlv(0x06, body)


def proxy_info(language: str = INHERIT_ALL, path: int | None = None, policy: bytes | None = None) -> bytes:
    """Encode a proxyCertInfo value (RFC 3820, 3.8)."""
    length = b"" if path is None else integer(path)
    text = b"" if policy is None else tlv(0x04, policy)
    return sequence(length, sequence(oid(language), text))


# keys and names


@functools.cache
def key(kind: str = "rsa", number: int = 0) -> Key:
    """Return a key; the same kind and number give the same one, since RSA keys are slow to make."""
    del number
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind.removeprefix("rsa") or 2048))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {
        "ec": ec.SECP256R1(),
        "ec384": ec.SECP384R1(),
        "ec521": ec.SECP521R1(),
        "ec256k1": ec.SECP256K1(),
    }
    return ec.generate_private_key(curves[kind])


def name(*parts: str | x509.NameAttribute[str], grid: str = "Test Grid") -> x509.Name:
    """Return /O=grid and one CN for each text."""
    cns = [p if isinstance(p, x509.NameAttribute) else x509.NameAttribute(NameOID.COMMON_NAME, p) for p in parts]
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, grid), *cns])


def below(issuer: x509.Name, *cns: str) -> x509.Name:
    """Return the name of a proxy: the issuer's RDNs and common names."""
    return x509.Name([*issuer.rdns, *(x509.RelativeDistinguishedName([cn_(cn)]) for cn in cns)])


def cn_(text: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, text)


def usage(*bits: str) -> x509.KeyUsage:
    """Return a key usage with only these bits."""
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{n: n in bits for n in names})


# certificates

Extensions = tuple[tuple[x509.ExtensionType, bool], ...]


@dataclass(frozen=True)
class Entity:
    """A certificate, its key, and the chain above it (nearest first, no trust anchor)."""

    certificate: x509.Certificate
    key: Key
    above: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return (self.certificate, *self.above)

    @property
    def pem(self) -> bytes:
        """The file as grid tools write it: certificate, key, issuers."""
        return pem(self.certificate) + key_pem(self.key) + b"".join(map(pem, self.above))

    @property
    def der(self) -> list[bytes]:
        return [der(c) for c in self.chain]


@dataclass(frozen=True)
class Shape:
    """What a certificate is made with; a test replaces one field."""

    subject: x509.Name
    key: Key = field(default_factory=key)
    start: datetime.datetime = NOW - HOUR
    end: datetime.datetime = NOW + DAY
    extensions: Extensions = ()
    digest: Sha2 = field(default_factory=hashes.SHA256)
    issuer: x509.Name | None = None
    serial: int = 0
    key_ids: bool = True


def issue(shape: Shape, issuer: Entity | None) -> x509.Certificate:
    """Sign a certificate; without an issuer it signs itself."""
    parent = shape.subject if issuer is None else issuer.certificate.subject
    signer = shape.key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(shape.subject)
        .issuer_name(shape.issuer or parent)
        .public_key(shape.key.public_key())
        .serial_number(shape.serial or x509.random_serial_number())
        .not_valid_before(shape.start)
        .not_valid_after(shape.end)
    )
    for extension, critical in shape.extensions:
        builder = builder.add_extension(extension, critical)
    if shape.key_ids:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(shape.key.public_key()), False)
        public = signer.public_key()
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False)
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else shape.digest
    return builder.sign(signer, digest)


CA_EXTENSIONS: Extensions = (
    (x509.BasicConstraints(ca=True, path_length=None), True),
    (usage("key_cert_sign", "crl_sign"), True),
)
USER_EXTENSIONS: Extensions = (
    (x509.BasicConstraints(ca=False, path_length=None), True),
    (usage("digital_signature", "key_encipherment"), True),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
)
PROXY_USAGE = usage("digital_signature", "key_encipherment")


def proxy_extensions(value: bytes | None = None, *, critical: bool = True, more: Extensions = ()) -> Extensions:
    """Return a proxy's extensions with the given proxyCertInfo value."""
    info = x509.UnrecognizedExtension(PROXY_INFO, proxy_info() if value is None else value)
    return ((info, critical), (PROXY_USAGE, True), *more)


def proxy_shape(issuer: Entity, **changes: object) -> Shape:
    """Return the shape of a good proxy, changed where a test says so."""
    serial = int.from_bytes(hashlib.sha256(repr(changes).encode()).digest()[:7], "big")
    shape = Shape(
        below(issuer.certificate.subject, str(serial)),
        key("rsa", 7),
        end=NOW + 12 * HOUR,
        extensions=proxy_extensions(),
        serial=serial,
    )
    return replace(shape, **changes)  # type: ignore[arg-type]  # the names are the caller's


def proxy(issuer: Entity, **changes: object) -> Entity:
    """Sign a proxy below an entity."""
    shape = proxy_shape(issuer, **changes)
    return Entity(issue(shape, issuer), shape.key, issuer.chain)


# files


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def block(label: str, data: bytes) -> bytes:
    """Wrap any bytes as PEM."""
    text = base64.b64encode(data)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return b"\n".join([f"-----BEGIN {label}-----".encode(), *lines, f"-----END {label}-----".encode(), b""])


def key_pem(private: Key, *, password: bytes | None = None, traditional: bool = False) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
    lock: serialization.KeySerializationEncryption = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    return private.private_bytes(serialization.Encoding.PEM, form, lock)


@dataclass
class Authority:
    """A certificate authority with its files in a hashed directory."""

    ca_dir: Path
    entity: Entity
    revoked: list[int] = field(default_factory=list)

    @property
    def hash(self) -> str:
        """The name OpenSSL looks the authority up by."""
        command = ["openssl", "x509", "-noout", "-subject_hash"]
        text = pem(self.entity.certificate)
        return subprocess.run(command, input=text, capture_output=True, check=True).stdout.decode().strip()

    def install(self, *, policy: str | None = None) -> None:
        """Write certificate, CRL and signing_policy."""
        self.file(".0").write_bytes(pem(self.entity.certificate))
        self.write_crl()
        self.write_policy(policy or f"'\"/O={self.organisation}/*\"'")

    @property
    def organisation(self) -> str:
        value = self.entity.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
        assert isinstance(value, str)
        return value

    def file(self, suffix: str) -> Path:
        return self.ca_dir / f"{self.hash}{suffix}"

    @property
    def slash(self) -> str:
        """Its own name as policies write it."""
        return slash(self.entity.certificate.subject)

    def write_policy(self, conditions: str, *, issuer: str | None = None, right: str = "CA:sign") -> None:
        who = issuer or self.slash
        text = f"access_id_CA X509 '{who}'\npos_rights globus {right}\ncond_subjects globus {conditions}\n"
        self.file(".signing_policy").write_text(text)

    def write_namespaces(self, *statements: str) -> None:
        """Write the file that federations ship beside signing_policy; `SELF PERMIT Subject "x"` and the like."""
        text = "".join(f"TO Issuer {statement}\n" for statement in statements)
        self.file(".namespaces").write_text(f"#NAMESPACES-VERSION: 1.0\n{text}")

    def write_crl(
        self,
        *,
        days: float = 30,
        signer: Key | None = None,
        extensions: Extensions = (),
        start: datetime.datetime | None = None,
    ) -> None:
        """Write the revocation list; a negative number of days makes a stale one."""
        end = NOW + days * DAY
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.entity.certificate.subject)
            .last_update(start or min(NOW, end) - HOUR)
            .next_update(end)
        )
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - HOUR).build()
            builder = builder.add_revoked_certificate(entry)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        crl = builder.sign(signer or self.entity.key, hashes.SHA256())
        self.file(".r0").write_bytes(crl.public_bytes(serialization.Encoding.PEM))

    def user(self, cn: str = "alice", /, **changes: object) -> Entity:
        """Sign a user's certificate, changed where a test says so."""
        shape = Shape(name(cn, grid=self.organisation), key("rsa", 3), end=NOW + 30 * DAY, extensions=USER_EXTENSIONS)
        shape = replace(shape, **changes)  # type: ignore[arg-type]  # the names are the caller's
        return Entity(issue(shape, self.entity), shape.key, ())

    def sub(self, cn: str, ca_dir: Path, **changes: object) -> "Authority":
        """Sign an authority below this one; it is not installed."""
        subject = name(cn, grid=self.organisation)
        shape = Shape(subject, key("rsa", 2), end=NOW + 300 * DAY, extensions=CA_EXTENSIONS)
        shape = replace(shape, **changes)  # type: ignore[arg-type]  # the names are the caller's
        return Authority(ca_dir, Entity(issue(shape, self.entity), shape.key, ()))


def slash(name: x509.Name) -> str:
    return "".join(f"/{slash_type(a)}={a.value!s}" for a in name)


def slash_type(attribute: x509.NameAttribute[str | bytes]) -> str:
    return "emailAddress" if attribute.oid == NameOID.EMAIL_ADDRESS else attribute.rfc4514_attribute_name


def root(ca_dir: Path, *, grid: str = "Test Grid", **changes: object) -> Authority:
    """Make a root authority; it is not installed."""
    shape = Shape(
        name("Test CA", grid=grid),
        key("rsa", 1),
        start=NOW - 300 * DAY,
        end=NOW + 300 * DAY,
        extensions=CA_EXTENSIONS,
    )
    shape = replace(shape, **changes)  # type: ignore[arg-type]  # the names are the caller's
    return Authority(ca_dir, Entity(issue(shape, None), shape.key, ()))


def grid_of(folder: Path, **changes: object) -> Authority:
    """Make an installed root authority in a new CA directory."""
    ca_dir = folder / "certificates"
    ca_dir.mkdir(parents=True)
    authority = root(ca_dir, **changes)  # type: ignore[arg-type]  # the names are the caller's
    authority.install()
    return authority


def resign(tbs: bytes, issuer: Key, digest: hashes.HashAlgorithm, algorithm: bytes) -> bytes:
    """Put a signature (RSA, PKCS#1 v1.5) below a body that `cryptography` would not make."""
    assert isinstance(issuer, rsa.RSAPrivateKey)
    return sequence(tbs, algorithm, tlv(0x03, b"\0" + issuer.sign(tbs, padding.PKCS1v15(), digest)))


SHA256_RSA = sequence(oid("1.2.840.113549.1.1.11"), b"\x05\x00")
SHA1_RSA = sequence(oid("1.2.840.113549.1.1.5"), b"\x05\x00")


def altered(certificate: x509.Certificate, issuer: Key, old: bytes, new: bytes) -> bytes:
    """Replace bytes of the signed part by as many others and sign it again."""
    tbs = certificate.tbs_certificate_bytes
    assert len(old) == len(new)
    assert old in tbs, "nothing to replace"
    return resign(tbs.replace(old, new), issuer, hashes.SHA256(), SHA256_RSA)


def signed_with_sha1(certificate: x509.Certificate, issuer: Key) -> bytes:
    """Make the same certificate with SHA-1."""
    tbs = certificate.tbs_certificate_bytes.replace(SHA256_RSA, SHA1_RSA)
    return resign(tbs, issuer, hashes.SHA1(), SHA1_RSA)


def chain_pem(chain: Sequence[x509.Certificate]) -> bytes:
    return b"".join(map(pem, chain))
