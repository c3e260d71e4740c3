"""Signed claims in the one form this service writes: JWT (RFC 7519) with EdDSA (RFC 8037), compact (RFC 7515).

A token is verified at every retrieval, so this does what one form needs and no more. The header is a constant that is
compared byte for byte: no algorithm, key or type is ever taken from a token.
"""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


HEADER = _encode(b'{"alg":"EdDSA","typ":"JWT"}')


def sign(claims: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return the token of these claims, which are JSON already."""
    signed = HEADER + b"." + _encode(claims)
    return signed + b"." + _encode(key.sign(signed))


def verify(token: bytes, key: Ed25519PublicKey) -> bytes:
    """Return the claims, JSON, that were signed with this key; what they say is the caller's to check.

    Raises ValueError for everything else: another header, another key, anything altered, no token at all.
    """
    parts = token.split(b".")
    if len(parts) != 3 or parts[0] != HEADER:
        raise ValueError("not a token of the one form")
    try:
        key.verify(_decode(parts[2]), parts[0] + b"." + parts[1])
    except InvalidSignature as error:
        raise ValueError("not signed with this key") from error
    return _decode(parts[1])


def _decode(text: bytes) -> bytes:
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if _encode(data) != text:
        raise ValueError("not the one base64url form of its bytes")
    return data
