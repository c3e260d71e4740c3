"""Who has a session now: so that one whose certificate is revoked meanwhile need not be served to its end.

A session is proven once, at login, and lives for at most an hour. Chains are kept in memory until then and verified
anew from time to time; after a restart those of before are not known, and end by themselves.
"""

import collections
import datetime
from collections.abc import Sequence

import msgspec
import structlog

from pilotage.errors import VerifyError, refuse
from pilotage.reasons import Reason
from pilotage_server.clock import Clock
from pilotage_server.principal import Principal, Proof
from pilotage_server.verifier import Verifier

log = structlog.get_logger("pilotage.audit")

MOST = 10_000
REVOKED = (Reason.CERTIFICATE_REVOKED, Reason.VOMS_AA_REVOKED)
"""What shuts out. A list that cannot be read says nothing of anybody; the next login is refused anyway."""


Name = tuple[str, tuple[str, ...], bytes]
"""Whose session it is: DN, attributes and key. Proxies of several people may have one key, and attributes or none."""


def _name(caller: Principal) -> Name:
    return caller.dn, caller.fqans, caller.thumbprint


class Present(msgspec.Struct, frozen=True):
    """A caller with a session, and what was shown at its login."""

    principal: Principal
    chain: tuple[bytes, ...]


class Presence:
    """Remember logins by who they made the caller; shut out the revoked. It is a gate of the guard's."""

    def __init__(self, verifier: Verifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock
        self._present: collections.OrderedDict[Name, Present] = collections.OrderedDict()
        self._revoked: dict[Name, datetime.datetime] = {}
        """Who is shut out, and when the last session of theirs is over by itself."""

    def __len__(self) -> int:
        return len(self._present)

    def note(self, principal: Principal, chain: Sequence[bytes]) -> None:
        """Remember a caller who has just logged in, and so was not revoked just now."""
        name = _name(principal)
        self._revoked.pop(name, None)
        self._present.pop(name, None)
        self._present[name] = Present(principal, tuple(chain))
        while len(self._present) > MOST:
            self._present.popitem(last=False)

    def check(self, caller: Principal) -> None:
        """Raise SESSION_INVALID for a session whose bearer was revoked; the login that follows tells why."""
        if caller.proof is Proof.SESSION and _name(caller) in self._revoked:
            raise refuse(Reason.SESSION_INVALID, "The certificate of this session was revoked since it was opened.")

    async def look_again(self) -> None:
        """Verify the chains of all who have a session; forget those whose session is over."""
        for name, present in list(self._present.items()):
            if present.principal.expire_time <= self._clock():
                self._present.pop(name, None)
                continue
            try:
                await self._verifier.chain(present.chain)
            except VerifyError as error:
                if error.reason in REVOKED and name not in self._revoked:
                    self._revoked[name] = present.principal.expire_time
                    log.warning("session shut", dn=present.principal.dn, reason=error.reason.name)
            else:
                self._revoked.pop(name, None)
        now = self._clock()
        self._revoked = {name: end for name, end in self._revoked.items() if end > now}
