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
from pilotage.x509.keys import PrivateKey, PublicKey, check_public_key

LARGEST_KEY_BYTES = 16 * 1024
MOST_ITERATIONS = 2_000_000
KEY = re.compile(
    rb"-----BEGIN (RSA |EC |ENCRYPTED |)PRIVATE KEY-----\r?\n(.+?)-----END \1PRIVATE KEY-----\r?\n?", re.DOTALL
)
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
    keys = list(KEY.finditer(content))
    if len(keys) != 1 or len(keys[0].group()) > LARGEST_KEY_BYTES:
        raise malformed("The file must hold one private key in PEM, and its certificates.")
    kind, body, text = keys[0].group(1), keys[0].group(2), keys[0].group()
    encrypted = kind == b"ENCRYPTED " or b"Proc-Type: 4,ENCRYPTED" in body
    if kind == b"ENCRYPTED ":
        _check_effort(body)
    try:
        certificates = x509.load_pem_x509_certificates(content)
        rest = [one for one in certificates[1:] if one.subject != one.issuer]
        public_key = check_public_key(certificates[0].public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise malformed("The file holds no certificate that can be read.") from error
    chain = tuple(one.public_bytes(serialization.Encoding.DER) for one in (certificates[0], *rest))
    if len(chain) > MOST_CERTIFICATES:
        raise malformed(f"A chain has 1 to {MOST_CERTIFICATES} certificates.")
    return Upload(chain, public_key, Secret(text), encrypted)


def open_key(pem: Secret, passphrase: Secret | None) -> PrivateKey:
    """Return the key of an uploaded file; raise PASSPHRASE_WRONG."""
    try:
        secret = passphrase.reveal() if passphrase is not None else None
        key = serialization.load_pem_private_key(pem.reveal(), secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refuse(Reason.PASSPHRASE_WRONG) from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise refuse(Reason.KEY_KIND_REFUSED)
    return key


def _check_effort(body: bytes) -> None:
    """Refuse an encrypted key whose own parameters would keep the service busy for hours (RFC 8018, PBES2)."""
    try:
        der = base64.b64decode(body, validate=False)
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


def _flat(der: bytes) -> Iterator[tuple[int, bytes]]:
    for tag, value in _values(der):
        if tag == SEQUENCE:
            yield from _flat(value)
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
