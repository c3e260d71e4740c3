"""Who has a session now: so that one whose certificate is revoked meanwhile need not be served to its end.

A session is proven once, at login, and lives for at most an hour. Chains are kept in memory until then and verified
anew when a file of the trust anchors was changed. Of a session whose chain is not here (it was opened before this
process began, or there was no more room) nobody can tell that; so once a file has changed since it was opened, its
bearer has to log in again, which clients do by themselves.
"""

import asyncio
import collections
import datetime
import hashlib
from collections.abc import Sequence

import msgspec
import structlog

from pilotage.errors import VerifyError, refuse
from pilotage.reasons import Reason
from pilotage_server import metrics
from pilotage_server.auth.sessions import LIFETIME
from pilotage_server.auth.trust_watch import TrustState, TrustWatch
from pilotage_server.clock import Clock
from pilotage_server.principal import Principal, Proof
from pilotage_server.verifier import Verifier

log = structlog.get_logger("pilotage.audit")

ROOM = 768 * 1024**2
"""Bytes for all sessions together, certificates and what is kept beside them.

For 150,000 pilots, each with a key and an attribute certificate of its own, at 5 KiB. Measured: 2.8 KB with a small
attribute certificate, 1.2 KB where proxies are delegated from one that has it.
"""
SESSION_BYTES = 500
CERTIFICATE_BYTES = 250
PERSON_BYTES = 1500
"""What a session, a certificate and a DN take of memory beside the certificates' own bytes, rounded up."""
MARGIN = datetime.timedelta(seconds=60)
"""A session may have been proven this long before it says that it was opened, and clocks of file servers differ."""
REVOKED = (Reason.CERTIFICATE_REVOKED, Reason.VOMS_AA_REVOKED)
"""What shuts out. A list that cannot be read says nothing of anybody; the next login is refused anyway."""


def _key(caller: Principal) -> bytes:
    """Return what tells one DN's sessions apart: key and attributes, which proxies of one key may have or not."""
    return hashlib.sha256(caller.thumbprint + "\0".join(caller.fqans).encode()).digest()


class Present(msgspec.Struct, frozen=True, gc=False):
    """A session: when it ends, and what was shown at its login."""

    expire_time: datetime.datetime
    chain: tuple[bytes, ...]


class Copy(msgspec.Struct, gc=False):
    """A certificate that several chains of one DN have in common."""

    der: bytes
    uses: int = 0


class Person:
    """The sessions of one DN, the one opened longest ago first, and the bytes that they take."""

    def __init__(self) -> None:
        self.bytes = PERSON_BYTES
        self.sessions: collections.OrderedDict[bytes, Present] = collections.OrderedDict()
        self._copies: dict[bytes, Copy] = {}

    def add(self, key: bytes, expire_time: datetime.datetime, chain: Sequence[bytes]) -> None:
        """Remember a session in the place of one with the same key."""
        before = self.sessions.pop(key, None)
        self.sessions[key] = Present(expire_time, tuple(map(self._take, chain)))
        self.bytes += SESSION_BYTES
        if before is not None:
            self._forget(before)

    def drop(self, key: bytes) -> None:
        """Forget a session."""
        self._forget(self.sessions.pop(key))

    def drop_first(self) -> None:
        """Forget the session opened longest ago."""
        self._forget(self.sessions.popitem(last=False)[1])

    def _forget(self, present: Present) -> None:
        for der in present.chain:
            self._put_back(der)
        self.bytes -= SESSION_BYTES

    def _take(self, der: bytes) -> bytes:
        copy = self._copies.get(der)
        if copy is None:
            copy = self._copies[der] = Copy(der)
            self.bytes += len(der) + CERTIFICATE_BYTES
        copy.uses += 1
        return copy.der

    def _put_back(self, der: bytes) -> None:
        copy = self._copies[der]
        copy.uses -= 1
        if not copy.uses:
            del self._copies[der]
            self.bytes -= len(der) + CERTIFICATE_BYTES


class Presence:
    """Remember logins by who they made the caller; shut out the revoked. It is a gate of the guard's.

    When there is no more room, whoever takes most of it gives: nobody can push out a DN that takes less.
    """

    def __init__(self, verifier: Verifier, watch: TrustWatch, clock: Clock, room: int = ROOM) -> None:
        self._verifier = verifier
        self._watch = watch
        self._clock = clock
        self._room = room
        self.bytes = 0
        """What all of this takes of the room."""
        self._people: dict[str, Person] = {}
        self._revoked: dict[tuple[str, bytes], datetime.datetime] = {}
        """Who is shut out, and when the last session of theirs is over by itself."""
        self._trust: TrustState | None = None
        self._changed: datetime.datetime | None = None
        """Until when sessions were opened of which nothing is known unless they are here; None before `begin`."""
        self._verify_again = False

    def __len__(self) -> int:
        return sum(len(person.sessions) for person in self._people.values())

    async def begin(self) -> None:
        """See when the files of the trust anchors were changed last. Before that no session is known to be good."""
        state = await self._look()
        self._changed = self._clock() if state is None else state.newest + MARGIN

    def note(self, principal: Principal, chain: Sequence[bytes]) -> None:
        """Remember a caller who has just logged in, and so was not revoked just now."""
        key = _key(principal)
        self._revoked.pop((principal.dn, key), None)
        person = self._people.get(principal.dn)
        if person is None:
            person = self._people[principal.dn] = Person()
            self.bytes += person.bytes
        before = person.bytes
        person.add(key, principal.expire_time, chain)
        self.bytes += person.bytes - before
        while self.bytes > self._room:
            self._make_room()

    def _make_room(self) -> None:
        dn, person = max(self._people.items(), key=lambda item: item[1].bytes)
        before = person.bytes
        person.drop_first()
        self.bytes += person.bytes - before
        self._leave_if_empty(dn, person)

    def _leave_if_empty(self, dn: str, person: Person) -> None:
        if not person.sessions:
            del self._people[dn]
            self.bytes -= person.bytes

    def check(self, caller: Principal) -> None:
        """Raise SESSION_INVALID for a session whose bearer was revoked, or may have been: the next login tells."""
        if caller.proof is not Proof.SESSION:
            return
        key = _key(caller)
        if (caller.dn, key) in self._revoked:
            raise refuse(Reason.SESSION_INVALID, "The certificate of this session was revoked since it was opened.")
        person = self._people.get(caller.dn)
        if person is not None and key in person.sessions:
            return
        # A session begins an hour before its end or later, so this is never after its beginning.
        if self._changed is None or caller.expire_time - LIFETIME <= self._changed:
            text = "The authorities' files were changed since this session was opened; log in again."
            raise refuse(Reason.SESSION_INVALID, text)

    async def look_again(self) -> None:
        """Verify the chains of all who have a session if that can have another answer; forget whose session is over."""
        before = self._trust
        state = await self._look()
        changed = state is None or state != before
        if changed:
            self._changed = self._clock() + MARGIN
        # A login that was verified before the change may have been noted after its look, so there is one more.
        if changed or self._verify_again:
            self._verify_again = True
            await self._verify_all()
        self._verify_again = changed
        now = self._clock()
        for dn, person in list(self._people.items()):
            self._forget_ended(dn, person, now)
        self._revoked = {name: end for name, end in self._revoked.items() if end > now}

    async def _verify_all(self) -> None:
        for dn, person in list(self._people.items()):
            for key, present in list(person.sessions.items()):
                if present.expire_time > self._clock():
                    reason = await asyncio.to_thread(self._refusal, present)
                    now_there = self._people[dn].sessions.get(key) if dn in self._people else None
                    if now_there is None or now_there is present:
                        self._take_verdict(dn, key, reason)

    def _refusal(self, present: Present) -> Reason | None:
        """Verify in this thread, and not in the queue of the logins, which may be full."""
        try:
            self._verifier.chain_now(present.chain)
        except VerifyError as error:
            return error.reason
        return None

    def _take_verdict(self, dn: str, key: bytes, reason: Reason | None) -> None:
        if reason in REVOKED:
            if (dn, key) not in self._revoked:
                # The same key may have older sessions that last longer than the newest; none longer than this.
                self._revoked[dn, key] = self._clock() + LIFETIME
                log.warning("session shut", dn=dn, reason=reason.name)
        elif reason is None:
            self._revoked.pop((dn, key), None)

    def _forget_ended(self, dn: str, person: Person, now: datetime.datetime) -> None:
        before = person.bytes
        for key in [key for key, present in person.sessions.items() if present.expire_time <= now]:
            person.drop(key)
        self.bytes += person.bytes - before
        self._leave_if_empty(dn, person)

    async def _look(self) -> TrustState | None:
        """Return the state of the files, and keep it; None when they cannot be looked at, which counts as a change."""
        try:
            self._trust = await asyncio.to_thread(self._watch.look)
        except OSError as error:
            self._trust = None
            metrics.background_failure("looking at the authorities", error)
            log.error("the authorities' files cannot be looked at", why=str(error))
        return self._trust
