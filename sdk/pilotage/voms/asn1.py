"""The ASN.1 of VOMS attribute certificates: RFC 5755 as VOMS writes it, and its extensions.

`cryptography.hazmat.asn1` is young and may change; everything the VOMS code needs of it is in this
file. It reads DER only: no trailing byte, no long form where a short one fits. Nothing here judges
whether an attribute certificate is genuine: that is the C verifier's task.
"""

import datetime
from collections.abc import Sequence
from typing import Annotated, TypeVar

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ObjectIdentifier

from pilotage.errors import refuse
from pilotage.reasons import Reason

VOMS_EXTENSION = ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
FQAN_ATTRIBUTE = ObjectIdentifier("1.3.6.1.4.1.8005.100.100.4")
AUTHORITY_CERTIFICATES = ObjectIdentifier("1.3.6.1.4.1.8005.100.100.10")
GENERIC_ATTRIBUTES = ObjectIdentifier("1.3.6.1.4.1.8005.100.100.11")
NO_REVOCATION = ObjectIdentifier("2.5.29.56")
AUTHORITY_KEY = ObjectIdentifier("2.5.29.35")
TARGETS = ObjectIdentifier("2.5.29.55")
SHA256_WITH_RSA = ObjectIdentifier("1.2.840.113549.1.1.11")

DER_NULL = b"\x05\x00"

DirectoryName = Annotated[asn1.TLV, asn1.Explicit(4)]
Uri = Annotated[asn1.IA5String, asn1.Implicit(6)]

SequenceT = TypeVar("SequenceT")


@asn1.sequence
class Algorithm:
    """AlgorithmIdentifier: RSA has NULL parameters, ECDSA has none."""

    oid: x509.ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class IssuerSerial:
    """One certificate, by a name and a serial number."""

    names: list[DirectoryName]
    serial: int


@asn1.sequence
class Holder:
    """Whom the attributes belong to; only baseCertificateID is in use."""

    base: Annotated[IssuerSerial, asn1.Implicit(0)]


@asn1.sequence
class IssuerForm:
    """V2Form, of which only issuerName is in use."""

    names: list[DirectoryName]


@asn1.sequence
class Validity:
    """Both ends, in seconds of UTC."""

    not_before: asn1.GeneralizedTime
    not_after: asn1.GeneralizedTime


@asn1.sequence
class FqanSyntax:
    """IetfAttrSyntax: the authority as `vo://host:port` and the FQANs."""

    authority: Annotated[list[Uri], asn1.Implicit(0)]
    fqans: list[bytes]


@asn1.sequence
class Attribute:
    """An attribute with its values; VOMS uses exactly one of each."""

    oid: x509.ObjectIdentifier
    values: asn1.SetOf[FqanSyntax]


@asn1.sequence
class Extension:
    """An X.509 extension."""

    oid: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class AttributeInfo:
    """AttributeCertificateInfo: what is signed."""

    version: int
    holder: Holder
    issuer: Annotated[IssuerForm, asn1.Implicit(0)]
    signature: Algorithm
    serial: int
    validity: Validity
    attributes: list[Attribute]
    extensions: list[Extension]


@asn1.sequence
class AttributeCertificate:
    """The whole, signed."""

    info: AttributeInfo
    algorithm: Algorithm
    signature: asn1.BitString


@asn1.sequence
class ProxyExtension:
    """What a proxy carries: a SEQUENCE that holds a SEQUENCE OF attribute certificates."""

    certificates: list[asn1.TLV]


@asn1.sequence
class AuthorityCertificates:
    """The authority's certificate first, then those between it and its CA."""

    certificates: list[x509.Certificate]


@asn1.sequence
class AuthorityKey:
    """authorityKeyIdentifier with the SHA-1 of the authority's public key, and nothing else."""

    digest: Annotated[bytes, asn1.Implicit(0)]


@asn1.sequence
class TargetName:
    """targetName: the implicit tag on this SEQUENCE is the explicit tag on the name in it."""

    uri: Uri


@asn1.sequence
class Target:
    """One host that the attributes are meant for."""

    name: Annotated[TargetName, asn1.Implicit(0)]


@asn1.sequence
class Targets:
    """VOMS writes one SEQUENCE more than RFC 5755."""

    targets: list[Target]


@asn1.sequence
class GenericAttribute:
    """A free name and value of VOMS's own; the qualifier says of which group or VO."""

    name: bytes
    value: bytes
    qualifier: bytes


@asn1.sequence
class GenericGroup:
    """The generic attributes of one authority."""

    authority: list[Uri]
    attributes: list[GenericAttribute]


@asn1.sequence
class GenericAttributes:
    """The extension's own SEQUENCE around the list of groups."""

    groups: list[GenericGroup]


def decode(kind: type[SequenceT], der: bytes) -> SequenceT:
    """Read one of the structures above, or raise VOMS_MALFORMED."""
    try:
        return asn1.decode_der(kind, der)
    except ValueError as error:
        raise refuse(Reason.VOMS_MALFORMED) from error


def encode(value: object) -> bytes:
    """Return a structure in DER."""
    return asn1.encode_der(value)


def tlv(der: bytes) -> asn1.TLV:
    """Take one DER element as it is."""
    try:
        return asn1.decode_der(asn1.TLV, der)
    except ValueError as error:
        raise refuse(Reason.VOMS_MALFORMED) from error


def tlv_der(element: asn1.TLV) -> bytes:
    """Return an element's DER."""
    return asn1.encode_der(element)


def generalized_time(moment: datetime.datetime) -> asn1.GeneralizedTime:
    """Make a GeneralizedTime; fractions of a second are cut off."""
    return asn1.GeneralizedTime(moment.astimezone(datetime.UTC).replace(microsecond=0))


def fqan_attribute(authority: str, fqans: Sequence[str]) -> Attribute:
    """Make the one attribute of a VOMS attribute certificate."""
    syntax = FqanSyntax(authority=[asn1.IA5String(authority)], fqans=[fqan.encode("ascii") for fqan in fqans])
    return Attribute(oid=FQAN_ATTRIBUTE, values=asn1.SetOf([syntax]))


def rsa_algorithm() -> Algorithm:
    """Name the one algorithm that every deployed verifier takes."""
    return Algorithm(oid=SHA256_WITH_RSA, parameters=asn1.Null())


def target_list(hosts: Sequence[str]) -> bytes:
    """Return the value of the extension that names target hosts."""
    targets = [Target(name=TargetName(uri=asn1.IA5String(host))) for host in hosts]
    return encode(Targets(targets=targets))


def generic_list(authority: str, attributes: Sequence[tuple[str, str, str]]) -> bytes:
    """Return the value of the extension with generic attributes: (name, value, qualifier)."""
    rows = [GenericAttribute(name=n.encode(), value=v.encode(), qualifier=q.encode()) for n, v, q in attributes]
    return encode(GenericAttributes(groups=[GenericGroup(authority=[asn1.IA5String(authority)], attributes=rows)]))


def signed(info: AttributeInfo, signature: bytes) -> bytes:
    """Return the DER of an attribute certificate from its two parts."""
    whole = AttributeCertificate(info=info, algorithm=info.signature, signature=asn1.BitString(signature, 0))
    return encode(whole)
