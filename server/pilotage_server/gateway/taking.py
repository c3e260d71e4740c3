"""Taking a credential: by its pass phrase, as a trusted retriever, or with an older proxy (renewal).

MyProxy's rules: the server's policy and the credential's must both admit the client. A stranger is told the same of a
credential that is not there, is not theirs to take, or that another pass phrase opens; its owner, and the audit log,
are told which.
"""

import asyncio
import datetime
import sqlite3
import uuid

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from pilotage.errors import PilotageError, VerifyError, refuse
from pilotage.myproxy.messages import Command, Request
from pilotage.reasons import Reason
from pilotage.x509.proxies import chain_end, sign_proxy
from pilotage.x509.requests import check_request
from pilotage_server.clock import Clock
from pilotage_server.credentials.bans import Bans
from pilotage_server.credentials.issuing import SHORTEST
from pilotage_server.credentials.keeper import AT_ISSUE, check_usable
from pilotage_server.gateway.opening import Locksmith, Opened
from pilotage_server.gateway.policy import Client, GatewayRules, admits, matches_any
from pilotage_server.gateway.proving import Ask, check_proof, new_challenge
from pilotage_server.gateway.record import Gone, Record
from pilotage_server.store import credentials
from pilotage_server.store import myproxy as store
from pilotage_server.store.audit import Act
from pilotage_server.store.credentials import Issuance, StoredCredential
from pilotage_server.store.database import Database
from pilotage_server.store.myproxy import Entry, Seal
from pilotage_server.verifier import Verifier

Found = tuple[Entry, StoredCredential]


class Taking:
    """Decide who gets what of a credential, and make it."""

    def __init__(
        self,
        database: Database,
        verifier: Verifier,
        bans: Bans,
        locksmith: Locksmith,
        clock: Clock,
        rules: GatewayRules,
        record: Record,
    ) -> None:
        self._database = database
        self._verifier = verifier
        self._bans = bans
        self._locksmith = locksmith
        self._clock = clock
        self._rules = rules
        self._record = record

    async def open(self, client: Client, request: Request, ask: Ask) -> Opened:
        """Return a credential that this client may take; raise why not."""
        self._check_server_policy(client, request)
        found = await self._database.read(lambda c: store.find(c, request.username, request.name))
        # Who may not take it unattended is treated as one who guesses, so that nobody finds out what there is.
        if request.passphrase and not (found is not None and self._may_open_unattended(client, found)):
            opened = await self._open_by_passphrase(client, request, found)
        else:
            opened = await self._open_without(client, request, found, ask)
        if request.command is Command.RETRIEVE and opened.limited:
            raise refuse(Reason.LIMITED_PROXY_REFUSED)
        check_usable(opened.stored, self._clock())
        self._bans.check_owner(opened.stored.owner_dn, opened.stored.fqans)
        if opened.stored.expire_time - self._clock() < SHORTEST:
            raise refuse(Reason.CREDENTIAL_TOO_SHORT)
        try:
            await self._verifier.chain(opened.stored.chain)
        except VerifyError as error:
            raise refuse(AT_ISSUE.get(error.reason, error.reason), error.message) from error
        return opened

    async def issue(self, client: Client, request: Request, opened: Opened, wanted: bytes) -> list[bytes]:
        """Return a proxy for the request (PKCS#10, DER) and its chain, once it is on record."""
        life = min(self._life(request, opened.entry), opened.stored.expire_time - self._clock())
        proxy = await asyncio.to_thread(_sign, opened, wanted, life, self._clock())
        await self._note(Act.ISSUED, client, opened, proxy)
        return [proxy.public_bytes(Encoding.DER), *opened.stored.chain]

    async def export(self, client: Client, opened: Opened) -> bytes:
        """Return certificate, key and chain in PEM, the key encrypted unless the credential has no pass phrase."""
        pem = await asyncio.to_thread(_pem, opened)
        await self._note(Act.KEY_RETRIEVED, client, opened, x509.load_der_x509_certificate(opened.stored.chain[0]))
        return pem

    def _check_server_policy(self, client: Client, request: Request) -> None:
        rules = self._rules
        if request.command is Command.RETRIEVE:
            if not rules.allow_key_storage:
                raise refuse(
                    Reason.KEY_STORAGE_NOT_ALLOWED, "This service gives out no private keys; use myproxy-logon."
                )
            if not matches_any(client, rules.authorized_key_retrievers):
                raise _not_allowed(client, "authorized_key_retrievers")
        if not matches_any(client, (*rules.authorized_retrievers, *rules.authorized_renewers)):
            raise _not_allowed(client, "authorized_retrievers, authorized_renewers")

    async def _open_by_passphrase(self, client: Client, request: Request, found: Found | None) -> Opened:
        allowed = (
            found is not None and self._may_retrieve(client, found[0]) and self._may_have_key(client, request, found)
        )
        names = (request.username, request.name)
        target = found if allowed else None
        try:
            opened = await self._locksmith.guess(target, names, request.passphrase, client.host, self._clock())
        except PilotageError as error:
            if error.reason is not Reason.PASSPHRASE_WRONG:
                raise
        else:
            return msgspec.structs.replace(opened, limited=client.limited)
        raise self._refusal(refuse(Reason.PASSPHRASE_WRONG), client, request, found)

    async def _open_without(self, client: Client, request: Request, found: Found | None, ask: Ask) -> Opened:
        blunt = refuse(
            Reason.CREDENTIAL_NOT_FOUND, "There is no credential of this name that you may take without a pass phrase."
        )
        if (
            found is None
            or not self._may_open_unattended(client, found)
            or not self._may_have_key(client, request, found)
        ):
            raise self._refusal(blunt, client, request, found)
        entry, stored = found
        limited = client.limited
        if not self._is_trusted(client, entry):
            challenge = new_challenge()
            proof = await ask(challenge)
            older = await check_proof(self._verifier, challenge, proof, stored.owner_dn, self._clock())
            limited = limited or older.limited
        opened = await self._locksmith.open_unattended(entry, stored, client.host)
        return msgspec.structs.replace(opened, limited=limited)

    def _may_open_unattended(self, client: Client, found: Found) -> bool:
        """Tell whether a client may take a credential without a pass phrase, or prove by an older proxy that it may."""
        entry, stored = found
        rules = self._rules
        if entry.seal is not Seal.SERVICE or client.principal is None:
            return False
        if client.name == stored.owner_dn and not rules.allow_self_authorization:
            return False
        renews = admits(client, rules.authorized_renewers, entry.renewers, rules.default_renewers)
        return renews or self._is_trusted(client, entry)

    def _is_trusted(self, client: Client, entry: Entry) -> bool:
        rules = self._rules
        trusted = admits(client, rules.trusted_retrievers, entry.trusted_retrievers, rules.default_trusted_retrievers)
        return trusted and self._may_retrieve(client, entry)

    def _may_retrieve(self, client: Client, entry: Entry) -> bool:
        return admits(client, self._rules.authorized_retrievers, entry.retrievers, self._rules.default_retrievers)

    def _may_have_key(self, client: Client, request: Request, found: Found) -> bool:
        if request.command is not Command.RETRIEVE:
            return True
        rules = self._rules
        return admits(client, rules.authorized_key_retrievers, found[0].key_retrievers, rules.default_key_retrievers)

    def _why_not(self, client: Client, request: Request, found: Found | None) -> PilotageError:
        """Return the true reason of a refusal, for the audit log and for the credential's owner."""
        if found is None:
            return refuse(Reason.CREDENTIAL_NOT_FOUND, "There is no credential of this name.")
        entry, stored = found
        if not self._may_have_key(client, request, found):
            return _not_allowed(client, "key retrievers")
        if entry.seal is not Seal.SERVICE:
            if not self._may_retrieve(client, entry):
                return _not_allowed(client, "retrievers")
            return refuse(Reason.PASSPHRASE_WRONG, "This credential needs its own pass phrase.")
        if client.name == stored.owner_dn and not self._rules.allow_self_authorization:
            return refuse(Reason.RETRIEVER_NOT_ALLOWED, "A proxy may not refresh itself (allow_self_authorization).")
        return _not_allowed(client, "trusted retrievers, renewers")

    def _refusal(self, blunt: PilotageError, client: Client, request: Request, found: Found | None) -> PilotageError:
        """Return what a client is told: the truth if the credential is its own, else the same as of any other."""
        true = self._why_not(client, request, found)
        if found is not None and client.principal is not None and found[1].owner_dn == client.principal.dn:
            return true
        blunt.__cause__ = true
        return blunt

    def _life(self, request: Request, entry: Entry) -> datetime.timedelta:
        wishes = [seconds for seconds in (request.lifetime_seconds, entry.max_seconds) if seconds]
        return datetime.timedelta(seconds=min([*wishes, self._rules.max_proxy_seconds]))

    async def _note(self, act: Act, client: Client, opened: Opened, leaf: x509.Certificate) -> None:
        """Put on record what is about to leave, unless the credential was destroyed meanwhile."""
        name = str(uuid.uuid4())
        issuance = Issuance(
            issuance_id=name,
            credential_id=opened.stored.credential_id,
            jti=f"myproxy-{name}",
            job_id="",
            lease_id="",
            attempt=0,
            pilot_dn=client.name,
            serial=str(leaf.serial_number),
            issue_time=self._clock(),
            expire_time=chain_end([leaf]),
            peer=client.host,
        )
        facts = {"serial": issuance.serial, "jti": issuance.jti, "until": issuance.expire_time.isoformat()}

        def issue(connection: sqlite3.Connection, _: Gone) -> None:
            credentials.issue(connection, issuance)
            opened.keep_resealed(connection)

        await self._record.write(issue, act, client, opened.stored, facts)


def _not_allowed(client: Client, policy: str) -> PilotageError:
    return refuse(Reason.RETRIEVER_NOT_ALLOWED, f"{client.name} is not admitted by the policy ({policy}).")


def _sign(opened: Opened, wanted: bytes, life: datetime.timedelta, now: datetime.datetime) -> x509.Certificate:
    public_key = check_request(wanted)
    chain = [x509.load_der_x509_certificate(certificate) for certificate in opened.stored.chain]
    return sign_proxy(chain, opened.key, public_key, lifetime=life, limited=opened.limited, now=now)


def _pem(opened: Opened) -> bytes:
    if opened.entry.seal is Seal.UPLOADED:
        key = opened.content.reveal()
    elif opened.entry.seal is Seal.SERVICE:
        key = opened.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    else:
        closed = BestAvailableEncryption(opened.passphrase.reveal())
        key = opened.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, closed)
    chain = [x509.load_der_x509_certificate(certificate) for certificate in opened.stored.chain]
    certificates = [certificate.public_bytes(Encoding.PEM) for certificate in chain]
    return b"".join([certificates[0], key, *certificates[1:]])
