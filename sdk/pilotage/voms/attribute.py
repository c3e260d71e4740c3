"""VOMS attribute certificates as values: read them, and put them into proxies.

Reading is for showing and for checking an answer before it is used. Whether an attribute
certificate is genuine is decided by the C verifier alone, and it checks much more than this.
"""

import datetime
import re
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.voms import asn1
from pilotage.voms.fqans import check_vo, normalise_all
from pilotage.x509.der import ToBeSigned
from pilotage.x509.files import LocalIdentity
from pilotage.x509.keys import KeyKind, PrivateKey, make_key
from pilotage.x509.names import slash_form
from pilotage.x509.proxies import end_entity, is_proxy, sign_proxy

LARGEST_EXTENSION_BYTES = 64 * 1024
MOST_CERTIFICATES = 8
LARGEST_SERIAL_BITS = 160

_AUTHORITY = re.compile(r"([^:/]{1,128})://([A-Za-z0-9.-]{1,253}):([0-9]{1,5})", re.ASCII)


class VomsAttributes(msgspec.Struct, frozen=True):
    """What one attribute certificate says; `fqans` are in their short spelling and in its order."""

    vo: str
    host: str
    port: int
    fqans: tuple[str, ...]
    holder_name: bytes
    holder_serial: int
    authority: str
    serial: int
    not_before: datetime.datetime
    not_after: datetime.datetime
    targets: tuple[str, ...]
    generic: tuple[tuple[str, str, str], ...]
    der: bytes


def read_attributes(der: bytes) -> VomsAttributes:
    """Read an attribute certificate; raise the reason that the verifier would give."""
    if len(der) > LARGEST_EXTENSION_BYTES:
        raise refuse(Reason.VOMS_TOO_LARGE)
    whole = asn1.decode(asn1.AttributeCertificate, der)
    info = whole.info
    if info.version != 1:
        raise refuse(Reason.VOMS_VERSION)
    if asn1.encode(info.signature) != asn1.encode(whole.algorithm):
        raise refuse(Reason.VOMS_ALGORITHM)
    if len(info.holder.base.names) != 1:
        raise refuse(Reason.VOMS_HOLDER)
    if len(info.issuer.names) != 1:
        raise refuse(Reason.VOMS_ISSUER)
    if info.serial.bit_length() > LARGEST_SERIAL_BITS:
        raise refuse(Reason.VOMS_MALFORMED)
    vo, host, port, fqans = _read_fqans(info.attributes)
    extensions = _read_extensions(info.extensions)
    not_before, not_after = (
        moment.as_datetime().replace(tzinfo=datetime.UTC)
        for moment in (info.validity.not_before, info.validity.not_after)
    )
    return VomsAttributes(
        vo=vo,
        host=host,
        port=port,
        fqans=fqans,
        holder_name=asn1.tlv_der(info.holder.base.names[0]),
        holder_serial=info.holder.base.serial,
        authority=_read_authority(extensions),
        serial=info.serial,
        not_before=not_before,
        not_after=not_after,
        targets=_read_targets(extensions),
        generic=_read_generic(extensions),
        der=der,
    )


def attributes_of(chain: Sequence[x509.Certificate]) -> tuple[VomsAttributes, ...]:
    """Return the attributes of a chain (leaf first): those of the first proxy that has any."""
    for certificate in chain:
        if not is_proxy(certificate):
            break
        try:
            extension = certificate.extensions.get_extension_for_oid(asn1.VOMS_EXTENSION)
        except x509.ExtensionNotFound:
            continue
        assert isinstance(extension.value, x509.UnrecognizedExtension)
        if len(extension.value.value) > LARGEST_EXTENSION_BYTES:
            raise refuse(Reason.VOMS_TOO_LARGE)
        held = asn1.decode(asn1.ProxyExtension, extension.value.value).certificates
        if not 0 < len(held) <= MOST_CERTIFICATES:
            raise refuse(Reason.VOMS_TOO_LARGE if held else Reason.VOMS_MALFORMED)
        return tuple(read_attributes(asn1.tlv_der(element)) for element in held)
    return ()


def raw_names(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """Return the DER of issuer and subject, byte for byte as the certificate spells them."""
    parsed = asn1.decode(ToBeSigned, certificate.tbs_certificate_bytes)
    return asn1.tlv_der(parsed.issuer), asn1.tlv_der(parsed.subject)


def check_holder(attributes: VomsAttributes, person: x509.Certificate) -> None:
    """Raise VOMS_HOLDER unless the attributes are those of this end-entity certificate.

    Old servers name the holder by the certificate's subject, newer ones by its issuer; both do.
    """
    if attributes.holder_serial != person.serial_number or attributes.holder_name not in raw_names(person):
        raise refuse(
            Reason.VOMS_HOLDER, f"The attributes are for another certificate than {slash_form(person.subject)}."
        )


def add_attributes(
    identity: LocalIdentity,
    certificates: Sequence[bytes],
    *,
    lifetime: datetime.timedelta,
    now: datetime.datetime,
    limited: bool = False,
    key: PrivateKey | None = None,
) -> LocalIdentity:
    """Make a new proxy below an identity that carries attribute certificates (DER).

    The identity may be an end-entity certificate or a proxy; its attributes, if it has any, count
    no more, because the verifier looks at the lowest proxy that has some.
    """
    if not 0 < len(certificates) <= MOST_CERTIFICATES:
        raise refuse(Reason.INVALID_ARGUMENT, f"A proxy carries 1 to {MOST_CERTIFICATES} attribute certificates.")
    person = end_entity(identity.chain)
    for der in certificates:
        check_holder(read_attributes(der), person)
    value = asn1.encode(asn1.ProxyExtension(certificates=[asn1.tlv(der) for der in certificates]))
    if len(value) > LARGEST_EXTENSION_BYTES:
        raise refuse(Reason.VOMS_TOO_LARGE)
    own_key = key or make_key(KeyKind.RSA_2048)
    proxy = sign_proxy(
        identity.chain,
        identity.key,
        own_key.public_key(),
        lifetime=lifetime,
        limited=limited,
        now=now,
        extensions=[x509.UnrecognizedExtension(asn1.VOMS_EXTENSION, value)],
    )
    return LocalIdentity(chain=(proxy, *identity.chain), key=own_key, source=identity.source)


def _read_fqans(attributes: Sequence[asn1.Attribute]) -> tuple[str, str, int, tuple[str, ...]]:
    if len(attributes) != 1 or attributes[0].oid != asn1.FQAN_ATTRIBUTE:
        raise refuse(Reason.VOMS_ATTRIBUTES)
    values = attributes[0].values.as_list()
    if len(values) != 1 or len(values[0].authority) != 1 or not values[0].fqans:
        raise refuse(Reason.VOMS_ATTRIBUTES)
    match = _AUTHORITY.fullmatch(values[0].authority[0].as_str())
    if match is None or not 0 < int(match[3]) < 65536:
        raise refuse(Reason.VOMS_URI)
    vo = check_vo(match[1])
    try:
        texts = [fqan.decode("ascii") for fqan in values[0].fqans]
    except UnicodeDecodeError as error:
        raise refuse(Reason.VOMS_FQAN) from error
    return vo, match[2], int(match[3]), normalise_all(texts, vo)


def _read_extensions(extensions: Sequence[asn1.Extension]) -> dict[ObjectIdentifier, bytes]:
    values = {extension.oid: extension.value for extension in extensions}
    if len(values) != len(extensions) or any(e.critical and e.oid != asn1.TARGETS for e in extensions):
        raise refuse(Reason.VOMS_EXTENSION)
    return values


def _read_authority(extensions: dict[ObjectIdentifier, bytes]) -> str:
    value = extensions.get(asn1.AUTHORITY_CERTIFICATES)
    if value is None:
        return ""
    certificates = asn1.decode(asn1.AuthorityCertificates, value).certificates
    return slash_form(certificates[0].subject) if certificates else ""


def _read_targets(extensions: dict[ObjectIdentifier, bytes]) -> tuple[str, ...]:
    value = extensions.get(asn1.TARGETS)
    if value is None:
        return ()
    return tuple(target.name.uri.as_str() for target in asn1.decode(asn1.Targets, value).targets)


def _read_generic(extensions: dict[ObjectIdentifier, bytes]) -> tuple[tuple[str, str, str], ...]:
    value = extensions.get(asn1.GENERIC_ATTRIBUTES)
    if value is None:
        return ()
    groups = asn1.decode(asn1.GenericAttributes, value).groups
    return tuple(
        (_text(row.name), _text(row.value), _text(row.qualifier)) for group in groups for row in group.attributes
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="backslashreplace")
