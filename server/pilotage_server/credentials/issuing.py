"""One short proxy for one pilot's key, for one job, against one token (DESIGN section 6).

The owner's private key exists, in memory, for the length of `_make`. The token is spent, and the proxy
recorded, in one transaction before the proxy leaves; whatever is refused before that spends nothing.
"""

import asyncio
import datetime
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import msgspec
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from pilotage.errors import VerifyError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509.keys import PublicKey, key_from_der
from pilotage.x509.proxies import sign_proxy
from pilotage.x509.requests import check_request
from pilotage_server import tokens
from pilotage_server.clock import Clock
from pilotage_server.credentials.keeper import check_usable, refusals
from pilotage_server.credentials.sealing import Sealer
from pilotage_server.principal import Principal
from pilotage_server.store import credentials as store
from pilotage_server.store.credentials import Issuance, StoredCredential
from pilotage_server.store.database import Database
from pilotage_server.tokens import CredentialClaims
from pilotage_server.verifier import Verifier

audit = structlog.get_logger("pilotage.audit")

SHORTEST = datetime.timedelta(minutes=5)
THREADS = 2

AT_ISSUE = {
    Reason.CERTIFICATE_REVOKED: Reason.CREDENTIAL_REVOKED,
    Reason.VOMS_AA_REVOKED: Reason.CREDENTIAL_REVOKED,
    Reason.CERTIFICATE_EXPIRED: Reason.CREDENTIAL_EXPIRED,
    Reason.PROXY_EXPIRED: Reason.CREDENTIAL_EXPIRED,
    Reason.VOMS_EXPIRED: Reason.CREDENTIAL_EXPIRED,
}
"""What the verifier says of a stored chain, in the words of its owner and of the job that waits for it."""


class LeaseDirectory(Protocol):
    """Knows which leases are live; JobService's side."""

    async def is_live(self, lease_id: str, pilot_dn: str) -> bool:
        """Tell whether a pilot holds a lease now."""
        ...


class IssuedProxy(msgspec.Struct, frozen=True):
    """A proxy for the pilot's key, DER, leaf first down to the end entity."""

    chain: tuple[bytes, ...]
    expire_time: datetime.datetime


class Limits(msgspec.Struct, frozen=True):
    """The service's policy on proxies it issues: how long at most, and whether always limited."""

    lifetime: datetime.timedelta
    limited: bool


class ProxyIssuer:
    """Answer RetrieveCredential."""

    def __init__(
        self,
        database: Database,
        verifier: Verifier,
        sealer: Sealer,
        leases: LeaseDirectory,
        token_key: Ed25519PublicKey,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._database = database
        self._verifier = verifier
        self._sealer = sealer
        self._leases = leases
        self._token_key = token_key
        self._clock = clock
        self._limits = limits
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="issue")

    async def retrieve(
        self,
        caller: Principal,
        peer: str,
        token: Secret,
        retrieval_key: Secret,
        request: bytes,
        lifetime: datetime.timedelta,
    ) -> IssuedProxy:
        """Return a proxy for the caller's request.

        Raises, in the order of the checks: INVALID_ARGUMENT, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_FOREIGN,
        TOKEN_USED, LEASE_ENDED, CSR_INVALID, KEY_KIND_REFUSED, CREDENTIAL_NOT_FOUND, CREDENTIAL_DESTROYED,
        CREDENTIAL_EXPIRED, CREDENTIAL_TOO_SHORT, RETRIEVAL_KEY_WRONG, CREDENTIAL_REVOKED, and TOKEN_USED
        again for the slower of two.
        """
        with refusals("retrieval", caller, peer=peer):
            life = self._life(lifetime)
            claims = self._claims(token, caller)
        with refusals("retrieval", caller, peer=peer, **_names(claims)):
            await self._check_lease(claims, caller)
            public_key = check_request(request)
            stored, sealed = await self._load(claims)
            now = self._clock()
            loop = asyncio.get_running_loop()
            proxy = await loop.run_in_executor(
                self._threads, self._make, stored, sealed, retrieval_key, public_key, life, now
            )
            issuance = _issuance(claims, proxy, now, peer)
            await self._database.write(lambda connection: store.issue(connection, issuance))
        audit.info(
            "proxy issued",
            dn=stored.owner_dn,
            pilot=caller.dn,
            key=caller.thumbprint.hex(),
            serial=issuance.serial,
            jti=claims.jti,
            until=issuance.expire_time.isoformat(),
            peer=peer,
            **_names(claims),
        )
        return IssuedProxy((proxy.public_bytes(Encoding.DER), *stored.chain), issuance.expire_time)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _life(self, wanted: datetime.timedelta) -> datetime.timedelta:
        if wanted < datetime.timedelta(0):
            raise refuse(Reason.INVALID_ARGUMENT, "lifetime must not be negative.")
        return min(wanted or self._limits.lifetime, self._limits.lifetime)

    def _claims(self, token: Secret, caller: Principal) -> CredentialClaims:
        claims = tokens.verify(token.reveal_text(), self._token_key, self._clock())
        if claims.pilot_dn != caller.dn or claims.pilot_thumbprint != caller.thumbprint.hex():
            raise refuse(Reason.TOKEN_FOREIGN)
        return claims

    async def _check_lease(self, claims: CredentialClaims, caller: Principal) -> None:
        if await self._database.read(lambda connection: store.is_used(connection, claims.jti)):
            raise refuse(Reason.TOKEN_USED)
        if not await self._leases.is_live(claims.lease_id, caller.dn):
            raise refuse(Reason.LEASE_ENDED)

    async def _load(self, claims: CredentialClaims) -> tuple[StoredCredential, bytes]:
        stored = await self._database.read(lambda connection: store.get(connection, claims.credential_id))
        if stored.owner_dn != claims.owner_dn:
            raise refuse(Reason.CREDENTIAL_NOT_FOUND)
        now = self._clock()
        check_usable(stored, now)
        if stored.expire_time - now < SHORTEST:
            raise refuse(Reason.CREDENTIAL_TOO_SHORT)
        sealed = await self._database.read(lambda connection: store.sealed_key(connection, claims.credential_id))
        return stored, sealed

    def _make(
        self,
        stored: StoredCredential,
        sealed: bytes,
        retrieval_key: Secret,
        public_key: PublicKey,
        lifetime: datetime.timedelta,
        now: datetime.datetime,
    ) -> x509.Certificate:
        """Unseal, verify the stored chain as of now, and sign. Runs in a thread."""
        unsealed = self._sealer.unseal(sealed, retrieval_key, stored.owner_dn, stored.credential_id, stored.expire_time)
        try:
            self._verifier.chain_now(stored.chain, require_proxy=True)
        except VerifyError as error:
            raise refuse(AT_ISSUE.get(error.reason, error.reason), error.message) from error
        chain = [x509.load_der_x509_certificate(certificate) for certificate in stored.chain]
        key = key_from_der(unsealed.reveal())
        life = min(lifetime, stored.expire_time - now)
        return sign_proxy(chain, key, public_key, lifetime=life, limited=self._limits.limited, now=now)


def _issuance(claims: CredentialClaims, proxy: x509.Certificate, now: datetime.datetime, peer: str) -> Issuance:
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
    )


def _names(claims: CredentialClaims) -> dict[str, str]:
    """Name what a token is for, as log fields."""
    return {"credential": claims.credential_id, "job": claims.job_id, "lease": claims.lease_id}
