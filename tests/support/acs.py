"""VOMS attribute certificates, byte for byte as servers write them, and wrong in any one place.

The layout is the one of real servers (RFC 5755 with VOMS's extensions). A test changes one field of
`Ac` and names the one reason for which the verifier must refuse the result.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from support import vectors as v

EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
ATTRIBUTE = "1.3.6.1.4.1.8005.100.100.4"
CERTIFICATES = "1.3.6.1.4.1.8005.100.100.10"
GENERIC = "1.3.6.1.4.1.8005.100.100.11"
TARGETS = "2.5.29.55"
NO_REVOCATION = "2.5.29.56"
AUTHORITY_KEY = "2.5.29.35"

ECDSA_SHA256 = v.sequence(v.oid("1.2.840.10045.4.3.2"))
SHA512_RSA = v.sequence(v.oid("1.2.840.113549.1.1.13"), b"\x05\x00")

HOST_EXTENSIONS: v.Extensions = (
    (x509.BasicConstraints(ca=False, path_length=None), True),
    (v.usage("digital_signature", "key_encipherment"), True),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
)


def directory_name(name: x509.Name) -> bytes:
    """Encode GeneralNames of one directoryName."""
    return v.sequence(v.tlv(0xA4, name.public_bytes()))


def uri(text: str) -> bytes:
    return v.tlv(0x86, text.encode())


def moment(time: datetime.datetime) -> bytes:
    return v.tlv(0x18, time.strftime("%Y%m%d%H%M%SZ").encode())


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    return v.sequence(v.oid(dotted), b"\x01\x01\xff" if critical else b"", v.tlv(0x04, value))


def key_identifier(certificate: x509.Certificate) -> bytes:
    digest = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    return v.sequence(v.tlv(0x80, digest))


def targets(*hosts: str) -> bytes:
    """Encode targets the way VOMS does, with one SEQUENCE more than RFC 5755."""
    return v.sequence(v.sequence(*(v.sequence(v.tlv(0xA0, uri(host))) for host in hosts)))


@dataclass(frozen=True)
class Server:
    """A VOMS server: its certificate and where its .lsc file lies."""

    entity: v.Entity
    issuer: x509.Name
    voms_dir: Path
    vo: str = "demo"
    host: str = "voms.example.org"

    @property
    def lsc(self) -> Path:
        return self.voms_dir / self.vo / f"{self.host}.lsc"

    def install(self, text: str | None = None) -> None:
        """Write the .lsc file."""
        self.lsc.parent.mkdir(parents=True, exist_ok=True)
        self.lsc.write_text(text or f"{v.slash(self.entity.certificate.subject)}\n{v.slash(self.issuer)}\n")


def server(grid: v.Authority, folder: Path, **changes: object) -> Server:
    """Make a VOMS server of the grid with its .lsc file."""
    shape: dict[str, object] = {"key": v.key("rsa", 8), "extensions": HOST_EXTENSIONS}
    entity = grid.user("voms.example.org", **(shape | changes))
    made = Server(entity, grid.entity.certificate.subject, folder / "vomsdir")
    made.install()
    return made


@dataclass(frozen=True)
class Ac:
    """The fields of an attribute certificate; None means what a real server writes there."""

    server: Server
    holder: x509.Certificate
    fqans: Sequence[str | bytes] = ("/demo/Role=analysis/Capability=NULL", "/demo/Role=NULL/Capability=NULL")
    start: datetime.datetime = v.NOW - v.HOUR
    end: datetime.datetime = v.NOW + 11 * v.HOUR
    version: int = 1
    holder_name: bytes | None = None
    holder_serial: int | None = None
    issuer_name: bytes | None = None
    algorithm: bytes = v.SHA256_RSA
    outer_algorithm: bytes | None = None
    serial: int = 2**100 + 1
    validity: bytes | None = None
    authority: bytes | None = None
    attributes: bytes | None = None
    no_revocation: bytes | None = field(default_factory=lambda: extension(NO_REVOCATION, b"\x05\x00"))
    authority_key: bytes | None = None
    certificates: Sequence[bytes] | None = None
    more: bytes = b""
    signer: v.Key | None = None
    digest: v.Sha2 = field(default_factory=hashes.SHA256)

    def with_(self, **changes: object) -> "Ac":
        """Return the same with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]  # the names are the caller's

    @property
    def der(self) -> bytes:
        info = self._info()
        signature = self._sign(info)
        outer = self.algorithm if self.outer_algorithm is None else self.outer_algorithm
        return v.sequence(info, outer, v.tlv(0x03, b"\0" + signature))

    def _info(self) -> bytes:
        name = self.holder_name or directory_name(self.holder.subject)
        serial = self.holder.serial_number if self.holder_serial is None else self.holder_serial
        own = self.server.entity.certificate
        return v.sequence(
            v.integer(self.version),
            v.sequence(v.tlv(0xA0, name, v.integer(serial))),
            v.tlv(0xA0, self.issuer_name or directory_name(own.subject)),
            self.algorithm,
            v.integer(self.serial),
            self.validity or v.sequence(moment(self.start), moment(self.end)),
            self.attributes or self.attribute_list(),
            v.sequence(*self._extensions(own)),
        )

    def syntax(self) -> bytes:
        """Encode the IetfAttrSyntax: the server and the FQANs."""
        where = self.authority or uri(f"{self.server.vo}://{self.server.host}:15000")
        texts = (f.encode() if isinstance(f, str) else f for f in self.fqans)
        return v.sequence(v.tlv(0xA0, where), v.sequence(*(v.tlv(0x04, t) for t in texts)))

    def attribute_list(self) -> bytes:
        return v.sequence(v.sequence(v.oid(ATTRIBUTE), v.tlv(0x31, self.syntax())))

    def _extensions(self, own: x509.Certificate) -> list[bytes]:
        carried = [v.der(own)] if self.certificates is None else self.certificates
        key = extension(AUTHORITY_KEY, key_identifier(own)) if self.authority_key is None else self.authority_key
        certs = extension(CERTIFICATES, v.sequence(v.sequence(*carried))) if carried else b""
        return [certs, self.no_revocation or b"", key, self.more]

    def _sign(self, info: bytes) -> bytes:
        key = self.signer or self.server.entity.key
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(info, padding.PKCS1v15(), self.digest)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key.sign(info, ec.ECDSA(self.digest))


def value(*acs: Ac | bytes) -> bytes:
    """Encode the extension's value: two SEQUENCEs around the attribute certificates."""
    return v.sequence(v.sequence(*(ac.der if isinstance(ac, Ac) else ac for ac in acs)))


def proxy(user: v.Entity, data: bytes) -> v.Entity:
    """Sign a proxy that carries the extension."""
    attributes = x509.UnrecognizedExtension(EXTENSION, data)
    return v.proxy(user, extensions=v.proxy_extensions(more=((attributes, False),)))
