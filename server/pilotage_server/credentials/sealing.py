"""Sealing: AES-256-GCM under a key that needs both the owner's retrieval key and the service's own.

A sealed key opens only for the same owner, credential and end, which are authenticated with it, and only
with the service key of the id it names. Old service keys stay readable until what they sealed has ended.
"""

import datetime
import hashlib
import os
from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

VERSION = b"\x01"
"""HKDF over both keys, in this process."""
TOKEN_VERSION = b"\x02"
"""HMAC in a PKCS#11 token, then the second half of HKDF."""
VERSIONS = (VERSION, TOKEN_VERSION)
KEY_ID_BYTES = 8
SALT_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_BYTES = 32
PURPOSE = b"pilotage credential v1"
HEADER_BYTES = len(VERSION) + KEY_ID_BYTES + SALT_BYTES + NONCE_BYTES


class ServiceKey(Protocol):
    """One key of the service, wherever it is kept."""

    @property
    def version(self) -> bytes:
        """The first byte of what it seals: how the sealing key is derived."""
        ...

    @property
    def key_id(self) -> bytes:
        """Names the key in what it seals, without telling it; 8 bytes."""
        ...

    def derive(self, retrieval_key: Secret, salt: bytes) -> bytes:
        """Return the sealing key of one credential, 32 bytes."""
        ...


class FileKey:
    """A service key that this process holds."""

    version = VERSION

    def __init__(self, key: Secret) -> None:
        self._key = key
        self.key_id = key_id(key)

    def derive(self, retrieval_key: Secret, salt: bytes) -> bytes:
        """Return the sealing key: RFC 5869 over both keys. Each has a fixed length, so the two have one reading."""
        if len(self._key.reveal()) != KEY_BYTES:
            raise refuse(Reason.RETRIEVAL_KEY_WRONG)
        return HKDF(hashes.SHA256(), KEY_BYTES, salt, PURPOSE).derive(retrieval_key.reveal() + self._key.reveal())


class Sealer:
    """Seal and unseal with the service's keys: the first seals, all unseal. They may be replaced while it works."""

    def __init__(self, current: Secret | ServiceKey, older: Sequence[Secret | ServiceKey] = ()) -> None:
        self.replace(current, older)

    def replace(self, current: Secret | ServiceKey, older: Sequence[Secret | ServiceKey] = ()) -> None:
        """Seal with another key from now on; what is under way in a thread goes on with what it took."""
        known = [FileKey(key) if isinstance(key, Secret) else key for key in (current, *older)]
        # The present key is in the dictionary first, so that no thread finds a key named that is not there.
        self._keys: dict[bytes, ServiceKey] = {key.version + key.key_id: key for key in reversed(known)}
        self._current: ServiceKey = known[0]

    @property
    def current_prefix(self) -> bytes:
        """Return what every sealed form begins with that was made with the present key."""
        return self._current.version + self._current.key_id

    @property
    def asks_a_token(self) -> bool:
        """Tell whether sealing asks a PKCS#11 token, which may take its time."""
        return self._current.version == TOKEN_VERSION

    def is_current(self, sealed: bytes) -> bool:
        """Tell whether a sealed form was made with the present key."""
        return sealed.startswith(self.current_prefix)

    def seal(
        self, value: Secret, retrieval_key: Secret, owner_dn: str, credential_id: str, expire_time: datetime.datetime
    ) -> bytes:
        """Return the sealed form: version, key id, salt, nonce, ciphertext and tag."""
        salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
        key = self._current
        header = key.version + key.key_id + salt + nonce
        cipher = AESGCM(_derive(key, retrieval_key, salt))
        return header + cipher.encrypt(nonce, value.reveal(), _bound(header, owner_dn, credential_id, expire_time))

    def unseal(
        self, sealed: bytes, retrieval_key: Secret, owner_dn: str, credential_id: str, expire_time: datetime.datetime
    ) -> Secret:
        """Return the value, or raise RETRIEVAL_KEY_WRONG.

        A blob that was altered, or moved to another row, is not told apart from a wrong key.
        """
        if len(sealed) < HEADER_BYTES + TAG_BYTES or sealed[:1] not in VERSIONS:
            raise refuse(Reason.RETRIEVAL_KEY_WRONG)
        header, ciphertext = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
        service_key = self._keys.get(header[: 1 + KEY_ID_BYTES])
        if service_key is None:
            raise refuse(Reason.CREDENTIAL_DESTROYED, "The service key this credential was sealed with is gone.")
        salt, nonce = header[1 + KEY_ID_BYTES : -NONCE_BYTES], header[-NONCE_BYTES:]
        cipher = AESGCM(_derive(service_key, retrieval_key, salt))
        try:
            return Secret(cipher.decrypt(nonce, ciphertext, _bound(header, owner_dn, credential_id, expire_time)))
        except InvalidTag as error:
            raise refuse(Reason.RETRIEVAL_KEY_WRONG) from error


def key_id(key: Secret) -> bytes:
    """Name a service key without telling it."""
    return hashlib.sha256(b"pilotage service key id\0" + key.reveal()).digest()[:KEY_ID_BYTES]


def _derive(service_key: ServiceKey, retrieval_key: Secret, salt: bytes) -> bytes:
    """Derive the sealing key of one credential from both keys, with a salt of its own."""
    if len(retrieval_key.reveal()) != KEY_BYTES:
        raise refuse(Reason.RETRIEVAL_KEY_WRONG)
    return service_key.derive(retrieval_key, salt)


def _bound(header: bytes, owner_dn: str, credential_id: str, expire_time: datetime.datetime) -> bytes:
    """Encode what a sealed value is bound to, each part with its length."""
    moment = str((expire_time - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(microseconds=1))
    parts = (header, owner_dn.encode(), credential_id.encode(), moment.encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
