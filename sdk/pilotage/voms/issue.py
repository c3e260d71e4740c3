"""Making VOMS attribute certificates, byte for byte as VOMS servers make them.

Only the development authority and tests issue attributes. Keys are RSA and the signature is
PKCS#1 v1.5 with SHA-256, because that is what deployed verifiers take.
"""

import datetime
import enum
import secrets
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.voms import asn1
from pilotage.voms.attribute import raw_names
from pilotage.voms.fqans import check_vo, normalise_all
from pilotage.x509.files import LocalIdentity
from pilotage.x509.proxies import chain_end

CLOCK_SLACK = datetime.timedelta(minutes=5)
SERIAL_BITS = 127


class HolderForm(enum.Enum):
    """By which name the holder's certificate is meant; the serial is its own in both."""

    SUBJECT = "subject"
    """What voms-server does by default, and INDIGO IAM always."""
    ISSUER = "issuer"
    """RFC 5755; what Debian's voms_install_db sets up. Some Java tools refuse it."""


class FqanForm(enum.Enum):
    """How FQANs are spelled."""

    LONG = "long"
    """`/vo/Role=NULL/Capability=NULL`, as voms-server does."""
    SHORT = "short"
    """`/vo`, as INDIGO IAM does."""


class Authority(msgspec.Struct, frozen=True):
    """An attribute authority: its certificate (CA left out) and key, its VO, and where it can be reached.

    The host is the one that `vomsdir/<vo>/<host>.lsc` is named after.
    """

    identity: LocalIdentity
    vo: str
    host: str
    port: int
    holder_form: HolderForm = HolderForm.SUBJECT
    fqan_form: FqanForm = FqanForm.LONG


def issue_attributes(
    authority: Authority,
    person: x509.Certificate,
    fqans: Sequence[str],
    *,
    lifetime: datetime.timedelta,
    now: datetime.datetime,
    targets: Sequence[str] = (),
    generic: Sequence[tuple[str, str, str]] = (),
) -> bytes:
    """Return a signed attribute certificate (DER) for the holder of an end-entity certificate.

    It never outlives that certificate or the authority's own.
    """
    key = authority.identity.key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise refuse(
            Reason.KEY_KIND_REFUSED, "An attribute authority needs an RSA key; deployed verifiers know no other."
        )
    given = normalise_all(fqans, check_vo(authority.vo))
    if not given:
        raise refuse(Reason.VOMS_ATTRIBUTES, "An attribute certificate needs at least one FQAN.")
    begin = now - CLOCK_SLACK
    end = min(now + lifetime, person.not_valid_after_utc, chain_end(authority.identity.chain))
    if end <= now:
        raise refuse(Reason.INVALID_ARGUMENT, "The attributes would end before they begin.")
    uri = f"{authority.vo}://{authority.host}:{authority.port}"
    info = asn1.AttributeInfo(
        version=1,
        holder=_holder(authority.holder_form, person),
        issuer=asn1.IssuerForm(names=[asn1.tlv(raw_names(authority.identity.chain[0])[1])]),
        signature=asn1.rsa_algorithm(),
        serial=secrets.randbits(SERIAL_BITS) or 1,
        validity=asn1.Validity(not_before=asn1.generalized_time(begin), not_after=asn1.generalized_time(end)),
        attributes=[asn1.fqan_attribute(uri, [_spell(fqan, authority.fqan_form) for fqan in given])],
        extensions=_extensions(authority.identity.chain, uri, targets, generic),
    )
    return asn1.signed(info, key.sign(asn1.encode(info), padding.PKCS1v15(), hashes.SHA256()))


def _holder(form: HolderForm, person: x509.Certificate) -> asn1.Holder:
    issuer, subject = raw_names(person)
    name = subject if form is HolderForm.SUBJECT else issuer
    return asn1.Holder(base=asn1.IssuerSerial(names=[asn1.tlv(name)], serial=person.serial_number))


def _spell(fqan: str, form: FqanForm) -> str:
    if form is FqanForm.SHORT:
        return fqan
    return f"{fqan}/Capability=NULL" if "/Role=" in fqan else f"{fqan}/Role=NULL/Capability=NULL"


def _extensions(
    chain: Sequence[x509.Certificate], uri: str, targets: Sequence[str], generic: Sequence[tuple[str, str, str]]
) -> list[asn1.Extension]:
    """Return the extensions in the order in which VOMS servers write them."""
    public = chain[0].public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    digest = x509.SubjectKeyIdentifier.from_public_key(public).digest
    certificates = asn1.encode(asn1.AuthorityCertificates(certificates=list(chain)))
    rows = [(asn1.GENERIC_ATTRIBUTES, False, asn1.generic_list(uri, generic))] if generic else []
    rows += [
        (asn1.AUTHORITY_CERTIFICATES, False, certificates),
        (asn1.NO_REVOCATION, False, asn1.DER_NULL),
        (asn1.AUTHORITY_KEY, False, asn1.encode(asn1.AuthorityKey(digest=digest))),
    ]
    rows += [(asn1.TARGETS, True, asn1.target_list(targets))] if targets else []
    return [asn1.Extension(oid=oid, critical=critical, value=value) for oid, critical, value in rows]
