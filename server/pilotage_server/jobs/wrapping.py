"""Retrieval keys at rest: wrapped under a key that is not in the database."""

import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

KEY_BYTES = 32
NONCE_BYTES = 12
PURPOSE = "pilotage retrieval key v1"


class KeyWrap:
    """AES-256-GCM over a retrieval key, bound to one job, one owner and one credential.

    A row copied to another job does not open there.
    """

    def __init__(self, key: Secret) -> None:
        if len(key.reveal()) != KEY_BYTES:
            raise refuse(Reason.CONFIG_INVALID, "The wrapping key is not 32 bytes long.")
        self._cipher = AESGCM(key.reveal())

    def wrap(self, retrieval_key: Secret, *, job_id: str, owner_dn: str, credential_id: str) -> bytes:
        """Return nonce and ciphertext."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, retrieval_key.reveal(), _bound(job_id, owner_dn, credential_id))

    def unwrap(self, wrapped: bytes, *, job_id: str, owner_dn: str, credential_id: str) -> Secret:
        """Return the key, or raise RETRIEVAL_KEY_WRONG when the row was altered or the wrapping key is another."""
        nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            return Secret(self._cipher.decrypt(nonce, sealed, _bound(job_id, owner_dn, credential_id)))
        except (InvalidTag, ValueError) as error:
            raise refuse(Reason.RETRIEVAL_KEY_WRONG, "The stored retrieval key cannot be unwrapped.") from error


def _bound(job_id: str, owner_dn: str, credential_id: str) -> bytes:
    """Return the associated data; JSON keeps the three apart whatever they hold."""
    return msgspec.json.encode((PURPOSE, job_id, owner_dn, credential_id))
