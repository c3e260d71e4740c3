"""One short proxy for one pilot's key, for one job, against one token (DESIGN section 6).

The owner's private key exists, in memory, for the length of `_make`. The token is spent, and the proxy
recorded, in one transaction before the proxy leaves; whatever is refused before that spends nothing.
"""

import datetime
import sqlite3
import uuid
from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pilotage.errors import PilotageError, VerifyError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509.keys import PublicKey, key_from_der
from pilotage.x509.requests import check_request
from pilotage_server.clock import Clock
from pilotage_server.credentials.abuse import AbuseLimits
from pilotage_server.credentials.bans import Bans
from pilotage_server.credentials.issuers import Issuers
from pilotage_server.credentials.keeper import AT_ISSUE, check_usable
from pilotage_server.credentials.ledger import Ledger, Note, by
from pilotage_server.credentials.sealing import Sealer
from pilotage_server.principal import Principal
from pilotage_server.retrieval import Limits, RetrievalPolicy, vos_of
from pilotage_server.store import credentials as store
from pilotage_server.store import rates
from pilotage_server.store.audit import Act, Entry
from pilotage_server.store.credentials import Issuance, StoredCredential
from pilotage_server.store.database import Database
from pilotage_server.store.lease_credentials import Issued
from pilotage_server.store.rates import Rate, Scope
from pilotage_server.tokens import CredentialClaims, TokenKeys
from pilotage_server.verifier import Verifier
from pilotage_server.workers import Workers

audit = structlog.get_logger("pilotage.audit")

SHORTEST = datetime.timedelta(minutes=5)
RECALLED = 5000
"""How many issued proxies a start looks back: many more than the book holds unwritten."""

NO_FAILURE = (Reason.TOKEN_USED, Reason.LEASE_ENDED)
"""Refusals that say nothing of the renewal: a token shown twice, and a payload that is over."""


class LeaseDirectory(Protocol):
    """Knows which leases are live; JobService's side."""

    async def is_live(self, lease_id: str, pilot_dn: str) -> bool:
        """Tell whether a pilot holds a lease now."""
        ...


class ProxyBook(Protocol):
    """Keeps what proxies leases have; JobService's side."""

    def check_ready(self) -> None:
        """Raise STORE_UNAVAILABLE when it could not take a note now."""
        ...

    def issued(self, proxy: Issued) -> None:
        """Note a proxy that is about to be handed out."""
        ...

    async def recall(self, newest: Sequence[Issued]) -> None:
        """Take up the newest proxies again, oldest first: notes of some may have been lost when the service ended."""
        ...

    async def has_proxy(self, lease_id: str) -> bool:
        """Tell whether a live lease has had a proxy."""
        ...

    async def renewal_failed(self, lease_id: str, error: PilotageError) -> None:
        """Tell the owner that a renewal was refused."""
        ...


class IssuedProxy(msgspec.Struct, frozen=True):
    """A proxy for the pilot's key, DER, leaf first down to the end entity."""

    chain: tuple[bytes, ...]
    expire_time: datetime.datetime


class Wanted(msgspec.Struct, frozen=True):
    """What a pilot asks for, and what it shows for it; `lifetime` 0 is the longest that the policy allows."""

    token: Secret
    retrieval_key: Secret
    request: bytes
    lifetime: datetime.timedelta


class _Kept(msgspec.Struct, frozen=True):
    """A credential, its sealed key if it still has one, and the narrowest policy of the lease's proxies so far."""

    stored: StoredCredential
    sealed: bytes | None
    narrowest: store.Narrowest | None


class _Made(msgspec.Struct, frozen=True):
    """A proxy, and the stored key sealed anew where it was sealed with an old service key."""

    proxy: x509.Certificate
    resealed: bytes | None


class ProxyIssuer:
    """Answer RetrieveCredential and RenewCredential."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        bans: Bans,
        verifier: Verifier,
        sealer: Sealer,
        leases: LeaseDirectory,
        book: ProxyBook,
        token_keys: TokenKeys,
        clock: Clock,
        policy: RetrievalPolicy,
        abuse: AbuseLimits,
        threads: int,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._bans = bans
        self._verifier = verifier
        self._sealer = sealer
        self._leases = leases
        self._book = book
        self._token_keys = token_keys
        self._clock = clock
        self._policy = policy
        self._abuse = abuse
        self._threads = Workers("issue", threads)
        self._issuers = Issuers()

    async def start(self) -> None:
        """Let the book make up for notes that it lost, before the first call is served."""
        newest = await self._database.read(lambda c: store.newest_issuances(c, RECALLED))
        await self._book.recall([Issued(one.lease_id, one.issue_time, one.expire_time) for one in reversed(newest)])

    async def issue(self, caller: Principal, wanted: Wanted, *, renewal: bool) -> IssuedProxy:
        """Return a proxy for the caller's request: the first one of a lease, or for a renewal a newer one.

        Raises, in the order of the checks: INVALID_ARGUMENT, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_FOREIGN,
        TOKEN_USED, LEASE_ENDED, CREDENTIAL_NOT_FOUND, CREDENTIAL_DESTROYED, CREDENTIAL_EXPIRED,
        CREDENTIAL_TOO_SHORT, TARGET_REFUSED, CSR_INVALID, KEY_KIND_REFUSED, RETRIEVAL_KEY_WRONG, CREDENTIAL_REVOKED,
        and TOKEN_USED again for the slower of two; for a renewal NOTHING_TO_RENEW, after LEASE_ENDED. STORE_UNAVAILABLE
        while JobService cannot take notes of proxies.
        """
        refused = Act.RENEWAL_REFUSED if renewal else Act.RETRIEVAL_REFUSED
        async with self._ledger.late_refusals(refused, caller) as told:
            if wanted.lifetime < datetime.timedelta(0):
                raise refuse(Reason.INVALID_ARGUMENT, "lifetime must not be negative.")
            claims = self._token_keys.verify(wanted.token.reveal_text(), self._clock())
            told.names = _names(claims)
            if claims.pilot_dn != caller.dn or claims.pilot_thumbprint != caller.thumbprint.hex():
                raise refuse(Reason.TOKEN_FOREIGN)
            try:
                stored, issuance, proxy = await self._issue(caller, claims, wanted, renewal=renewal)
            except PilotageError as error:
                if renewal and error.reason not in NO_FAILURE:
                    await self._tell_owner(claims, error)
                raise
        return IssuedProxy((proxy.public_bytes(Encoding.DER), *stored.chain), issuance.expire_time)

    async def _issue(
        self,
        caller: Principal,
        claims: CredentialClaims,
        wanted: Wanted,
        *,
        renewal: bool,
    ) -> tuple[StoredCredential, Issuance, x509.Certificate]:
        self._book.check_ready()
        limited = self._rates(caller, claims)
        kept = await self._look(claims, caller, limited, renewal=renewal)
        stored, sealed, narrowest = self._check_kept(kept, claims)
        limits = self._policy.limits(vos_of(stored.fqans), caller)
        if narrowest is not None:
            # The policy may have become wider since the lease had its first proxy.
            limits = limits.narrowed(Limits(*narrowest))
        now = self._clock()

        def make() -> _Made:
            public_key = check_request(wanted.request)
            return self._make(stored, sealed, wanted, public_key, limits, now)

        def spend(connection: sqlite3.Connection, note: Note, made: _Made) -> tuple[Issuance, x509.Certificate]:
            issuance = _issuance(claims, made.proxy, limits, now, caller.peer)
            rates.take(connection, limited, now)
            store.issue(connection, issuance)
            if made.resealed is not None:
                store.reseal(connection, stored.credential_id, sealed, made.resealed)
            note(issued_entry(Act.RENEWED if renewal else Act.ISSUED, caller, claims, issuance))
            return issuance, made.proxy

        issuance, proxy = await self._ledger.write_prepared(self._threads, make, spend)
        # Certificates count whole seconds.
        suffices = bool(wanted.lifetime) and issuance.expire_time - now > wanted.lifetime - datetime.timedelta(
            seconds=2
        )
        self._book.issued(Issued(claims.lease_id, issuance.issue_time, issuance.expire_time, suffices))
        return stored, issuance, proxy

    async def _tell_owner(self, claims: CredentialClaims, refusal: PilotageError) -> None:
        try:
            await self._book.renewal_failed(claims.lease_id, refusal)
        except PilotageError as error:
            audit.error("owner not told of a failed renewal", reason=error.reason.name, lease=claims.lease_id)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close(wait=False)

    def _rates(self, caller: Principal, claims: CredentialClaims) -> tuple[Rate, ...]:
        pilot = f"{caller.dn} {caller.thumbprint.hex()}"
        return (
            Rate(Scope.PILOT_ISSUES, pilot, self._abuse.pilot_issues_per_minute),
            Rate(Scope.OWNER_ISSUES, claims.owner_dn, self._abuse.owner_issues_per_minute),
        )

    async def _look(
        self, claims: CredentialClaims, caller: Principal, limited: Sequence[Rate], *, renewal: bool
    ) -> _Kept | None:
        """Return what one snapshot has of the credential and its lease, if the token and the lease still hold."""
        live = await self._leases.is_live(claims.lease_id, caller.dn)
        renewable = not renewal or await self._book.has_proxy(claims.lease_id)
        now = self._clock()

        def look(connection: sqlite3.Connection) -> _Kept | None:
            self._ledger.check_admitted(connection, caller)
            if store.is_used(connection, claims.jti):
                raise refuse(Reason.TOKEN_USED)
            if not live:
                raise refuse(Reason.LEASE_ENDED)
            rates.check(connection, limited, now)
            if not renewable:
                raise refuse(Reason.NOTHING_TO_RENEW)
            found = store.find_with_key(connection, claims.credential_id)
            return None if found is None else _Kept(*found, store.narrowest(connection, claims.lease_id))

        return await self._database.read(look)

    def _check_kept(
        self, kept: _Kept | None, claims: CredentialClaims
    ) -> tuple[StoredCredential, bytes, store.Narrowest | None]:
        if kept is None or kept.stored.owner_dn != claims.owner_dn:
            raise refuse(Reason.CREDENTIAL_NOT_FOUND)
        stored, sealed = kept.stored, kept.sealed
        now = self._clock()
        check_usable(stored, now)
        self._bans.check_owner(stored.owner_dn, stored.fqans)
        if stored.expire_time - now < SHORTEST:
            raise refuse(Reason.CREDENTIAL_TOO_SHORT)
        if sealed is None:
            raise refuse(Reason.CREDENTIAL_DESTROYED)
        return stored, sealed, kept.narrowest

    def _make(
        self,
        stored: StoredCredential,
        sealed: bytes,
        wanted: Wanted,
        public_key: PublicKey,
        limits: Limits,
        now: datetime.datetime,
    ) -> _Made:
        """Unseal, verify the stored chain as of now, and sign. Runs in a thread.

        What an old service key sealed is sealed anew: only now are both keys at hand.
        """
        names = (stored.owner_dn, stored.credential_id, stored.expire_time)
        unsealed = self._sealer.unseal(sealed, wanted.retrieval_key, *names)
        try:
            self._verifier.chain_now(stored.chain, require_proxy=True)
        except VerifyError as error:
            raise refuse(AT_ISSUE.get(error.reason, error.reason), error.message) from error
        key = key_from_der(unsealed.reveal())
        life = min(wanted.lifetime or limits.lifetime, limits.lifetime, stored.expire_time - now)
        issuer = self._issuers.of(stored.chain)
        proxy = issuer.sign(
            key, public_key, lifetime=life, limited=limits.limited, path_length=limits.path_length, now=now
        )
        if self._sealer.is_current(sealed):
            return _Made(proxy, None)
        return _Made(proxy, self._sealer.seal(unsealed, wanted.retrieval_key, *names))


def _issuance(
    claims: CredentialClaims, proxy: x509.Certificate, limits: Limits, now: datetime.datetime, peer: str
) -> Issuance:
    return Issuance(
        issuance_id=str(uuid.uuid4()),
        credential_id=claims.credential_id,
        jti=claims.jti,
        job_id=claims.job_id,
        lease_id=claims.lease_id,
        attempt=claims.attempt,
        pilot_dn=claims.pilot_dn,
        serial=str(proxy.serial_number),
        issue_time=now,
        expire_time=proxy.not_valid_after_utc,
        peer=peer,
        max_seconds=int(limits.lifetime.total_seconds()),
        limited=limits.limited,
        path_length=limits.path_length,
    )


def issued_entry(act: Act, caller: Principal, claims: CredentialClaims, issuance: Issuance) -> Entry:
    """Return the audit entry of a proxy."""
    facts = {
        "serial": issuance.serial,
        "jti": claims.jti,
        "attempt": str(claims.attempt),
        "until": issuance.expire_time.isoformat(),
        "policy": "limited" if issuance.limited else "full",
    }
    if issuance.path_length is not None:
        facts["path_length"] = str(issuance.path_length)
    return by(caller, act, _names(claims), facts=facts)


def _names(claims: CredentialClaims) -> dict[str, str]:
    """Name what a token is for, as columns of the audit."""
    return {
        "owner_dn": claims.owner_dn,
        "credential_id": claims.credential_id,
        "job_id": claims.job_id,
        "lease_id": claims.lease_id,
    }
