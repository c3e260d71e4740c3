"""Renewal: a client proves that it holds an older proxy of the owner, by signing a challenge with it."""

import datetime
import secrets
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper import Identity
from pilotage_server.verifier import Verifier

CHALLENGE_BYTES = 16
# The challenge is 16 random bytes that nobody but us chose, so SHA-1's collisions are of no use to a forger; the
# clients of Debian 12 know nothing else.
HASHES: dict[int, hashes.HashAlgorithm] = {2: hashes.SHA1(), 4: hashes.SHA256()}  # noqa: S303


class Proof(msgspec.Struct, frozen=True):
    """A client's answer to a challenge: PKCS#1 v1.5 over the challenge's text, and who signed."""

    method: int
    signature: bytes
    chain: Sequence[bytes]


Ask = Callable[[str], Awaitable[Proof]]
"""Sends a challenge and returns the answer."""


def new_challenge() -> str:
    """Return a challenge, in hexadecimal as it travels and is signed."""
    return secrets.token_hex(CHALLENGE_BYTES)


async def check_proof(
    verifier: Verifier, challenge: str, proof: Proof, owner_dn: str, now: datetime.datetime
) -> Identity:
    """Return who signed.

    Raises what the verifier says, PROXY_EXPIRED, SIGNATURE_INVALID, or for another's proxy RETRIEVER_NOT_ALLOWED.
    """
    identity = await verifier.chain(proof.chain)
    if identity.not_after <= now:
        raise refuse(Reason.PROXY_EXPIRED)
    key = x509.load_der_x509_certificate(proof.chain[0]).public_key()
    algorithm = HASHES.get(proof.method)
    if algorithm is None or not isinstance(key, rsa.RSAPublicKey):
        raise refuse(Reason.SIGNATURE_INVALID, "The proof must be made with an RSA key and SHA-1 or SHA-256.")
    try:
        key.verify(proof.signature, challenge.encode("ascii"), padding.PKCS1v15(), algorithm)
    except InvalidSignature as error:
        raise refuse(Reason.SIGNATURE_INVALID) from error
    if identity.dn != owner_dn:
        raise refuse(Reason.RETRIEVER_NOT_ALLOWED, "The older proxy that was shown is not of the credential's owner.")
    return identity
