"""What owners do with their credentials: delegate, list, look at, destroy (DESIGN section 6)."""

import asyncio
import datetime
import functools
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog
from cryptography import x509

from pilotage.errors import CredentialError, PilotageError, VerifyError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509.keys import KeyKind, key_to_der, thumbprint
from pilotage.x509.pool import KeyPair, KeyPool, make_pair
from pilotage.x509.proxies import proxy_info
from pilotage_helper import Identity
from pilotage_server.clock import Clock
from pilotage_server.credentials.abuse import AbuseLimits
from pilotage_server.credentials.bans import Bans
from pilotage_server.credentials.ledger import Ledger, Note, by
from pilotage_server.credentials.links import Links
from pilotage_server.credentials.pending import Pending, PendingKeys
from pilotage_server.credentials.sealing import KEY_BYTES, Sealer
from pilotage_server.principal import Principal
from pilotage_server.retrieval import vos_of
from pilotage_server.store import credentials as store
from pilotage_server.store import rates
from pilotage_server.store.audit import Act, Entry
from pilotage_server.store.credentials import Issuance, Place, StoredCredential
from pilotage_server.store.database import Database
from pilotage_server.store.rates import Rate, Scope
from pilotage_server.verifier import Verifier

audit = structlog.get_logger("pilotage.audit")

SHORTEST = datetime.timedelta(minutes=10)
LONGEST_NAME = 256


AT_ISSUE = {
    Reason.CERTIFICATE_REVOKED: Reason.CREDENTIAL_REVOKED,
    Reason.VOMS_AA_REVOKED: Reason.CREDENTIAL_REVOKED,
    Reason.CERTIFICATE_EXPIRED: Reason.CREDENTIAL_EXPIRED,
    Reason.PROXY_EXPIRED: Reason.CREDENTIAL_EXPIRED,
    Reason.VOMS_EXPIRED: Reason.CREDENTIAL_EXPIRED,
}
"""What the verifier says of a stored chain, in the words of its owner and of the job that waits for it."""
CHECK_BATCH = 100

Listener = Callable[[str, str], Awaitable[None]]
"""Is told that a credential, named with its owner, should be looked at again."""


class CredentialFacts(msgspec.Struct, frozen=True):
    """What a job has to know of its credential; `reason` is why it cannot be used now, or empty."""

    credential_id: str
    owner_dn: str
    vo: str
    vos: tuple[str, ...]
    fqan: str
    expire_time: datetime.datetime
    reason: str = ""
    message: str = ""


class CredentialKeeper:
    """Take delegations in and look after what is stored."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        bans: Bans,
        links: Links,
        verifier: Verifier,
        sealer: Sealer,
        keys: KeyPool,
        clock: Clock,
        max_lifetime: datetime.timedelta,
        abuse: AbuseLimits,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._bans = bans
        self._links = links
        self._verifier = verifier
        self._sealer = sealer
        self._keys = keys
        self._clock = clock
        self._max_lifetime = max_lifetime
        self._abuse = abuse
        self._pending = PendingKeys()
        self._listener: Listener | None = None

    @property
    def max_lifetime(self) -> datetime.timedelta:
        """Return how long a stored proxy may live."""
        return self._max_lifetime

    def tell(self, listener: Listener) -> None:
        """Have somebody told, from now on, of credentials that changed."""
        self._listener = listener

    async def begin_delegation(self, caller: Principal, kind: KeyKind) -> tuple[Pending, bytes]:
        """Make a key pair for the caller and return its request (PKCS#10, DER)."""
        async with self._ledger.refusals(Act.DELEGATION_REFUSED, caller, owner_dn=caller.dn):
            now, rate = self._clock(), self._rate(caller)
            await self._database.read(lambda connection: rates.check(connection, [rate], now))
            self._pending.check_room(caller.dn, now)
            # A caller who hangs up has begun all the same, and has one place less for a while.
            making = asyncio.ensure_future(self._make_pending(caller, kind))
            making.add_done_callback(lambda done: done.cancelled() or done.exception())
            return await asyncio.shield(making)

    async def _make_pending(self, caller: Principal, kind: KeyKind) -> tuple[Pending, bytes]:
        with self._pending.making(caller.dn, self._clock()):
            pair = await self._new_pair(kind)
        pending = self._pending.add(caller.dn, kind, pair.key, self._clock())
        audit.info("delegation begun", dn=caller.dn, delegation=pending.delegation_id, key_kind=kind.name)
        return pending, pair.request

    async def complete_delegation(
        self, caller: Principal, delegation_id: str, chain: Sequence[bytes], retrieval_key: Secret, name: str
    ) -> StoredCredential:
        """Verify the proxy made for the pending key, seal the key, store both and forget the key."""
        async with self._ledger.refusals(Act.DELEGATION_REFUSED, caller, owner_dn=caller.dn):
            if len(retrieval_key.reveal()) != KEY_BYTES:
                raise refuse(Reason.INVALID_ARGUMENT, f"retrieval_key must have {KEY_BYTES} bytes.")
            if len(name) > LONGEST_NAME or not name.isprintable():
                raise refuse(Reason.INVALID_ARGUMENT, f"name must have at most {LONGEST_NAME} printable characters.")
            pending = self._pending.take(delegation_id, caller.dn, self._clock())
            identity = await self._verifier.chain(chain, require_proxy=True)
            self._check(identity, pending, caller, chain)
            stored = StoredCredential(
                credential_id=str(uuid.uuid4()),
                owner_dn=caller.dn,
                name=name,
                vo=identity.vo,
                fqans=identity.fqans,
                key_kind=pending.kind.value,
                limited=identity.limited,
                chain=tuple(chain),
                create_time=self._clock(),
                expire_time=useful_until(identity),
            )
            key = Secret(key_to_der(pending.key))
            bound = (caller.dn, stored.credential_id, stored.expire_time)
            seal = functools.partial(self._sealer.seal, key, retrieval_key, *bound)
            sealed = await asyncio.to_thread(seal) if self._sealer.asks_a_token else seal()

            def add(connection: sqlite3.Connection, note: Note) -> None:
                rates.take(connection, [self._rate(caller)], stored.create_time)
                store.add(connection, stored, sealed)
                note(stored_entry(caller, stored))

            await self._ledger.write(add)
        return stored

    async def owned(self, caller: Principal, after: Place, limit: int) -> list[StoredCredential]:
        """Return the credentials of the caller and of names linked to it, newest first, without destroyed ones."""
        names = self.names(caller.dn)
        return await self._database.read(lambda connection: store.of_owner(connection, names, after, limit))

    def names(self, dn: str) -> Sequence[str]:
        """Return a DN and those that are linked to it, itself first."""
        return self._links.names(dn)

    async def get(self, owner_dn: str, credential_id: str) -> StoredCredential:
        """Return a credential of an owner or a name linked to it; another's is not told from none."""
        stored = await self._database.read(lambda connection: store.get(connection, credential_id))
        if stored.owner_dn not in self.names(owner_dn):
            raise refuse(Reason.CREDENTIAL_NOT_FOUND)
        return stored

    async def describe(self, credential_id: str, owner_dn: str, *, fresh: bool = False) -> CredentialFacts:
        """Return what a job needs to know of a credential, and whether it can be used now.

        `fresh` verifies its chain now, revocation lists included; else the last check counts.
        Raises CREDENTIAL_NOT_FOUND.
        """
        stored = await self.get(owner_dn, credential_id)
        fqan = stored.fqans[0] if stored.fqans else ""
        facts = CredentialFacts(
            stored.credential_id, stored.owner_dn, stored.vo, vos_of(stored.fqans), fqan, stored.expire_time
        )
        try:
            check_usable(stored, self._clock(), revocation=not fresh)
            self._bans.check_owner(stored.owner_dn, stored.fqans)
            if fresh:
                await self._verifier.chain(stored.chain, require_proxy=True)
        except VerifyError as error:
            reason = AT_ISSUE.get(error.reason, error.reason)
            return msgspec.structs.replace(facts, reason=reason.name, message=error.message)
        except CredentialError as error:
            return msgspec.structs.replace(facts, reason=error.reason.name, message=error.message)
        return facts

    async def destroy(self, caller: Principal, credential_id: str, *, as_admin: bool = False) -> StoredCredential:
        """Erase the sealed key of the caller's credential, or as an admin of anybody's; again changes nothing."""
        stored = await self._visible(caller, credential_id, as_admin=as_admin)
        now = self._clock()

        def erase(connection: sqlite3.Connection, note: Note) -> bool:
            done = store.destroy(connection, credential_id, now)
            if done:
                note(by(caller, Act.DESTROYED, names_of(stored)))
            return done

        if await self._ledger.write(erase):
            await self.changed(credential_id, stored.owner_dn)
        return await self.get(stored.owner_dn, credential_id)

    async def check_revocation(self) -> int:
        """Verify every credential that could be issued from; note which are revoked, or not any more; count changes."""
        after, changed = "", 0
        while True:
            now = self._clock()
            batch = await self._database.read(lambda c, a=after, n=now: store.live_after(c, n, a, CHECK_BATCH))  # type: ignore[misc]
            for stored in batch:
                changed += await self._check_one(stored)
            if len(batch) < CHECK_BATCH:
                return changed
            after = batch[-1].credential_id

    async def _check_one(self, stored: StoredCredential) -> bool:
        try:
            await self._verifier.chain(stored.chain, require_proxy=True)
            revoked = False
        except VerifyError as error:
            if AT_ISSUE.get(error.reason) is not Reason.CREDENTIAL_REVOKED:
                # A list that cannot be read says nothing of the credential; the issue itself will be refused.
                return False
            revoked = True
        if revoked is (stored.revoke_time is not None):
            return False
        name, now = stored.credential_id, self._clock()
        act = Act.REVOKED if revoked else Act.UNREVOKED
        entry = Entry(act=act, owner_dn=stored.owner_dn, credential_id=name)

        def mark(connection: sqlite3.Connection, note: Note) -> None:
            store.set_revoked(connection, name, now, revoked=revoked)
            note(entry)

        await self._ledger.write(mark)
        await self.changed(name, stored.owner_dn)
        return True

    async def changed(self, credential_id: str, owner_dn: str) -> None:
        """Tell the listener; when that fails nothing is lost, for it looks at all credentials once a minute anyway."""
        if self._listener is None:
            return
        try:
            await self._listener(credential_id, owner_dn)
        except PilotageError as error:
            audit.error("jobs not told of a credential", credential=credential_id, reason=error.reason.name)

    async def issuances(
        self, caller: Principal, credential_id: str, after: Place, limit: int, *, as_admin: bool = False
    ) -> list[Issuance]:
        """Return who got proxies of the caller's credential, or as an admin of anybody's, newest first."""
        await self._visible(caller, credential_id, as_admin=as_admin)
        return await self._database.read(lambda connection: store.issuances_of(connection, credential_id, after, limit))

    async def look(self, caller: Principal, credential_id: str) -> StoredCredential:
        """Return the caller's credential; another's is not told from none, and the try is recorded."""
        return await self._visible(caller, credential_id)

    async def _visible(self, caller: Principal, credential_id: str, *, as_admin: bool = False) -> StoredCredential:
        stored = await self._database.read(lambda connection: store.get(connection, credential_id))
        if as_admin or stored.owner_dn in self.names(caller.dn):
            return stored
        async with self._ledger.refusals(Act.ACCESS_REFUSED, caller, **names_of(stored)):
            raise refuse(Reason.CREDENTIAL_NOT_FOUND)

    async def prune(self) -> None:
        """Forget keys of delegations nobody completed, and erase what has ended."""
        now = self._clock()
        self._pending.prune(now)

        def erase(connection: sqlite3.Connection, note: Note) -> None:
            for credential_id, owner_dn in store.erase_expired(connection, now):
                note(Entry(act=Act.ERASED, owner_dn=owner_dn, credential_id=credential_id))

        await self._ledger.write(erase)
        await self._database.write(lambda connection: rates.prune(connection, now))

    def _rate(self, caller: Principal) -> Rate:
        return Rate(Scope.OWNER_DELEGATIONS, caller.dn, self._abuse.owner_delegations_per_minute)

    async def _new_pair(self, kind: KeyKind) -> KeyPair:
        """Return a key pair of the pool, or make one off the event loop."""
        return await (self._keys.fetch() if kind is self._keys.kind else asyncio.to_thread(make_pair, kind))

    def _check(self, identity: Identity, pending: Pending, caller: Principal, chain: Sequence[bytes]) -> None:
        if identity.leaf_thumbprint != thumbprint(pending.key.public_key()):
            raise refuse(Reason.DELEGATION_KEY_MISMATCH)
        if identity.dn != caller.dn:
            raise refuse(Reason.DELEGATION_WRONG_OWNER)
        check_extendable(chain)
        left = useful_until(identity) - self._clock()
        if left < SHORTEST:
            raise refuse(Reason.CREDENTIAL_TOO_SHORT, f"The proxy must live for at least {SHORTEST}.")
        if left > self._max_lifetime:
            longest = f"{self._max_lifetime / datetime.timedelta(hours=1):.6g}"
            raise refuse(Reason.LIFETIME_TOO_LONG, f"The proxy may live for at most {longest} hours here.")


def useful_until(identity: Identity) -> datetime.datetime:
    """Return when a stored proxy stops being of use: with its chain, or before with its VOMS attributes."""
    if identity.voms_not_after is None:
        return identity.not_after
    return min(identity.not_after, identity.voms_not_after)


def check_extendable(chain: Sequence[bytes]) -> None:
    """Raise PROXY_PATH_LENGTH for a chain on which a job's proxy cannot stand: said to the owner, not to a job."""
    for below, certificate in enumerate(chain):
        info = proxy_info(x509.load_der_x509_certificate(certificate))
        if info is not None and info.path_length is not None and info.path_length <= below:
            raise refuse(
                Reason.PROXY_PATH_LENGTH,
                "The chain's path length allows no further proxies, so no job could get one; make it without.",
            )


def check_usable(stored: StoredCredential, now: datetime.datetime, *, revocation: bool = False) -> None:
    """Raise CREDENTIAL_DESTROYED, _EXPIRED, or of the last check _REVOKED, for a credential that cannot be used."""
    if stored.destroy_time is not None:
        raise refuse(Reason.CREDENTIAL_DESTROYED)
    if revocation and stored.revoke_time is not None:
        raise refuse(Reason.CREDENTIAL_REVOKED)
    if now >= stored.expire_time:
        raise refuse(Reason.CREDENTIAL_EXPIRED)


def stored_entry(caller: Principal, stored: StoredCredential) -> Entry:
    """Return the audit entry of a credential that is stored."""
    facts = {
        "name": stored.name,
        "vo": stored.vo,
        "fqans": " ".join(stored.fqans),
        "until": stored.expire_time.isoformat(),
    }
    return by(caller, Act.STORED, names_of(stored), facts=facts)


def names_of(stored: StoredCredential) -> dict[str, str]:
    """Name a credential, as columns of the audit."""
    return {"owner_dn": stored.owner_dn, "credential_id": stored.credential_id}
