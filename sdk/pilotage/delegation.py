"""Delegation: give the service a proxy for a key of its own, and keep what unseals it.

No private key travels. The service makes a key and a request, this client signs a proxy for it and
sends 32 random bytes, the retrieval key, under which the service seals its key and which it then
forgets. The client keeps them in a file of the user's alone, so that later jobs can use the same credential.
"""

import contextlib
import datetime
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization

from pilotage.errors import CredentialFileError, PilotageError, refuse
from pilotage.jobs import Caller, Credential, Rebound
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.v1 import credential_pb2, job_pb2
from pilotage.x509.files import LocalIdentity, read_private, write_private
from pilotage.x509.keys import KeyKind
from pilotage.x509.proxies import chain_end, sign_proxy
from pilotage.x509.requests import check_request

RETRIEVAL_KEY_BYTES = 32
WORTHWHILE = datetime.timedelta(minutes=10)
"""By how much a new credential must outlive an old one to be worth making."""
CLOCK_SLACK = datetime.timedelta(minutes=5)
"""By how much the service's clock may be behind this one's without its longest life being too long for it."""
CREDENTIAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)


class Sealed(msgspec.Struct, frozen=True):
    """A stored credential and the key that unseals it."""

    credential: Credential
    retrieval_key: Secret


class KeyKeeper:
    """Retrieval keys on this machine, a file each, named by their credential."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, credential_id: str, key: Secret) -> None:
        """Store a key; raise OSError where that cannot be done."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._path(credential_id), key.reveal())

    def find(self, credential_id: str) -> Secret | None:
        """Return the key of a credential, or None if this machine has none that may be used."""
        path = self._path(credential_id)
        if not path.exists():
            return None
        try:
            content = read_private(path)
        except CredentialFileError:
            return None
        return Secret(content) if len(content) == RETRIEVAL_KEY_BYTES else None

    def try_keep(self, sealed: Sealed) -> str:
        """Store the key of a new credential; return why that cannot be done, or nothing."""
        try:
            self.keep(sealed.credential.credential_id, sealed.retrieval_key)
        except OSError as error:
            why = f"{error.filename or self._folder}: {error.strerror or error}"
            return f"the credential cannot be used again later: its retrieval key cannot be kept ({why})"
        return ""

    def forget(self, credential_id: str) -> None:
        """Remove a key."""
        with contextlib.suppress(OSError):
            self._path(credential_id).unlink()

    def _path(self, credential_id: str) -> Path:
        # The server chose this name; it must not choose a place.
        if not CREDENTIAL_ID.fullmatch(credential_id):
            raise refuse(Reason.INTERNAL, "The server named a credential in a way that no file can be named.")
        return self._folder / credential_id


def begin_request(kind: KeyKind) -> credential_pb2.BeginDelegationRequest:
    """Return the call that begins a delegation."""
    return credential_pb2.BeginDelegationRequest(key_kind=credential_pb2.KeyKind.ValueType(kind.value))


def complete_request(
    begun: credential_pb2.BeginDelegationResponse,
    identity: LocalIdentity,
    *,
    lifetime: datetime.timedelta,
    now: datetime.datetime,
    name: str = "",
    shorten: bool = False,
) -> tuple[credential_pb2.CompleteDelegationRequest, Secret]:
    """Sign a proxy for the service's key; return the call that ends the delegation, and the retrieval key.

    The proxy ends with the identity's own chain at the latest, and with `shorten` when the service's longest life ends.
    """
    if shorten and begun.HasField("max_lifetime"):
        lifetime = min(lifetime, max(begun.max_lifetime.ToTimedelta() - CLOCK_SLACK, CLOCK_SLACK))
    public_key = check_request(begun.certificate_request)
    proxy = sign_proxy(identity.chain, identity.key, public_key, lifetime=lifetime, now=now)
    key = Secret(os.urandom(RETRIEVAL_KEY_BYTES))
    request = credential_pb2.CompleteDelegationRequest(
        delegation_id=begun.delegation_id,
        chain=[proxy.public_bytes(serialization.Encoding.DER), *identity.chain_der],
        retrieval_key=key.reveal(),
        name=name,
    )
    return request, key


def reusable(
    credentials: Sequence[Credential],
    find_key: Callable[[str], Secret | None],
    caller: Caller,
    identity: LocalIdentity,
    *,
    name: str,
    needed: datetime.timedelta,
    now: datetime.datetime,
) -> Sealed | None:
    """Return the longest-lived stored credential that does for a job, or None when a new one is better.

    It must carry the caller's present VO attributes and be unsealable from here. One that is shorter
    than needed still does if a new one would hardly live longer: the identity itself ends then.
    """
    fitting = [
        credential
        for credential in credentials
        if credential.name == name
        and credential.owner_dn == caller.dn
        and (credential.vo, credential.fqans) == (caller.vo, caller.fqans)
        and not credential.limited
        and credential.destroy_time is None
        and credential.revoke_time is None
        and credential.expire_time > now
    ]
    for credential in sorted(fitting, key=lambda credential: credential.expire_time, reverse=True):
        enough = credential.expire_time - now >= needed
        best_possible = chain_end(identity.chain) - credential.expire_time < WORTHWHILE
        if not (enough or best_possible):
            return None
        if (key := find_key(credential.credential_id)) is not None:
            return Sealed(credential=credential, retrieval_key=key)
    return None


def longest(
    credentials: Sequence[Credential],
    find_key: Callable[[str], Secret | None],
    *,
    needed: datetime.timedelta,
    now: datetime.datetime,
) -> Sealed | None:
    """Return the longest-lived of these credentials that lives long enough and can be unsealed from here, or None."""
    for credential in sorted(credentials, key=lambda one: one.expire_time, reverse=True):
        lives = credential.destroy_time is None and credential.revoke_time is None
        if lives and credential.expire_time - now >= needed and (key := find_key(credential.credential_id)):
            return Sealed(credential=credential, retrieval_key=key)
    return None


def told(credential: Credential, stored: Sequence[Credential], now: datetime.datetime) -> str:
    """Return the line that tells of a new credential, and when it replaces one, why."""
    line = f"delegated credential {credential.credential_id}, good until {credential.expire_time:%Y-%m-%d %H:%M} UTC"
    before = [
        one.expire_time
        for one in stored
        if (one.name, one.vo, one.fqans) == (credential.name, credential.vo, credential.fqans)
        and one.expire_time > now
        and one.revoke_time is None
    ]
    if not before:
        return line
    if max(before) + WORTHWHILE >= credential.expire_time:
        return f"{line} (this machine holds no key of the one before)"
    minutes = (max(before) - now) // datetime.timedelta(minutes=1)
    return f"{line} (the one before ends in {minutes // 60} h {minutes % 60} min)"


def rebind_request(sealed: Sealed) -> job_pb2.RebindCredentialRequest:
    """Return the call that gives a new credential to the jobs that wait for one."""
    return job_pb2.RebindCredentialRequest(
        credential_id=sealed.credential.credential_id, retrieval_key=sealed.retrieval_key.reveal()
    )


def told_of_jobs(done: Rebound) -> str:
    """Return the line that tells what a new credential did for held jobs, or nothing."""
    parts = [f"{_jobs(done.released)} released"] if done.released else []
    left = done.still_held
    parts += (
        [f"{_jobs(left)} not released: {'it needs' if left == 1 else 'they need'} one that lives longer"]
        if left
        else []
    )
    return "; ".join(parts)


def not_told(error: PilotageError) -> str:
    """Return the line that tells that held jobs did not hear of a new credential."""
    return f"held jobs were not released; delegate again to do so ({error})"


def _jobs(count: int) -> str:
    return f"{count} held job{'' if count == 1 else 's'}"
