"""The few ASN.1 structures that `cryptography` has no class for.

`cryptography.hazmat.asn1` is young and may change; everything we need of it is in this file.
"""

from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1

from pilotage.errors import refuse
from pilotage.reasons import Reason


@asn1.sequence
class ProxyPolicy:
    """RFC 3820 section 3.8: what a proxy inherits."""

    language: x509.ObjectIdentifier
    policy: bytes | None


@asn1.sequence
class ProxyCertInfo:
    """RFC 3820 section 3.8: the extension that makes a certificate a proxy."""

    path_length: int | None
    policy: ProxyPolicy


@asn1.sequence
class ToBeSigned:
    """RFC 5280 section 4.1, as far as the names: the rest is kept as it is."""

    version: Annotated[int | None, asn1.Explicit(0)]
    serial: int
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    key: asn1.TLV
    issuer_id: Annotated[asn1.BitString | None, asn1.Implicit(1)]
    subject_id: Annotated[asn1.BitString | None, asn1.Implicit(2)]
    extensions: Annotated[list[asn1.TLV] | None, asn1.Explicit(3)]


def encode_proxy_info(language: x509.ObjectIdentifier, path_length: int | None = None) -> bytes:
    """Return proxyCertInfo in DER."""
    info = ProxyCertInfo(path_length=path_length, policy=ProxyPolicy(language=language, policy=None))
    return asn1.encode_der(info)


def decode_proxy_info(der: bytes) -> ProxyCertInfo:
    """Read proxyCertInfo, or raise PROXY_INFO_MALFORMED."""
    try:
        return asn1.decode_der(ProxyCertInfo, der)
    except ValueError as error:
        raise refuse(Reason.PROXY_INFO_MALFORMED) from error


def raw_names(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """Return the contents of issuer and subject exactly as the certificate spells them."""
    try:
        parsed = asn1.decode_der(ToBeSigned, certificate.tbs_certificate_bytes)
    except ValueError as error:
        raise refuse(Reason.PROXY_MALFORMED, "A certificate of the chain is not well formed.") from error
    return bytes(parsed.issuer.data), bytes(parsed.subject.data)
