"""Proxy certificates (RFC 3820), made so that every grid tool takes them.

The recipe was found by showing 38 variants to ten verifiers: the issuer's name byte for byte plus
one CN, a critical proxyCertInfo, key usage no wider than the issuer's, SHA-256, both key identifiers.
"""

import datetime
import functools
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
    issuer = Issuer(issuer_chain)
    return issuer.sign(
        issuer_key,
        public_key,
        lifetime=lifetime,
        limited=limited,
        path_length=path_length,
        now=now,
        extensions=extensions,
    )


class Issuer:
    """A chain that proxies are made from, leaf first, looked at once; it knows no private key.

    Making one raises PROXY_EMPTY, CHAIN_TOO_DEEP, CA_AS_END_ENTITY, PROXY_KEY_USAGE or PROXY_MALFORMED, and what
    a verifier would say of a proxy that this chain cannot make at any time: PROXY_PATH_LENGTH, ...
    """

    def __init__(self, chain: Sequence[x509.Certificate]) -> None:
        infos = [proxy_info(certificate) for certificate in chain]
        leaf = _check_chain(chain, infos)
        self._public_key = leaf.public_key()
        self._limited = any(info and info.policy.language == LIMITED for info in infos)
        self._path_lengths = _allowed(infos)
        self._ends = [
            (certificate.not_valid_after_utc, Reason.PROXY_EXPIRED if info else Reason.CERTIFICATE_EXPIRED)
            for certificate, info in zip(chain, infos, strict=True)
        ]
        self._begin = leaf.not_valid_before_utc
        self._subject = tuple(leaf.subject.rdns)
        self._raw_subject = raw_names(leaf)[1]
        self._enciphers = _may_encipher(leaf)
        self._builder = (
            x509.CertificateBuilder()
            .issuer_name(leaf.subject)
            .add_extension(_authority_key_identifier(leaf), critical=False)
        )
        extended = _extension(leaf, x509.ExtendedKeyUsage)
        if extended is not None:
            self._builder = self._builder.add_extension(extended.value, critical=extended.critical)

    def sign(
        self,
        key: PrivateKey,
        public_key: PublicKey,
        *,
        lifetime: datetime.timedelta,
        limited: bool = False,
        path_length: int | None = None,
        now: datetime.datetime,
        extensions: Sequence[x509.UnrecognizedExtension] = (),
    ) -> x509.Certificate:
        """Make a proxy as `sign_proxy` does; `key` is that of the chain's first certificate, else KEY_MISMATCH."""
        if self._public_key != key.public_key():
            raise refuse(Reason.KEY_MISMATCH)
        check_public_key(public_key)
        begin, end = self._life(lifetime, now)
        serial = secrets.randbits(SERIAL_BITS) or 1
        own_name = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, str(serial))])
        language = LIMITED if limited or self._limited else INHERIT_ALL
        if path_length is not None:
            path_length = min([path_length, *self._path_lengths])
        # An elliptic-curve key cannot encipher; the bit would be a lie.
        usage = ENCIPHERS if self._enciphers and isinstance(public_key, rsa.RSAPublicKey) else SIGNS
        builder = (
            self._builder.subject_name(x509.Name([*self._subject, own_name]))
            .serial_number(serial)
            .public_key(public_key)
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(_info(language, path_length), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )
        for own in extensions:
            builder = builder.add_extension(own, critical=False)
        proxy = builder.sign(key, hashes.SHA256())
        self._check_names(proxy)
        return proxy

    def _life(
        self, lifetime: datetime.timedelta, now: datetime.datetime
    ) -> tuple[datetime.datetime, datetime.datetime]:
        now = now.astimezone(datetime.UTC).replace(microsecond=0)
        for end, reason in self._ends:
            if end <= now:
                raise refuse(reason)
        if lifetime < datetime.timedelta(seconds=1):
            raise refuse(Reason.INVALID_ARGUMENT, "A proxy must live for at least a second.")
        begin = max(now - CLOCK_SLACK, self._begin)
        # Compared before it is added: a life of centuries must not overflow the calendar.
        end = min(end for end, _ in self._ends)
        if lifetime < end - now:
            end = (now + lifetime).replace(microsecond=0)
        if end <= begin:
            raise refuse(Reason.CERTIFICATE_NOT_YET_VALID)
        return begin, end

    def _check_names(self, proxy: x509.Certificate) -> None:
        """Refuse to hand out a proxy whose names do not repeat the issuer's bytes.

        `cryptography` encodes names anew; a name that was not in canonical DER would come out different.
        """
        issuer, subject = raw_names(proxy)
        if issuer != self._raw_subject or not subject.startswith(self._raw_subject):
            raise refuse(
                Reason.NAME_UNSUPPORTED,
                "The certificate's name is not in canonical DER; no proxy can repeat it exactly.",
            )


def _check_chain(chain: Sequence[x509.Certificate], infos: Sequence[ProxyCertInfo | None]) -> x509.Certificate:
    if not chain:
        raise refuse(Reason.PROXY_EMPTY)
    if len(chain) >= DEEPEST_CHAIN:
        raise refuse(Reason.CHAIN_TOO_DEEP)
    for below, info in enumerate(infos):
        if info is None:
            continue
        if info.policy.language not in (INHERIT_ALL, LIMITED):
            raise refuse(Reason.PROXY_POLICY_UNSUPPORTED)
        if info.path_length is not None and info.path_length <= below:
            raise refuse(Reason.PROXY_PATH_LENGTH)
    constraints = _extension(chain[0], x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise refuse(Reason.CA_AS_END_ENTITY)
    return chain[0]


def _allowed(above: Sequence[ProxyCertInfo | None]) -> list[int]:
    """Return how many proxies each of a chain (leaf first) still allows below the next one."""
    return [
        info.path_length - below - 1
        for below, info in enumerate(above)
        if info is not None and info.path_length is not None
    ]


def _may_encipher(issuer: x509.Certificate) -> bool:
    above = _extension(issuer, x509.KeyUsage)
    if above is not None and not above.value.digital_signature:
        raise refuse(Reason.PROXY_KEY_USAGE, "The signing certificate may not make digital signatures.")
    return above is None or above.value.key_encipherment


def _usage(*, encipher: bool) -> x509.KeyUsage:
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


SIGNS, ENCIPHERS = _usage(encipher=False), _usage(encipher=True)


@functools.cache
def _info(language: ObjectIdentifier, path_length: int | None) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(PROXY_CERT_INFO, encode_proxy_info(language, path_length))


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


def same_key(certificate: x509.Certificate, key: PublicKey) -> bool:
    """Return whether a certificate is for this key."""
    return thumbprint(check_public_key(certificate.public_key())) == thumbprint(key)
