"""The caller's stored credentials: the part of the SDK that `Client.credentials` is."""

import datetime
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc

from pilotage import convert
from pilotage.delegation import (
    KeyKeeper,
    Sealed,
    begin_request,
    complete_request,
    longest,
    not_told,
    rebind_request,
    reusable,
    told,
    told_of_jobs,
)
from pilotage.errors import PilotageError, refuse
from pilotage.jobs import Caller, Credential, Issuance, NameLink, Rebound
from pilotage.reasons import Reason
from pilotage.v1 import credential_pb2, credential_pb2_grpc, job_pb2_grpc
from pilotage.wire_errors import translated
from pilotage.x509.files import LocalIdentity
from pilotage.x509.keys import KeyKind

CALL_SECONDS = 60.0
PAGE = 100


class Credentials:
    """Delegate, list and destroy; and find one that does for a job."""

    def __init__(
        self,
        channel: grpc.Channel,
        identity: Callable[[], LocalIdentity],
        whoami: Callable[[], Caller],
        keys: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self._stub = credential_pb2_grpc.CredentialServiceStub(channel)
        self._jobs = job_pb2_grpc.JobServiceStub(channel)
        self._identity = identity
        self._whoami = whoami
        self._keys = KeyKeeper(keys) if keys is not None else None
        self._say = say

    def ready(
        self,
        needed: datetime.timedelta,
        *,
        lifetime: datetime.timedelta,
        name: str = "",
        kind: KeyKind = KeyKind.RSA_2048,
        owner_dn: str = "",
    ) -> Sealed:
        """Return a credential that lives long enough, delegating a new one if there is none.

        With an `owner_dn` that is linked to the caller's, one of that DN's: only the DN itself can delegate those, so
        CREDENTIAL_NOT_FOUND is raised when there is none that can be used from here.
        """
        identity = self._identity()
        stored = list(self.list())
        if owner_dn:
            return self._linked(stored, owner_dn, name, needed)
        if self._keys is not None:
            found = reusable(stored, self._keys.find, self._whoami(), identity, name=name, needed=needed, now=_now())
            if found is not None:
                return found
        sealed = self._delegate(lifetime, name=name, kind=kind, shorten=True)
        self._say(told(sealed.credential, stored, _now()))
        self._release(sealed)
        return sealed

    def delegate(
        self,
        lifetime: datetime.timedelta,
        *,
        name: str = "",
        kind: KeyKind = KeyKind.RSA_2048,
        shorten: bool = False,
    ) -> Sealed:
        """Delegate a new credential, keep its retrieval key, and release the jobs that were held for want of it.

        What would live longer than the service allows is refused (LIFETIME_TOO_LONG), or with `shorten` made shorter.
        """
        sealed = self._delegate(lifetime, name=name, kind=kind, shorten=shorten)
        self._release(sealed)
        return sealed

    def _linked(self, stored: Sequence[Credential], owner_dn: str, name: str, needed: datetime.timedelta) -> Sealed:
        fitting = [one for one in stored if (one.owner_dn, one.name) == (owner_dn, name)]
        found = longest(fitting, self._keys.find if self._keys else lambda _: None, needed=needed, now=_now())
        if found is None:
            named = f" named {name!r}" if name else ""
            raise refuse(
                Reason.CREDENTIAL_NOT_FOUND,
                f"No credential{named} of {owner_dn} that lives long enough can be used from here; is that DN linked"
                " (`pilotage link list`), and was it delegated from this machine?",
            )
        return found

    def rebind(self, sealed: Sealed) -> Rebound:
        """Give a credential to the caller's jobs that wait for one of its VO and role."""
        with translated():
            return convert.rebound(self._jobs.RebindCredential(rebind_request(sealed), timeout=CALL_SECONDS))

    def _release(self, sealed: Sealed) -> None:
        try:
            line = told_of_jobs(self.rebind(sealed))
        except PilotageError as error:
            line = not_told(error)
        if line:
            self._say(line)

    def _delegate(self, lifetime: datetime.timedelta, *, name: str, kind: KeyKind, shorten: bool) -> Sealed:
        with translated():
            begun = self._stub.BeginDelegation(begin_request(kind), timeout=CALL_SECONDS)
            request, key = complete_request(
                begun, self._identity(), lifetime=lifetime, now=_now(), name=name, shorten=shorten
            )
            done = self._stub.CompleteDelegation(request, timeout=CALL_SECONDS)
        sealed = Sealed(credential=convert.credential(done.credential), retrieval_key=key)
        if self._keys is not None and (problem := self._keys.try_keep(sealed)):
            self._say(problem)
        return sealed

    def list(self) -> Iterator[Credential]:
        """Yield the caller's credentials."""
        token = ""
        while True:
            request = credential_pb2.ListCredentialsRequest(page_size=PAGE, page_token=token)
            with translated():
                page = self._stub.ListCredentials(request, timeout=CALL_SECONDS)
            for message in page.credentials:
                yield convert.credential(message)
            token = page.next_page_token
            if not token:
                return

    def get(self, credential_id: str) -> Credential:
        """Return one of the caller's credentials."""
        request = credential_pb2.GetCredentialRequest(credential_id=credential_id)
        with translated():
            return convert.credential(self._stub.GetCredential(request, timeout=CALL_SECONDS).credential)

    def find(self, text: str) -> Credential:
        """Return one of the caller's credentials by its id, or by a name that only one has."""
        named = [one for one in self.list() if one.name == text] if text else []
        if len(named) > 1:
            ids = ", ".join(one.credential_id for one in named)
            raise refuse(Reason.INVALID_ARGUMENT, f"{len(named)} credentials are named {text!r}: {ids}; give an id.")
        return named[0] if named else self.get(text)

    def id_of(self, text: str) -> str:
        """Return the id of a credential by its id, whosever it is, or by a name that only one of the caller's has."""
        try:
            return str(uuid.UUID(text))
        except ValueError:
            return self.find(text).credential_id

    def destroy(self, credential_id: str) -> Credential:
        """Make the service forget a credential at once, and forget its retrieval key here."""
        request = credential_pb2.DestroyCredentialRequest(credential_id=credential_id)
        with translated():
            answer = self._stub.DestroyCredential(request, timeout=CALL_SECONDS)
        if self._keys is not None:
            self._keys.forget(credential_id)
        return convert.credential(answer.credential)

    def link(self, dn: str) -> bool:
        """Say that another DN is the same person; return whether it has said so as well, so that they are linked."""
        with translated():
            return self._stub.LinkName(credential_pb2.LinkNameRequest(dn=dn), timeout=CALL_SECONDS).linked

    def unlink(self, dn: str) -> None:
        """Take back what this DN and another said of each other."""
        with translated():
            self._stub.UnlinkName(credential_pb2.UnlinkNameRequest(dn=dn), timeout=CALL_SECONDS)

    def links(self) -> Sequence[NameLink]:
        """Return what the caller's DN said of others, and others of it."""
        with translated():
            found = self._stub.ListLinks(credential_pb2.ListLinksRequest(), timeout=CALL_SECONDS).links
        return [convert.name_link(link) for link in found]

    def issuances(self, credential_id: str) -> Iterator[Issuance]:
        """Yield who got a proxy of a credential, when and for which job."""
        token = ""
        while True:
            request = credential_pb2.ListIssuancesRequest(credential_id=credential_id, page_size=PAGE, page_token=token)
            with translated():
                page = self._stub.ListIssuances(request, timeout=CALL_SECONDS)
            for message in page.issuances:
                yield convert.issuance(message)
            token = page.next_page_token
            if not token:
                return


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
