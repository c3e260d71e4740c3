"""Several DNs of one person: linked once each has said so in a session of its own, until either takes it back.

Links are pairs: a DN linked to two others does not link those to each other.
"""

import datetime
import sqlite3

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.clock import Clock
from pilotage_server.credentials.ledger import Ledger, Note, by
from pilotage_server.principal import Principal
from pilotage_server.store import links as store
from pilotage_server.store.audit import Act
from pilotage_server.store.database import Database
from pilotage_server.store.links import Link

ANSWER_WITHIN = datetime.timedelta(days=1)
MOST = 16
LONGEST = 1024


class Links:
    """Know every link, in memory as in the store; make and cut them."""

    def __init__(self, database: Database, ledger: Ledger, clock: Clock) -> None:
        self._database = database
        self._ledger = ledger
        self._clock = clock
        self._known: dict[str, frozenset[str]] = {}

    async def load(self) -> None:
        """Take up the links of the store."""
        self._known = {}
        for link in await self._database.read(store.linked):
            self._known[link.dn] = self._known.get(link.dn, frozenset()) | {link.other_dn}

    def names(self, dn: str) -> tuple[str, ...]:
        """Return a DN and those linked to it, itself first."""
        others = self._known.get(dn)
        return (dn, *sorted(others)) if others else (dn,)

    async def link(self, caller: Principal, other: str) -> bool:
        """Say in the caller's name that another DN is the same person; tell whether it has said so, too.

        The other has a day to answer. Again changes nothing.
        """
        check_dn(other)
        if other == caller.dn:
            raise refuse(Reason.INVALID_ARGUMENT, "A DN is not linked to itself.")
        now = self._clock()

        def write(connection: sqlite3.Connection, note: Note) -> bool:
            known = store.of(connection, caller.dn)
            if sum(link.dn == caller.dn and link.other_dn != other for link in known) >= MOST:
                raise refuse(Reason.INVALID_ARGUMENT, f"A DN may be linked to {MOST} others.")
            facts = {"other": other}
            if any((link.dn, link.other_dn) == (caller.dn, other) and link.link_time for link in known):
                return True
            store.ask(connection, caller.dn, other, now)
            if not store.asked(connection, other, caller.dn, now - ANSWER_WITHIN):
                note(by(caller, Act.LINK_ASKED, {"owner_dn": caller.dn}, facts=facts))
                return False
            store.join(connection, caller.dn, other, now)
            note(by(caller, Act.LINKED, {"owner_dn": caller.dn}, facts=facts))
            note.then(lambda: self._join(caller.dn, other))
            return True

        return await self._ledger.write(write)

    async def unlink(self, caller: Principal, other: str) -> None:
        """Take back what the caller's DN and another said of each other; either may, and again changes nothing."""
        check_dn(other)

        def write(connection: sqlite3.Connection, note: Note) -> None:
            if store.cut(connection, caller.dn, other):
                note(by(caller, Act.UNLINKED, {"owner_dn": caller.dn}, facts={"other": other}))
                note.then(lambda: self._cut(caller.dn, other))

        await self._ledger.write(write)

    async def of(self, caller: Principal) -> list[Link]:
        """Return what the caller's DN said of others, and others of it."""
        return await self._database.read(lambda connection: store.of(connection, caller.dn))

    async def prune(self) -> None:
        """Forget what was not answered in time."""
        since = self._clock() - ANSWER_WITHIN
        await self._database.write(lambda connection: store.forget_unanswered(connection, since))

    def _join(self, one: str, other: str) -> None:
        for dn, name in ((one, other), (other, one)):
            self._known[dn] = self._known.get(dn, frozenset()) | {name}

    def _cut(self, one: str, other: str) -> None:
        for dn, name in ((one, other), (other, one)):
            self._known[dn] = self._known.get(dn, frozenset()) - {name}


def check_dn(dn: str) -> None:
    """Raise INVALID_ARGUMENT for what is no DN."""
    first = dn[1:].partition("/")[0]
    if not dn.startswith("/") or "=" not in first or len(dn) > LONGEST or not dn.isprintable():
        raise refuse(Reason.INVALID_ARGUMENT, "A DN looks like /O=Grid/CN=Alice.")
