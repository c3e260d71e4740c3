"""Proxy certificates (RFC 3820), made so that every grid tool takes them.

The recipe was found by showing 38 variants to ten verifiers: the issuer's name byte for byte plus
one CN, a critical proxyCertInfo, key usage no wider than the issuer's, SHA-256, both key identifiers.
"""

import datetime
import secrets
from collections.abc import Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.x509.der import ProxyCertInfo, decode_proxy_info, encode_proxy_info, raw_names
from pilotage.x509.keys import PrivateKey, PublicKey, check_public_key, thumbprint

PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
INHERIT_ALL = ObjectIdentifier("1.3.6.1.5.5.7.21.1")
LIMITED = ObjectIdentifier("1.3.6.1.4.1.3536.1.1.1.9")

CLOCK_SLACK = datetime.timedelta(minutes=5)
DEEPEST_CHAIN = 10
SERIAL_BITS = 63

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


def proxy_info(certificate: x509.Certificate) -> ProxyCertInfo | None:
    """Return the proxyCertInfo of a certificate, or None if it is not a proxy."""
    try:
        extension = certificate.extensions.get_extension_for_oid(PROXY_CERT_INFO)
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension) as error:
        raise refuse(Reason.PROXY_MALFORMED, "A certificate's extensions cannot be read.") from error
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    return decode_proxy_info(extension.value.value)


def is_proxy(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is a proxy, going by its extension and never by its name."""
    return proxy_info(certificate) is not None


def is_limited(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is a limited proxy."""
    info = proxy_info(certificate)
    return info is not None and info.policy.language == LIMITED


def end_entity(chain: Sequence[x509.Certificate]) -> x509.Certificate:
    """Return the first certificate of a chain (leaf first) that is not a proxy: the person's own."""
    for certificate in chain:
        if not is_proxy(certificate):
            return certificate
    raise refuse(Reason.PROXY_MALFORMED, "The chain holds proxies only; the end-entity certificate is missing.")


def chain_end(chain: Sequence[x509.Certificate]) -> datetime.datetime:
    """Return when the first certificate of a chain ends."""
    return min(certificate.not_valid_after_utc for certificate in chain)


def sign_proxy(
    issuer_chain: Sequence[x509.Certificate],
    issuer_key: PrivateKey,
    public_key: PublicKey,
    *,
    lifetime: datetime.timedelta,
    limited: bool = False,
    path_length: int | None = None,
    now: datetime.datetime,
    extensions: Sequence[x509.UnrecognizedExtension] = (),
) -> x509.Certificate:
    """Make a proxy for a key, signed by the first certificate of a chain.

    It never lives longer than any certificate above it and is limited when any of them is. `path_length` is how
    many proxies may stand below it, fewer where those above allow fewer; None writes down no number. What is
    in `extensions` (VOMS attributes travel so) is added as it is, not critical. Raises what a
    verifier would say of the result: PROXY_EXPIRED, CERTIFICATE_EXPIRED, PROXY_KEY_USAGE, ...
    """
    above = [proxy_info(certificate) for certificate in issuer_chain]
    issuer = _check_issuer(issuer_chain, above, issuer_key)
    check_public_key(public_key)
    serial = secrets.randbits(SERIAL_BITS) or 1
    own_name = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, str(serial))])
    language = LIMITED if limited or any(info and info.policy.language == LIMITED for info in above) else INHERIT_ALL
    if path_length is not None:
        path_length = min([path_length, *_allowed(above)])
    begin, end = _life(issuer_chain, lifetime, now)
    info = encode_proxy_info(language, path_length)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .subject_name(x509.Name([*issuer.subject.rdns, own_name]))
        .serial_number(serial)
        .public_key(public_key)
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.UnrecognizedExtension(PROXY_CERT_INFO, info), critical=True)
        .add_extension(_key_usage(issuer, public_key), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_authority_key_identifier(issuer), critical=False)
    )
    extended = _extension(issuer, x509.ExtendedKeyUsage)
    if extended is not None:
        builder = builder.add_extension(extended.value, critical=extended.critical)
    for own in extensions:
        builder = builder.add_extension(own, critical=False)
    proxy = builder.sign(issuer_key, hashes.SHA256())
    _check_names(issuer, proxy)
    return proxy


def _check_issuer(
    chain: Sequence[x509.Certificate], infos: Sequence[ProxyCertInfo | None], key: PrivateKey
) -> x509.Certificate:
    if not chain:
        raise refuse(Reason.PROXY_EMPTY)
    if len(chain) >= DEEPEST_CHAIN:
        raise refuse(Reason.CHAIN_TOO_DEEP)
    issuer = chain[0]
    issuer_public = issuer.public_key()
    if issuer_public != key.public_key():
        raise refuse(Reason.KEY_MISMATCH)
    for below, info in enumerate(infos):
        if info is None:
            continue
        if info.policy.language not in (INHERIT_ALL, LIMITED):
            raise refuse(Reason.PROXY_POLICY_UNSUPPORTED)
        if info.path_length is not None and info.path_length <= below:
            raise refuse(Reason.PROXY_PATH_LENGTH)
    constraints = _extension(issuer, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise refuse(Reason.CA_AS_END_ENTITY)
    return issuer


def _allowed(above: Sequence[ProxyCertInfo | None]) -> list[int]:
    """Return how many proxies each of a chain (leaf first) still allows below the next one."""
    return [
        info.path_length - below - 1
        for below, info in enumerate(above)
        if info is not None and info.path_length is not None
    ]


def _life(
    chain: Sequence[x509.Certificate], lifetime: datetime.timedelta, now: datetime.datetime
) -> tuple[datetime.datetime, datetime.datetime]:
    now = now.astimezone(datetime.UTC).replace(microsecond=0)
    for certificate in chain:
        if certificate.not_valid_after_utc <= now:
            raise refuse(Reason.PROXY_EXPIRED if is_proxy(certificate) else Reason.CERTIFICATE_EXPIRED)
    if lifetime < datetime.timedelta(seconds=1):
        raise refuse(Reason.INVALID_ARGUMENT, "A proxy must live for at least a second.")
    begin = max(now - CLOCK_SLACK, chain[0].not_valid_before_utc)
    # Compared before it is added: a life of centuries must not overflow the calendar.
    end = chain_end(chain)
    if lifetime < end - now:
        end = (now + lifetime).replace(microsecond=0)
    if end <= begin:
        raise refuse(Reason.CERTIFICATE_NOT_YET_VALID)
    return begin, end


def _key_usage(issuer: x509.Certificate, key: PublicKey) -> x509.KeyUsage:
    above = _extension(issuer, x509.KeyUsage)
    if above is not None and not above.value.digital_signature:
        raise refuse(Reason.PROXY_KEY_USAGE, "The signing certificate may not make digital signatures.")
    # An elliptic-curve key cannot encipher; the bit would be a lie.
    encipher = isinstance(key, rsa.RSAPublicKey) and (above is None or above.value.key_encipherment)
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=encipher,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Point at the issuer's own identifier if it has one; Globus's proxies have none."""
    above = _extension(issuer, x509.SubjectKeyIdentifier)
    if above is not None:
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above.value)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(check_public_key(issuer.public_key()))


def _extension(certificate: x509.Certificate, kind: type[ExtensionT]) -> x509.Extension[ExtensionT] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension) as error:
        raise refuse(Reason.PROXY_MALFORMED, "A certificate's extensions cannot be read.") from error


def _check_names(issuer: x509.Certificate, proxy: x509.Certificate) -> None:
    """Refuse to hand out a proxy whose names do not repeat the issuer's bytes.

    `cryptography` encodes names anew; a name that was not in canonical DER would come out different.
    """
    _, issuer_subject = raw_names(issuer)
    proxy_issuer, proxy_subject = raw_names(proxy)
    if proxy_issuer != issuer_subject or not proxy_subject.startswith(issuer_subject):
        raise refuse(
            Reason.NAME_UNSUPPORTED, "The certificate's name is not in canonical DER; no proxy can repeat it exactly."
        )


def same_key(certificate: x509.Certificate, key: PublicKey) -> bool:
    """Return whether a certificate is for this key."""
    return thumbprint(check_public_key(certificate.public_key())) == thumbprint(key)
