"""What owners do with their credentials: delegate, list, look at, destroy (DESIGN section 6)."""

import asyncio
import contextlib
import datetime
import uuid
from collections.abc import Iterator, Sequence

import msgspec
import structlog
from cryptography import x509

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509.keys import KeyKind, KeyPool, PrivateKey, key_to_der, make_key, thumbprint
from pilotage.x509.proxies import proxy_info
from pilotage.x509.requests import make_request
from pilotage_helper import Identity
from pilotage_server.clock import Clock
from pilotage_server.credentials.pending import Pending, PendingKeys
from pilotage_server.credentials.sealing import KEY_BYTES, Sealer
from pilotage_server.principal import Principal
from pilotage_server.store import credentials as store
from pilotage_server.store.credentials import Issuance, Place, StoredCredential
from pilotage_server.store.database import Database
from pilotage_server.verifier import Verifier

audit = structlog.get_logger("pilotage.audit")

SHORTEST = datetime.timedelta(minutes=10)
LONGEST_NAME = 256


class CredentialFacts(msgspec.Struct, frozen=True):
    """What a job has to know of its credential."""

    credential_id: str
    vo: str
    fqan: str
    expire_time: datetime.datetime


class CredentialKeeper:
    """Take delegations in and look after what is stored."""

    def __init__(
        self,
        database: Database,
        verifier: Verifier,
        sealer: Sealer,
        keys: KeyPool,
        clock: Clock,
        max_lifetime: datetime.timedelta,
    ) -> None:
        self._database = database
        self._verifier = verifier
        self._sealer = sealer
        self._keys = keys
        self._clock = clock
        self._max_lifetime = max_lifetime
        self._pending = PendingKeys()

    async def begin_delegation(self, caller: Principal, kind: KeyKind) -> tuple[Pending, bytes]:
        """Make a key pair for the caller and return its request (PKCS#10, DER)."""
        with refusals("delegation", caller):
            self._pending.check_room(caller.dn, self._clock())
            key, request = await asyncio.to_thread(self._new_key, kind)
            pending = self._pending.add(caller.dn, kind, key, self._clock())
        audit.info("delegation begun", dn=caller.dn, delegation=pending.delegation_id, key_kind=kind.name)
        return pending, request

    async def complete_delegation(
        self, caller: Principal, delegation_id: str, chain: Sequence[bytes], retrieval_key: Secret, name: str
    ) -> StoredCredential:
        """Verify the proxy made for the pending key, seal the key, store both and forget the key."""
        with refusals("delegation", caller, delegation=delegation_id):
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
            sealed = self._sealer.seal(key, retrieval_key, caller.dn, stored.credential_id, stored.expire_time)
            await self._database.write(lambda connection: store.add(connection, stored, sealed))
        audit.info(
            "credential stored",
            dn=caller.dn,
            credential=stored.credential_id,
            fqans=stored.fqans,
            until=stored.expire_time.isoformat(),
        )
        return stored

    async def owned(self, caller: Principal, after: Place, limit: int) -> list[StoredCredential]:
        """Return the caller's credentials, newest first, without destroyed ones."""
        return await self._database.read(lambda connection: store.of_owner(connection, caller.dn, after, limit))

    async def get(self, owner_dn: str, credential_id: str) -> StoredCredential:
        """Return an owner's credential; another's is not told from none."""
        stored = await self._database.read(lambda connection: store.get(connection, credential_id))
        if stored.owner_dn != owner_dn:
            raise refuse(Reason.CREDENTIAL_NOT_FOUND)
        return stored

    async def describe(self, credential_id: str, owner_dn: str) -> CredentialFacts:
        """Return what a job needs to know of a credential that can be used now.

        Raises CREDENTIAL_NOT_FOUND, CREDENTIAL_DESTROYED or CREDENTIAL_EXPIRED.
        """
        stored = await self.get(owner_dn, credential_id)
        check_usable(stored, self._clock())
        fqan = stored.fqans[0] if stored.fqans else ""
        return CredentialFacts(stored.credential_id, stored.vo, fqan, stored.expire_time)

    async def destroy(self, caller: Principal, credential_id: str) -> StoredCredential:
        """Erase the sealed key of the caller's credential; a second time changes nothing."""
        await self.get(caller.dn, credential_id)
        now = self._clock()
        done = await self._database.write(lambda connection: store.destroy(connection, credential_id, now))
        if done:
            audit.info("credential destroyed", dn=caller.dn, credential=credential_id)
        return await self.get(caller.dn, credential_id)

    async def issuances(self, owner_dn: str | None, credential_id: str, after: Place, limit: int) -> list[Issuance]:
        """Return who got proxies of a credential, newest first; `owner_dn` None asks as an admin."""
        stored = await self._database.read(lambda connection: store.get(connection, credential_id))
        if owner_dn is not None and stored.owner_dn != owner_dn:
            raise refuse(Reason.CREDENTIAL_NOT_FOUND)
        return await self._database.read(lambda connection: store.issuances_of(connection, credential_id, after, limit))

    async def prune(self) -> None:
        """Forget keys of delegations nobody completed, and erase what has ended."""
        now = self._clock()
        self._pending.prune(now)
        erased = await self._database.write(lambda connection: store.erase_expired(connection, now))
        if erased:
            audit.info("expired credentials erased", count=erased)

    def _new_key(self, kind: KeyKind) -> tuple[PrivateKey, bytes]:
        key = self._keys.take() if kind is self._keys.kind else make_key(kind)
        return key, make_request(key)

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
            raise refuse(Reason.LIFETIME_TOO_LONG, f"The proxy may live for at most {self._max_lifetime}.")


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


def check_usable(stored: StoredCredential, now: datetime.datetime) -> None:
    """Raise CREDENTIAL_DESTROYED or CREDENTIAL_EXPIRED for a credential that cannot be used any more."""
    if stored.destroy_time is not None:
        raise refuse(Reason.CREDENTIAL_DESTROYED)
    if now >= stored.expire_time:
        raise refuse(Reason.CREDENTIAL_EXPIRED)


@contextlib.contextmanager
def refusals(what: str, caller: Principal, **facts: str) -> Iterator[None]:
    """Write one audit line when the block refuses."""
    try:
        yield
    except PilotageError as error:
        audit.warning(f"{what} refused", dn=caller.dn, reason=error.reason.name, **facts)
        raise
