"""Who is shut out: by an admin, or for showing credential tokens that were not theirs to show.

A strike, and the ban that it leads to, are written in the transaction of the refusal's audit row. Two counts run: one
for a DN with one key, which is one pilot, and a larger one for the DN with any key, because whoever holds a proxy can
make more of them, with new keys.
"""

import datetime
import sqlite3
from collections.abc import Iterable

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.fqans import normalise
from pilotage_server import metrics
from pilotage_server.clock import Clock
from pilotage_server.credentials.abuse import AbuseLimits
from pilotage_server.credentials.ledger import Ledger, Note, by
from pilotage_server.principal import Principal
from pilotage_server.store import bans as store
from pilotage_server.store.audit import Act, Entry
from pilotage_server.store.bans import Ban
from pilotage_server.store.database import Database

BAD_TOKEN = (Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED, Reason.TOKEN_USED, Reason.TOKEN_FOREIGN)
"""TARGET_REFUSED is not one: the token is good, and it was JobService that gave the pilot a job it may not serve."""
LONGEST = 1024


class Bans:
    """Know every ban, in memory as in the store; make and lift them."""

    def __init__(self, database: Database, ledger: Ledger, limits: AbuseLimits, clock: Clock) -> None:
        self._database = database
        self._ledger = ledger
        self._limits = limits
        self._clock = clock
        self._known: dict[str, dict[str, Ban]] = {}
        ledger.watch(self._strike)

    async def load(self) -> None:
        """Take up the bans of the store."""
        self._known = {}
        for ban in await self._database.read(store.everyone):
            self._learn(ban)

    def _learn(self, ban: Ban) -> None:
        self._known.setdefault(ban.subject, {})[ban.key] = ban

    def check(self, caller: Principal) -> None:
        """Raise CALLER_BANNED for a caller who is shut out by DN, by key or by an attribute."""
        ban = self._of(caller.dn, caller.fqans, caller.thumbprint.hex())
        if ban is not None:
            raise refuse(
                Reason.CALLER_BANNED, f"{ban.subject} is banned: {ban.why} An admin of the service can lift that."
            )

    def check_owner(self, owner_dn: str, fqans: Iterable[str]) -> None:
        """Raise CREDENTIAL_OWNER_BANNED for a credential whose owner is shut out, by DN or by an attribute."""
        if self._of(owner_dn, fqans, "") is not None:
            raise refuse(Reason.CREDENTIAL_OWNER_BANNED)

    def _of(self, dn: str, fqans: Iterable[str], key: str) -> Ban | None:
        if not self._known:
            return None
        of_dn = self._known.get(dn, {})
        if found := of_dn.get("") or (of_dn.get(key) if key else None):
            return found
        for fqan in fqans:
            parts = fqan.split("/")
            for length in range(2, len(parts) + 1):
                if found := self._known.get("/".join(parts[:length]), {}).get(""):
                    return found
        return None

    async def page(self, subject: str, key: str, most: int) -> list[Ban]:
        """Return bans in the order of their subjects, from behind one on."""
        return await self._database.read(lambda c: store.page(c, subject, key, most))

    async def ban(self, caller: Principal, subject: str, why: str) -> None:
        """Shut a DN or an FQAN out, with all below it; again changes nothing."""
        check_subject(subject)
        _check_spelling(subject)
        if not 0 < len(why) <= LONGEST or not why.isprintable():
            raise refuse(Reason.INVALID_ARGUMENT, f"why: say it in 1 to {LONGEST} printable characters.")
        now = self._clock()
        ban = Ban(subject, "", why if why.endswith(".") else f"{why}.", caller.dn, now)
        before, self._known = self._known, {}
        try:
            self._learn(ban)
            if self._of(caller.dn, caller.fqans, "") is not None:
                raise refuse(Reason.INVALID_ARGUMENT, "This would shut yourself out.")
        finally:
            self._known = before

        def write(connection: sqlite3.Connection, note: Note) -> None:
            if store.add(connection, ban):
                note(by(caller, Act.BANNED, {}, facts={"subject": subject, "why": ban.why}))
                note.then(lambda: self._learn(ban))

        await self._ledger.write(write)

    async def lift(self, caller: Principal, subject: str) -> None:
        """Let a subject in again, with all its keys, and forget its strikes; again changes nothing."""
        check_subject(subject)

        def write(connection: sqlite3.Connection, note: Note) -> None:
            if store.lift(connection, subject):
                note(by(caller, Act.UNBANNED, {}, facts={"subject": subject}))
                note.then(lambda: self._known.pop(subject, None))

        await self._ledger.write(write)

    async def prune(self) -> None:
        """Forget strikes that count no more."""
        since = self._since(self._clock())
        await self._database.write(lambda c: store.prune_strikes(c, since))

    def _since(self, now: datetime.datetime) -> datetime.datetime:
        return now - datetime.timedelta(seconds=self._limits.strike_seconds)

    def _strike(self, connection: sqlite3.Connection, note: Note, caller: Principal, error: PilotageError) -> None:
        """Count a bad token, within the transaction of its audit row; ban at the threshold."""
        if error.reason not in BAD_TOKEN:
            return
        note.then(metrics.STRIKES.labels(error.reason.name).inc)
        now, key = self._clock(), caller.thumbprint.hex()
        of_key, of_dn = store.strike(connection, caller.dn, key, now, self._since(now))
        for count, most, banned_key in (
            (of_dn, self._limits.dn_strikes, ""),
            (of_key, self._limits.pilot_strikes, key),
        ):
            if count >= most:
                self._ban_for(connection, note, Ban(caller.dn, banned_key, _why(count), "", now))

    def _ban_for(self, connection: sqlite3.Connection, note: Note, ban: Ban) -> None:
        if store.add(connection, ban):
            facts = {"subject": ban.subject, "why": ban.why} | ({"banned_key": ban.key} if ban.key else {})
            note(Entry(act=Act.BANNED, facts=facts))
            note.then(lambda: self._learn(ban))


def _why(count: int) -> str:
    return f"{count} credential tokens were used, foreign, expired or altered."


def check_subject(subject: str) -> None:
    """Raise INVALID_ARGUMENT for what is neither DN nor FQAN."""
    first = subject[1:].partition("/")[0]
    if not subject.startswith("/") or not first or len(subject) > LONGEST or not subject.isprintable():
        raise refuse(Reason.INVALID_ARGUMENT, "A subject is a DN (/O=...) or an FQAN (/vo...).")


def _check_spelling(subject: str) -> None:
    """Raise INVALID_ARGUMENT for an FQAN in a spelling that callers' attributes never have: it would ban nobody."""
    if "=" in subject[1:].partition("/")[0]:
        return
    try:
        spelt = normalise(subject)
    except PilotageError as error:
        raise refuse(Reason.INVALID_ARGUMENT, f"A ban's subject: {error.message}") from error
    if spelt != subject:
        raise refuse(Reason.INVALID_ARGUMENT, f"{subject} is written {spelt} here; that bans all below it as well.")
