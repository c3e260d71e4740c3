"""Opening a sealed key with what a client shows, and sealing one: the gateway's only use of key bytes."""

import asyncio
import datetime

import msgspec
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


class Opened(msgspec.Struct, frozen=True):
    """A credential that somebody may use; `limited` makes what is issued of it limited."""

    entry: Entry
    stored: StoredCredential
    sealed: bytes
    content: Secret
    passphrase: Secret
    limited: bool = False

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
        return self._sealer.seal(content, retrieval_key, stored.owner_dn, stored.credential_id, stored.expire_time)

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
        content = self._sealer.unseal(sealed, retrieval_key, stored.owner_dn, stored.credential_id, stored.expire_time)
        return Opened(entry, stored, sealed, content, passphrase)
