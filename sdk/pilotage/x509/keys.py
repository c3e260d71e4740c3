"""Key pairs: the kinds we make and take."""

import enum
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pilotage.errors import refuse
from pilotage.reasons import Reason

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

SMALLEST_RSA_BITS = 2048
LARGEST_RSA_BITS = 8192
SMALLEST_EXPONENT = 65537


class KeyKind(enum.Enum):
    """The kinds of keys that are made; the value is the number of `pilotage.v1.KeyKind`."""

    RSA_2048 = 1
    """What every grid tool takes."""
    EC_P256 = 2
    """Quick, but refused by XRootD, canl and grid-proxy-info."""


def make_key(kind: KeyKind = KeyKind.RSA_2048) -> PrivateKey:
    """Make a key pair."""
    if kind is KeyKind.RSA_2048:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def kind_of(key: PublicKey) -> KeyKind:
    """Return the family a key belongs to; a larger RSA key counts as the RSA kind."""
    return KeyKind.RSA_2048 if isinstance(key, rsa.RSAPublicKey) else KeyKind.EC_P256


def check_public_key(key: object) -> PublicKey:
    """Return the key if it is of a kind and size we sign for, else raise KEY_KIND_REFUSED."""
    if isinstance(key, rsa.RSAPublicKey):
        if not SMALLEST_RSA_BITS <= key.key_size <= LARGEST_RSA_BITS:
            raise refuse(
                Reason.KEY_KIND_REFUSED,
                f"The RSA key has {key.key_size} bits; {SMALLEST_RSA_BITS} to {LARGEST_RSA_BITS} are accepted.",
            )
        if key.public_numbers().e < SMALLEST_EXPONENT:
            raise refuse(Reason.KEY_KIND_REFUSED, "The RSA key's public exponent is smaller than 65537.")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            raise refuse(Reason.KEY_KIND_REFUSED, f"The curve {key.curve.name} is not accepted; P-256 is.")
        return key
    raise refuse(Reason.KEY_KIND_REFUSED, "Only RSA and elliptic-curve keys are accepted.")


def thumbprint(key: PublicKey) -> bytes:
    """Return the SHA-256 of a key's SubjectPublicKeyInfo."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def key_to_der(key: PrivateKey) -> bytes:
    """Return a private key as unencrypted PKCS#8: secret bytes, for sealing or for a private socket."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_from_der(der: bytes) -> PrivateKey:
    """Load a key that we made ourselves.

    The primes are not tested again: that costs 30 ms and says nothing about bytes which were
    authenticated on the way here.
    """
    try:
        key = serialization.load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refuse(Reason.KEY_KIND_REFUSED, "The stored private key cannot be read.") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise refuse(Reason.KEY_KIND_REFUSED)
    return key
