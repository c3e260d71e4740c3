"""What owners do through the gateway: store, look at, change the pass phrase of, and destroy."""

import asyncio
import datetime
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from pilotage.errors import refuse
from pilotage.myproxy.messages import Request
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509.keys import PrivateKey, key_to_der, kind_of, thumbprint
from pilotage.x509.pool import KeyPool
from pilotage_helper import Identity
from pilotage_server.auth.policy import Policy, Role
from pilotage_server.clock import Clock
from pilotage_server.credentials.keeper import SHORTEST, check_extendable, useful_until
from pilotage_server.gateway.opening import Locksmith
from pilotage_server.gateway.phrases import new_salt
from pilotage_server.gateway.policy import Client, EntryRules, GatewayRules, matches_any
from pilotage_server.gateway.record import Gone, Record
from pilotage_server.gateway.uploads import open_key, parse_upload
from pilotage_server.principal import Principal
from pilotage_server.store import myproxy as store
from pilotage_server.store.audit import Act
from pilotage_server.store.credentials import StoredCredential
from pilotage_server.store.database import Database
from pilotage_server.store.myproxy import Entry, Seal
from pilotage_server.verifier import Verifier

LONGEST_USERNAME = 256
LONGEST_NAME = 64
LONGEST_DESCRIPTION = 256
LONGEST_PASSPHRASE = 1023
"""What a private key in PEM can be encrypted with, in bytes."""

Changed = Callable[[str, str], Awaitable[None]]
"""Is told that a credential, named with its owner, is gone."""


class Storing:
    """Keep owners' credentials."""

    def __init__(
        self,
        database: Database,
        verifier: Verifier,
        locksmith: Locksmith,
        keys: KeyPool,
        clock: Clock,
        roles: Policy,
        rules: GatewayRules,
        record: Record,
        changed: Changed,
        max_lifetime: datetime.timedelta,
    ) -> None:
        self._database = database
        self._verifier = verifier
        self._locksmith = locksmith
        self._keys = keys
        self._clock = clock
        self._roles = roles
        self._rules = rules
        self._room = store.Room(rules.max_credentials, rules.max_usernames)
        self._record = record
        self._changed = changed
        self._max_lifetime = max_lifetime

    async def begin_put(self, client: Client, request: Request) -> tuple[PrivateKey, bytes]:
        """Check that the client may store this, make a key and return it with its request (PKCS#10, DER)."""
        await self._check(client, request, self._seal(request))
        pair = await self._keys.fetch()
        return pair.key, pair.request

    async def complete_put(self, client: Client, request: Request, key: PrivateKey, chain: Sequence[bytes]) -> None:
        """Verify the proxy that was made for the key, seal the key and store both: whole, or not at all."""
        caller = client.must()
        identity = await self._verifier.chain(chain, require_proxy=True)
        if identity.leaf_thumbprint != thumbprint(key.public_key()):
            raise refuse(Reason.DELEGATION_KEY_MISMATCH)
        check_extendable(chain)
        if useful_until(identity) - self._clock() > self._max_lifetime:
            raise refuse(
                Reason.LIFETIME_TOO_LONG, f"The proxy may live for at most {self._max_lifetime}; ask for less (-c)."
            )
        stored = self._stored(caller, request, identity, chain, kind_of(key.public_key()).value)
        await self._store(client, request, stored, self._seal(request), Secret(key_to_der(key)))

    async def check_store(self, client: Client, request: Request) -> None:
        """Check that the client may upload a private key."""
        if not self._rules.allow_key_storage:
            raise refuse(
                Reason.KEY_STORAGE_NOT_ALLOWED, "This service takes in no private keys; delegate with myproxy-init."
            )
        await self._check(client, request, Seal.UPLOADED)

    async def store(self, client: Client, request: Request, content: bytes) -> None:
        """Store an uploaded certificate and key; the key stays encrypted as it came, and is sealed besides."""
        upload = parse_upload(content)
        caller = client.must()
        identity = await self._verifier.chain(upload.chain)
        if upload.encrypted:
            seal, kept = Seal.UPLOADED, upload.key
        else:
            seal = self._unattended("a key that is not encrypted")
            key = await asyncio.to_thread(open_key, upload.key, None)
            if key.public_key() != upload.public_key:
                raise refuse(Reason.KEY_MISMATCH)
            kept = Secret(key_to_der(key))
        stored = self._stored(caller, request, identity, upload.chain, kind_of(upload.public_key).value)
        await self._store(client, request, stored, seal, kept)

    async def info(self, client: Client, request: Request) -> list[tuple[Entry, StoredCredential]]:
        """Return what the client has stored under a user name; of others' nothing is told."""
        caller = client.must()
        found = await self._database.read(lambda c: store.of_owner(c, request.username, caller.dn))
        if not found:
            raise refuse(
                Reason.CREDENTIAL_NOT_FOUND, f"You have no credentials under the user name {request.username}."
            )
        return found

    async def destroy(self, client: Client, request: Request) -> None:
        """Erase one of the client's credentials, at once."""
        entry, stored = await self._own(client, request)
        now = self._clock()
        done = await self._record.write(
            lambda connection, _: store.remove(connection, entry.credential_id, now),
            Act.DESTROYED,
            client,
            stored,
        )
        if done:
            await self._changed(entry.credential_id, stored.owner_dn)

    async def change_passphrase(self, client: Client, request: Request) -> None:
        """Seal one of the client's credentials under another pass phrase."""
        self._check_length(request.new_passphrase)
        entry, stored = await self._own(client, request)
        if entry.seal is Seal.SERVICE:
            raise refuse(Reason.PASSPHRASE_REFUSED, "This credential has no pass phrase; store it anew to give it one.")
        names = (entry.username, entry.name)
        opened = await self._locksmith.guess((entry, stored), names, request.passphrase, client.host, self._clock())
        changed, sealed = await self._locksmith.change(opened, new_salt(), request.new_passphrase, client.host)
        done = await self._record.write(
            lambda connection, _: store.reseal(connection, changed, opened.sealed, sealed),
            Act.PASSPHRASE_CHANGED,
            client,
            stored,
        )
        if not done:
            raise refuse(
                Reason.UNAVAILABLE, "The credential was changed by somebody else meanwhile; look, and try again."
            )

    async def prune(self) -> None:
        """Forget old guesses and names of what is gone; seal anew what a retired service key had sealed."""
        now = self._clock()
        await self._database.write(lambda connection: store.prune(connection, now))
        await self._locksmith.reseal_unattended()

    async def _own(self, client: Client, request: Request) -> tuple[Entry, StoredCredential]:
        caller = client.must()
        if client.limited:
            raise refuse(Reason.LIMITED_PROXY_REFUSED)
        found = await self._database.read(lambda c: store.find(c, request.username, request.name))
        if found is None or found[1].owner_dn != caller.dn:
            raise refuse(
                Reason.CREDENTIAL_NOT_FOUND, f"You have no such credential under the user name {request.username}."
            )
        return found

    async def _check(self, client: Client, request: Request, seal: Seal) -> None:
        """Raise unless this client may store something under these names, in this way."""
        caller = client.must()
        if client.limited:
            raise refuse(Reason.LIMITED_PROXY_REFUSED)
        is_owner = Role.OWNER in self._roles.roles(caller)
        if not is_owner and not matches_any(client, self._rules.accepted_credentials):
            raise refuse(Reason.ROLE_REQUIRED, f"{caller.dn} may not store credentials here (accepted_credentials).")
        _check_names(request)
        rules_of(request).check()
        if seal is Seal.PASSPHRASE:
            self._check_length(request.passphrase)
        claim = self._check_username(request.username, caller.dn)
        await self._database.read(
            lambda c: store.check_room(c, request.username, request.name, caller.dn, self._room, claim=claim)
        )

    def _check_username(self, username: str, dn: str) -> bool:
        """Raise USERNAME_TAKEN for a name kept for somebody else; tell whether the caller may take it if it is free."""
        kept_for = username if username.startswith("/") else self._rules.usernames.get(username)
        if kept_for is not None and kept_for != dn:
            raise refuse(Reason.USERNAME_TAKEN, f"The user name {username} is kept for somebody else.")
        return kept_for is not None or self._rules.claim_usernames

    def _check_length(self, passphrase: Secret) -> None:
        least = self._rules.min_passphrase_length
        if len(passphrase.reveal()) < least:
            raise refuse(Reason.PASSPHRASE_REFUSED, f"A pass phrase has at least {least} characters here.")
        if len(passphrase.reveal()) > LONGEST_PASSPHRASE:
            raise refuse(Reason.PASSPHRASE_REFUSED, f"A pass phrase has at most {LONGEST_PASSPHRASE} bytes.")

    def _seal(self, request: Request) -> Seal:
        return Seal.PASSPHRASE if request.passphrase else self._unattended("a credential without a pass phrase")

    def _unattended(self, what: str) -> Seal:
        if not self._rules.allow_unattended:
            raise refuse(
                Reason.UNATTENDED_NOT_ALLOWED,
                f"This service does not keep {what} (-n, -R, -Z); allow_unattended is off.",
            )
        return Seal.SERVICE

    def _stored(
        self, caller: Principal, request: Request, identity: Identity, chain: Sequence[bytes], key_kind: int
    ) -> StoredCredential:
        if identity.dn != caller.dn:
            raise refuse(Reason.DELEGATION_WRONG_OWNER)
        now = self._clock()
        until = min(useful_until(identity), now + self._max_lifetime)
        if until - now < SHORTEST:
            raise refuse(Reason.CREDENTIAL_TOO_SHORT, f"The credential must live for at least {SHORTEST}.")
        return StoredCredential(
            credential_id=str(uuid.uuid4()),
            owner_dn=caller.dn,
            name="/".join(["myproxy", request.username, *([request.name] if request.name else [])])[:LONGEST_USERNAME],
            vo=identity.vo,
            fqans=identity.fqans,
            key_kind=key_kind,
            limited=identity.limited,
            chain=tuple(chain),
            create_time=now,
            expire_time=until,
        )

    async def _store(
        self, client: Client, request: Request, stored: StoredCredential, seal: Seal, content: Secret
    ) -> None:
        entry = Entry(
            credential_id=stored.credential_id,
            username=request.username,
            name=request.name,
            description=request.description,
            max_seconds=request.lifetime_seconds,
            seal=seal,
            salt=new_salt(),
            **msgspec.structs.asdict(rules_of(request)),
        )
        sealed = await self._locksmith.seal(entry, stored, content, request.passphrase, client.host)
        facts = {
            "name": stored.name,
            "fqans": " ".join(stored.fqans),
            "until": stored.expire_time.isoformat(),
            "seal": seal.name,
        }
        now = self._clock()

        def put(connection: sqlite3.Connection, gone: Gone) -> str:
            previous = store.put(connection, entry, stored, sealed, self._room, now)
            if previous:
                gone(previous)
            return previous

        previous = await self._record.write(
            put,
            Act.STORED,
            client,
            stored,
            facts,
        )
        if previous:
            await self._changed(previous, stored.owner_dn)


def rules_of(request: Request) -> EntryRules:
    """Return the policy that a request gives its credential."""
    return EntryRules(
        retrievers=request.retrievers,
        trusted_retrievers=request.trusted_retrievers,
        renewers=request.renewers,
        key_retrievers=request.key_retrievers,
    )


def _check_names(request: Request) -> None:
    if not 0 < len(request.username) <= LONGEST_USERNAME:
        raise refuse(Reason.INVALID_ARGUMENT, f"A user name has 1 to {LONGEST_USERNAME} characters.")
    if len(request.name) > LONGEST_NAME or set(request.name) & set(",="):
        raise refuse(
            Reason.INVALID_ARGUMENT, f"A credential name has at most {LONGEST_NAME} characters, and no comma or '='."
        )
    if len(request.description) > LONGEST_DESCRIPTION:
        raise refuse(Reason.INVALID_ARGUMENT, f"A description has at most {LONGEST_DESCRIPTION} characters.")
