"""Files that owners upload (STORE): a certificate chain and a private key, the key encrypted or not."""

import base64
import binascii
import re
from collections.abc import Iterator

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pilotage.errors import refuse
from pilotage.myproxy.messages import MOST_CERTIFICATES, malformed
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509.keys import PrivateKey, PublicKey, check_public_key, key_to_der

LARGEST_KEY_BYTES = 16 * 1024
LARGEST_RSA_BITS = 4096
"""To test the primes of larger ones takes minutes."""
MOST_ITERATIONS = 2_000_000
DEEPEST = 8
BEGIN = re.compile(rb"-----BEGIN (RSA |EC |ENCRYPTED |)PRIVATE KEY-----\r?\n")
BASE64 = re.compile(rb"[A-Za-z0-9+/=\r\n]+")
PBES2 = bytes.fromhex("2a864886f70d01050d")
PBKDF2 = bytes.fromhex("2a864886f70d01050c")
SEQUENCE, OID, INTEGER = 0x30, 0x06, 0x02


class Upload(msgspec.Struct, frozen=True):
    """What was uploaded; `key` is PEM as it came, and `encrypted` says whether it needs a pass phrase."""

    chain: tuple[bytes, ...]
    public_key: PublicKey
    key: Secret
    encrypted: bool


def parse_upload(content: bytes) -> Upload:
    """Read an uploaded file; raise MYPROXY_MALFORMED or KEY_KIND_REFUSED."""
    kind, body, text = _key(content)
    encrypted = kind == b"ENCRYPTED " or b"Proc-Type: 4,ENCRYPTED" in body
    if kind == b"ENCRYPTED ":
        _check_effort(body)
    try:
        certificates = x509.load_pem_x509_certificates(content)
        rest = [one for one in certificates[1:] if one.subject != one.issuer]
        public_key = _check_size(check_public_key(certificates[0].public_key()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise malformed("The file holds no certificate that can be read.") from error
    chain = tuple(one.public_bytes(serialization.Encoding.DER) for one in (certificates[0], *rest))
    if len(chain) > MOST_CERTIFICATES:
        raise malformed(f"A chain has 1 to {MOST_CERTIFICATES} certificates.")
    return Upload(chain, public_key, Secret(text), encrypted)


def open_key(pem: Secret, passphrase: Secret | None) -> PrivateKey:
    """Return the key of an uploaded file; raise PASSPHRASE_WRONG, or KEY_KIND_REFUSED for a kind or size not taken."""
    try:
        secret = passphrase.reveal() if passphrase is not None else None
        key = serialization.load_pem_private_key(pem.reveal(), secret, unsafe_skip_rsa_key_validation=True)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise refuse(Reason.KEY_KIND_REFUSED)
        if isinstance(key, rsa.RSAPrivateKey):
            # Its owner may have put anything into it: only numbers of a size that is quickly tested are.
            _check_size(check_public_key(key.public_key()))
            numbers = key.private_numbers()
            if numbers.p * numbers.q != numbers.public_numbers.n:
                raise refuse(Reason.KEY_KIND_REFUSED, "The RSA key's primes are not those of its modulus.")
            serialization.load_der_private_key(key_to_der(key), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refuse(Reason.PASSPHRASE_WRONG) from error
    return key


def _key(content: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the kind of a file's one private key, what stands between its lines, and all of it."""
    begins = list(BEGIN.finditer(content))
    if len(begins) == 1:
        (begin,) = begins
        last = b"-----END " + begin.group(1) + b"PRIVATE KEY-----"
        end = content.find(last, begin.end())
        if begin.end() < end < begin.start() + LARGEST_KEY_BYTES:
            text = content[begin.start() : end] + last + b"\n"
            return begin.group(1), content[begin.end() : end], text
    raise malformed("The file must hold one private key in PEM, and its certificates.")


def _check_size(key: PublicKey) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size > LARGEST_RSA_BITS:
        raise refuse(Reason.KEY_KIND_REFUSED, f"RSA keys are taken in up to {LARGEST_RSA_BITS} bits.")
    return key


def _check_effort(body: bytes) -> None:
    """Refuse an encrypted key whose own parameters would keep the service busy for hours (RFC 8018, PBES2)."""
    try:
        if not BASE64.fullmatch(body):
            # Headers, say, which others would skip: what is looked at here must be what is opened later.
            raise binascii.Error
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise malformed("The private key is not base64.") from error
    outer = next(_values(der), (0, b""))
    algorithm = next(_values(outer[1]), (0, b""))
    flat = list(_flat(algorithm[1]))
    oids = [value for tag, value in flat if tag == OID]
    if outer[0] != SEQUENCE or algorithm[0] != SEQUENCE or oids[:2] != [PBES2, PBKDF2]:
        raise refuse(Reason.KEY_KIND_REFUSED, "An encrypted key is taken in PBES2 with PBKDF2, or in PEM's older form.")
    if any(int.from_bytes(value, "big") > MOST_ITERATIONS for tag, value in flat if tag == INTEGER):
        raise refuse(Reason.KEY_KIND_REFUSED, f"The key's encryption asks for more than {MOST_ITERATIONS} iterations.")


def _flat(der: bytes, depth: int = 0) -> Iterator[tuple[int, bytes]]:
    if depth > DEEPEST:
        raise malformed("The private key's encryption is described more deeply than any should be.")
    for tag, value in _values(der):
        if tag == SEQUENCE:
            yield from _flat(value, depth + 1)
        else:
            yield tag, value


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the values of a sequence's content; what is cut off or longer than two length bytes ends it."""
    at = 0
    while at + 2 <= len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length > 0x80:
            count = length & 0x7F
            if count > 2:
                return
            length = int.from_bytes(der[at : at + count], "big")
            at += count
        if length == 0x80 or at + length > len(der):
            return
        yield tag, der[at : at + length]
        at += length
