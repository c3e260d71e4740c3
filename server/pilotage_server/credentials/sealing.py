"""Sealing: AES-256-GCM under a key that needs both the owner's retrieval key and the service's own.

A sealed key opens only for the same owner, credential and end, which are authenticated with it, and only
with the service key of the id it names. Old service keys stay readable until what they sealed has ended.
"""

import datetime
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

VERSION = b"\x01"
KEY_ID_BYTES = 8
SALT_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_BYTES = 32
PURPOSE = b"pilotage credential v1"
HEADER_BYTES = len(VERSION) + KEY_ID_BYTES + SALT_BYTES + NONCE_BYTES


class Sealer:
    """Seal and unseal with the service's keys: the first seals, all unseal."""

    def __init__(self, current: Secret, older: Sequence[Secret] = ()) -> None:
        self._current = key_id(current)
        self._keys = {key_id(key): key for key in (current, *older)}

    def seal(
        self, value: Secret, retrieval_key: Secret, owner_dn: str, credential_id: str, expire_time: datetime.datetime
    ) -> bytes:
        """Return the sealed form: version, key id, salt, nonce, ciphertext and tag."""
        salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
        header = VERSION + self._current + salt + nonce
        cipher = AESGCM(_derive(retrieval_key, self._keys[self._current], salt))
        return header + cipher.encrypt(nonce, value.reveal(), _bound(header, owner_dn, credential_id, expire_time))

    def unseal(
        self, sealed: bytes, retrieval_key: Secret, owner_dn: str, credential_id: str, expire_time: datetime.datetime
    ) -> Secret:
        """Return the value, or raise RETRIEVAL_KEY_WRONG.

        A blob that was altered, or moved to another row, is not told apart from a wrong key.
        """
        if len(sealed) < HEADER_BYTES + TAG_BYTES or sealed[:1] != VERSION:
            raise refuse(Reason.RETRIEVAL_KEY_WRONG)
        header, ciphertext = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
        service_key = self._keys.get(header[1 : 1 + KEY_ID_BYTES])
        if service_key is None:
            raise refuse(Reason.CREDENTIAL_DESTROYED, "The service key this credential was sealed with is gone.")
        salt, nonce = header[1 + KEY_ID_BYTES : -NONCE_BYTES], header[-NONCE_BYTES:]
        cipher = AESGCM(_derive(retrieval_key, service_key, salt))
        try:
            return Secret(cipher.decrypt(nonce, ciphertext, _bound(header, owner_dn, credential_id, expire_time)))
        except InvalidTag as error:
            raise refuse(Reason.RETRIEVAL_KEY_WRONG) from error


def key_id(key: Secret) -> bytes:
    """Name a service key without telling it."""
    return hashlib.sha256(b"pilotage service key id\0" + key.reveal()).digest()[:KEY_ID_BYTES]


def _derive(retrieval_key: Secret, service_key: Secret, salt: bytes) -> bytes:
    """Derive the sealing key of one credential: RFC 5869 over both keys, with a salt of its own.

    Both keys have a fixed length, so their concatenation has one reading.
    """
    if len(retrieval_key.reveal()) != KEY_BYTES or len(service_key.reveal()) != KEY_BYTES:
        raise refuse(Reason.RETRIEVAL_KEY_WRONG)
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, PURPOSE).derive(retrieval_key.reveal() + service_key.reveal())


def _bound(header: bytes, owner_dn: str, credential_id: str, expire_time: datetime.datetime) -> bytes:
    """Encode what a sealed value is bound to, each part with its length."""
    moment = str((expire_time - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(microseconds=1))
    parts = (header, owner_dn.encode(), credential_id.encode(), moment.encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
