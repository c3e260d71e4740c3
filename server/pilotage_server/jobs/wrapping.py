"""Retrieval keys at rest: wrapped under a key that is not in the database."""

import hashlib
import os
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
VERSION = b"\x01"
KEY_ID_BYTES = 8
PREFIX_BYTES = len(VERSION) + KEY_ID_BYTES
NAMELESS_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES
"""Length of the older form, which does not name its key."""
PURPOSE = "pilotage retrieval key v1"
NAME = b"pilotage wrap key id\0"


class KeyWrap:
    """AES-256-GCM over a retrieval key, bound to one job, one owner and one credential.

    A row copied to another job does not open there. The present key wraps, the older ones still unwrap; they may be
    replaced while the service runs.
    """

    def __init__(self, key: Secret, older: Sequence[Secret] = ()) -> None:
        self.replace(key, older)

    def replace(self, key: Secret, older: Sequence[Secret] = ()) -> None:
        """Wrap with another key from now on."""
        if any(len(one.reveal()) != KEY_BYTES for one in (key, *older)):
            raise refuse(Reason.CONFIG_INVALID, f"A wrapping key is not {KEY_BYTES} bytes long.")
        self._ciphers = {VERSION + key_id(one): AESGCM(one.reveal()) for one in (key, *older)}
        self.current_prefix = VERSION + key_id(key)
        """What everything begins with that was wrapped with the present key."""

    def wrap(self, retrieval_key: Secret, *, job_id: str, owner_dn: str, credential_id: str) -> bytes:
        """Return version, key id, nonce and ciphertext."""
        nonce, prefix = os.urandom(NONCE_BYTES), self.current_prefix
        bound = _bound(job_id, owner_dn, credential_id)
        return prefix + nonce + self._ciphers[prefix].encrypt(nonce, retrieval_key.reveal(), bound)

    def unwrap(self, wrapped: bytes, *, job_id: str, owner_dn: str, credential_id: str) -> Secret:
        """Return the key, or raise RETRIEVAL_KEY_WRONG when the row was altered or the wrapping key is another."""
        if len(wrapped) == NAMELESS_BYTES:
            ciphers, body = list(self._ciphers.values()), wrapped
        else:
            named = self._ciphers.get(wrapped[:PREFIX_BYTES])
            ciphers, body = [] if named is None else [named], wrapped[PREFIX_BYTES:]
        bound = _bound(job_id, owner_dn, credential_id)
        for cipher in ciphers:
            try:
                return Secret(cipher.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], bound))
            except (InvalidTag, ValueError):
                continue
        raise refuse(Reason.RETRIEVAL_KEY_WRONG, "The stored retrieval key cannot be unwrapped.")


def key_id(key: Secret) -> bytes:
    """Name a wrapping key without telling it."""
    return hashlib.sha256(NAME + key.reveal()).digest()[:KEY_ID_BYTES]


def _bound(job_id: str, owner_dn: str, credential_id: str) -> bytes:
    """Return the associated data; JSON keeps the three apart whatever they hold."""
    return msgspec.json.encode((PURPOSE, job_id, owner_dn, credential_id))
