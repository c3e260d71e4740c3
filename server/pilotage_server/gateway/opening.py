"""Opening a sealed key with what a client shows, and sealing one: the gateway's only use of key bytes."""

import asyncio
import datetime
import sqlite3

import msgspec
import structlog
from cryptography import x509

from pilotage.errors import CredentialError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509.keys import PrivateKey, key_from_der, key_to_der
from pilotage_server.credentials.sealing import Sealer
from pilotage_server.gateway.phrases import Stretcher
from pilotage_server.gateway.uploads import open_key
from pilotage_server.store import credentials, myproxy
from pilotage_server.store.credentials import StoredCredential
from pilotage_server.store.database import Database
from pilotage_server.store.myproxy import Entry, Seal

log = structlog.get_logger("pilotage.myproxy")


class Opened(msgspec.Struct, frozen=True):
    """A credential that somebody may use; `limited` makes what is issued of it limited."""

    entry: Entry
    stored: StoredCredential
    sealed: bytes
    content: Secret
    passphrase: Secret
    resealed: bytes | None = None
    """The same under the present service key, where an older one had sealed it."""
    limited: bool = False

    def keep_resealed(self, connection: sqlite3.Connection) -> None:
        """Store what was sealed anew, unless the credential was changed meanwhile."""
        if self.resealed is not None:
            credentials.reseal(connection, self.stored.credential_id, self.sealed, self.resealed)

    @property
    def key(self) -> PrivateKey:
        """Return the private key, checked against the certificate where it was somebody else who made it."""
        if self.entry.seal is not Seal.UPLOADED:
            return key_from_der(self.content.reveal())
        key = open_key(self.content, self.passphrase)
        if key.public_key() != x509.load_der_x509_certificate(self.stored.chain[0]).public_key():
            raise refuse(Reason.KEY_MISMATCH)
        return key


class Locksmith:
    """Seal and open the gateway's credentials."""

    def __init__(self, database: Database, sealer: Sealer, stretcher: Stretcher) -> None:
        self._database = database
        self._sealer = sealer
        self._stretcher = stretcher

    async def seal(
        self, entry: Entry, stored: StoredCredential, content: Secret, passphrase: Secret, host: str
    ) -> bytes:
        """Return the sealed form of a key, or of an uploaded file's key."""
        retrieval_key = await self._stretcher.retrieval_key(entry, passphrase, host)
        return await asyncio.to_thread(self._sealer.seal, content, retrieval_key, *_bound_to(stored))

    async def guess(
        self,
        found: tuple[Entry, StoredCredential] | None,
        names: tuple[str, str],
        passphrase: Secret,
        host: str,
        now: datetime.datetime,
    ) -> Opened:
        """Open what was found with a pass phrase; with None found, take as long, and raise the same PASSPHRASE_WRONG.

        Each guess is counted in the store before it is looked at. Raises PASSPHRASE_LOCKED after too many.
        """
        username, name = names
        await self._database.write(lambda connection: myproxy.guess(connection, username, name, now))
        if found is None or found[0].seal is Seal.SERVICE:
            await self._stretcher.waste(passphrase, host)
            raise refuse(Reason.PASSPHRASE_WRONG)
        entry, stored = found
        if entry.seal is Seal.UPLOADED:
            await self._stretcher.waste(passphrase, host)
        try:
            opened = await self._open(entry, stored, passphrase, host)
            await asyncio.to_thread(lambda: opened.key)
        except CredentialError as error:
            raise refuse(Reason.PASSPHRASE_WRONG) from error
        await self._database.write(lambda connection: myproxy.guessed_right(connection, username, name))
        return opened

    async def open_unattended(self, entry: Entry, stored: StoredCredential, host: str) -> Opened:
        """Open a credential that has no pass phrase."""
        return await self._open(entry, stored, Secret(b""), host)

    async def change(self, opened: Opened, salt: bytes, passphrase: Secret, host: str) -> tuple[Entry, bytes]:
        """Return a credential's entry and sealed key under another pass phrase."""
        entry = msgspec.structs.replace(opened.entry, seal=Seal.PASSPHRASE, salt=salt)
        content = Secret(key_to_der(await asyncio.to_thread(lambda: opened.key)))
        return entry, await self.seal(entry, opened.stored, content, passphrase, host)

    async def _open(self, entry: Entry, stored: StoredCredential, passphrase: Secret, host: str) -> Opened:
        sealed = await self._database.read(lambda connection: credentials.sealed_key(connection, entry.credential_id))
        retrieval_key = await self._stretcher.retrieval_key(entry, passphrase, host)
        content = await asyncio.to_thread(self._sealer.unseal, sealed, retrieval_key, *_bound_to(stored))
        resealed = None
        if not self._sealer.is_current(sealed):
            resealed = await asyncio.to_thread(self._sealer.seal, content, retrieval_key, *_bound_to(stored))
        return Opened(entry, stored, sealed, content, passphrase, resealed)

    async def reseal_unattended(self) -> None:
        """Seal with the present service key what an older one had sealed, where that takes no pass phrase.

        Where it takes one, only the next use can do so.
        """
        prefix = self._sealer.current_prefix
        found = await self._database.read(lambda connection: myproxy.sealed_otherwise(connection, prefix))
        for entry, stored in found:
            try:
                opened = await self._open(entry, stored, Secret(b""), "")
            except CredentialError as error:
                log.error("credential not sealed anew", credential=stored.credential_id, reason=error.reason.name)
                continue
            await self._database.write(opened.keep_resealed)


def _bound_to(stored: StoredCredential) -> tuple[str, str, datetime.datetime]:
    return stored.owner_dn, stored.credential_id, stored.expire_time
