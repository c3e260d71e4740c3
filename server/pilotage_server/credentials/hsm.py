"""Service keys in a PKCS#11 token: they are made there, never leave it, and take part in every opening of a credential.

Instead of a key file's bytes the token's HMAC over salt and retrieval key goes into the sealing key. Whoever copies the
databases, the key folder and the retrieval keys as well opens nothing without asking the token.
"""

import contextlib
import datetime
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.credentials.sealing import KEY_BYTES, KEY_ID_BYTES, PURPOSE, TOKEN_VERSION
from pilotage_server.keys import read_private
from pilotage_server.store.times import microseconds

try:
    import pkcs11
    from pkcs11.exceptions import PKCS11Error, UserAlreadyLoggedIn
except ImportError:  # the extra `pkcs11` is not installed; a configuration that names a token is refused then
    pkcs11 = None  # type: ignore[assignment]

T = TypeVar("T")
ID_BYTES = 8
EXTRACT = b"pilotage credential v2\0"
NAME = b"pilotage service key id\0"


class TokenPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the keys are: the PKCS#11 module, the token's label, the keys' label, and the file with the user's PIN."""

    module: Path
    token: str
    pin_file: Path
    key: str = "pilotage-service"


class KeyToken:
    """A session with the token. One call at a time: PKCS#11 sessions are not for several threads."""

    def __init__(self, place: TokenPlace) -> None:
        self._place = place
        self._lock = threading.Lock()
        if pkcs11 is None:
            raise refuse(
                Reason.CONFIG_INVALID, "[pkcs11] needs the package python-pkcs11: install pilotage[server,pkcs11]."
            )
        with self._lock:
            self._session = self._open()

    def _open(self) -> "pkcs11.Session":
        place = self._place
        pin = read_private(place.pin_file, 256).reveal_text().strip()
        try:
            token = pkcs11.lib(str(place.module)).get_token(token_label=place.token)
            try:
                return token.open(rw=True, user_pin=pin)
            except UserAlreadyLoggedIn:
                return token.open(rw=True)
        except (PKCS11Error, RuntimeError) as error:
            # The library's own text may quote what it was given.
            raise refuse(
                Reason.CONFIG_INVALID,
                f"[pkcs11]: the token {place.token!r} of {place.module} cannot be used ({type(error).__name__}).",
            ) from error

    def close(self) -> None:
        """Log out; a session that was lost is over."""
        with self._lock, contextlib.suppress(PKCS11Error):
            self._session.close()

    def held(self) -> "list[TokenKey]":
        """Return the keys, the newest first: it seals."""
        return [TokenKey(self, object_id) for object_id in self._ask(self._ids)]

    def make(self, now: datetime.datetime) -> "TokenKey":
        """Make a key in the token, the newest from now on. It can be neither read nor wrapped out of it."""
        return TokenKey(self, self._ask(lambda: self._make(microseconds(now))))

    def mac(self, object_id: bytes, text: bytes) -> bytes:
        """Return a key's HMAC-SHA-256 over a text."""
        return self._ask(lambda: self._mac(object_id, text))

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask the token; a session that was lost is opened anew, once. Raises KEY_TOKEN_UNAVAILABLE."""
        with self._lock:
            try:
                return question()
            except PKCS11Error:
                pass
            try:
                self._session = self._open()
                return question()
            except PilotageError as error:
                if error.reason is not Reason.CONFIG_INVALID:
                    raise
                # It could be opened when the server began, so this may pass.
                raise refuse(Reason.KEY_TOKEN_UNAVAILABLE, error.message) from error
            except PKCS11Error as error:
                text = f"The key token does not answer ({type(error).__name__})."
                raise refuse(Reason.KEY_TOKEN_UNAVAILABLE, text) from error

    def _ids(self) -> list[bytes]:
        return sorted((_id_of(key) for key in self._find({})), reverse=True)

    def _make(self, number: int) -> bytes:
        """Make a key whose id is a number above that of all others, whatever the clock says."""
        others = [int.from_bytes(name, "big") for name in self._ids() if len(name) == ID_BYTES]
        object_id = max([number, *(other + 1 for other in others)]).to_bytes(ID_BYTES, "big")
        self._session.generate_key(
            pkcs11.KeyType.GENERIC_SECRET,
            KEY_BYTES * 8,
            id=object_id,
            label=self._place.key,
            store=True,
            capabilities=pkcs11.MechanismFlag.SIGN,
            template={
                pkcs11.Attribute.SENSITIVE: True,
                pkcs11.Attribute.EXTRACTABLE: False,
                pkcs11.Attribute.MODIFIABLE: False,
                pkcs11.Attribute.WRAP: False,
            },
        )
        return object_id

    def _mac(self, object_id: bytes, text: bytes) -> bytes:
        for key in self._find({pkcs11.Attribute.ID: object_id}):
            assert isinstance(key, pkcs11.SignMixin)
            return bytes(key.sign(text, mechanism=pkcs11.Mechanism.SHA256_HMAC))
        raise refuse(Reason.KEY_TOKEN_UNAVAILABLE, "The token does not have the key any more.")

    def _find(self, more: "dict[pkcs11.Attribute, object]") -> "list[pkcs11.Object]":
        wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY, pkcs11.Attribute.LABEL: self._place.key}
        return list(self._session.get_objects(wanted | more))


def _id_of(key: "pkcs11.Object") -> bytes:
    found = key[pkcs11.Attribute.ID]
    return bytes(found) if isinstance(found, bytes) else b""


class TokenKey:
    """One service key in the token."""

    version = TOKEN_VERSION

    def __init__(self, token: KeyToken, object_id: bytes) -> None:
        self._token = token
        self._object_id = object_id
        self.key_id = token.mac(object_id, NAME)[:KEY_ID_BYTES]

    def derive(self, retrieval_key: Secret, salt: bytes) -> bytes:
        """Return the sealing key of one credential: RFC 5869, whose first half is the token's."""
        extracted = self._token.mac(self._object_id, EXTRACT + salt + retrieval_key.reveal())
        return HKDFExpand(hashes.SHA256(), KEY_BYTES, PURPOSE).derive(extracted)
