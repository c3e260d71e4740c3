"""The ledger: whoever acts on credentials does it through here, so that act and audit row are one transaction.

After the commit each row becomes a line of the audit log as well, with its number and digest.
"""

import contextlib
import datetime
import sqlite3
from collections.abc import Callable, Mapping
from typing import Self, TypeVar

import structlog

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server import metrics
from pilotage_server.clock import Clock
from pilotage_server.credentials.abuse import AbuseLimits
from pilotage_server.credentials.anchor import AnchorFile
from pilotage_server.principal import Principal
from pilotage_server.store import audit, rates
from pilotage_server.store.audit import NO_FACTS, Act, AuditRow, Entry, Filter, Head
from pilotage_server.store.database import Database
from pilotage_server.store.rates import Rate, Scope
from pilotage_server.tokens import TokenKeys
from pilotage_server.workers import Workers

P = TypeVar("P")
T = TypeVar("T")
log = structlog.get_logger("pilotage.audit")


class Note:
    """Appends entries to the chain within the transaction of an act, and keeps what is to be done after it."""

    def __init__(self, connection: sqlite3.Connection, now: datetime.datetime) -> None:
        self._connection = connection
        self._now = now
        self._rows: list[AuditRow] = []
        self._then: list[Callable[[], object]] = []

    def __call__(self, entry: Entry) -> None:
        """Append an entry."""
        self._rows.append(audit.append(self._connection, entry, self._now))

    def then(self, action: Callable[[], object]) -> None:
        """Do something once it all is durable, on the event loop."""
        self._then.append(action)

    def settle(self) -> None:
        """Tell the log, and do what was to be done."""
        for row in self._rows:
            _tell(row.entry, row.head)
        for action in self._then:
            action()


Watch = Callable[[sqlite3.Connection, Note, Principal, PilotageError], None]
"""Is shown every refusal, within the transaction of its audit row."""

NO_ANSWER = (Reason.STORE_UNAVAILABLE, Reason.DISK_FULL)
"""Failures of the store itself: nothing was refused to anybody, and nothing can be recorded now."""
QUIET = (
    *(Act.STORED, Act.ISSUED, Act.RENEWED, Act.DESTROYED, Act.UNREVOKED, Act.ERASED),
    *(Act.POLICY, Act.KEYS, Act.UNBANNED, Act.LINK_ASKED, Act.LINKED, Act.UNLINKED),
    *(Act.KEY_RETRIEVED, Act.PASSPHRASE_CHANGED),
)


WATCHED = (
    "/pilotage.v1.CredentialService/",
    "/pilotage.v1.AdminService/",
    "/pilotage.v1.PilotService/RefreshCredentialToken",
)
AGAIN = datetime.timedelta(minutes=1)
MOST_TOLD = 10_000
OF_ONE_NAME = 10
"""How many times the refusals of one key all keys of a name may have together."""


class Ledger:
    """Append to the chain, tell the log, and keep the anchor."""

    def __init__(
        self, database: Database, anchor: AnchorFile, keys: TokenKeys, abuse: AbuseLimits, clock: Clock
    ) -> None:
        self._database = database
        self._anchor = anchor
        self._keys = keys
        self._abuse = abuse
        self._clock = clock
        self._anchored = Head()
        self._begun = False
        self._told: dict[tuple[str, str], datetime.datetime] = {}
        self._watch: Watch | None = None

    def watch(self, watch: Watch) -> None:
        """Have every refusal shown to somebody, from now on."""
        self._watch = watch

    async def begin(self, policy: str, keys: Mapping[str, str]) -> None:
        """Hold the chain against its anchor; record the policy and the keys that hold from now on if they are others.

        Raises AUDIT_BROKEN when rows that the anchor knows are gone or changed.
        """
        known = self._anchor.read(self._keys.publics)

        def check(connection: sqlite3.Connection, note: Note) -> None:
            if known is None and audit.head(connection).seq:
                note(Entry(act=Act.UNANCHORED))
            elif known is not None and known.seq and audit.at(connection, known.seq) != known.digest:
                raise refuse(
                    Reason.AUDIT_BROKEN,
                    f"Row {known.seq} of the audit is not the one its anchor {self._anchor.path} names; was the"
                    " database taken from an older copy? `pilotage-server audit verify` says more.",
                )
            last = audit.last_of(connection, Act.POLICY)
            if last is None or last.entry.facts.get("policy") != policy:
                note(Entry(act=Act.POLICY, facts={"policy": policy}))
            _note_keys(connection, note, keys)

        await self.write(check)
        self._begun = True
        await self.anchor()

    async def keys_changed(self, keys: Mapping[str, str]) -> None:
        """Record that other keys, told by their ids, hold from now on; sign the end of the chain with the new one."""
        await self.write(lambda connection, note: _note_keys(connection, note, keys))
        self._anchored = Head()
        await self.anchor()

    async def write(self, op: Callable[[sqlite3.Connection, Note], T]) -> T:
        """Run an operation and what it notes in one transaction; an exception undoes both."""
        notes: list[Note] = []
        now = self._clock()

        def work(connection: sqlite3.Connection) -> T:
            notes.append(Note(connection, now))
            return op(connection, notes[-1])

        return await self._database.write(work, committed=lambda _: notes[-1].settle())

    async def write_prepared(
        self, threads: Workers, prepare: Callable[[], P], op: Callable[[sqlite3.Connection, Note, P], T]
    ) -> T:
        """Prepare something in a thread, then do as `write` with what came of it; see `Database.write_prepared`."""
        notes: list[Note] = []

        def work(connection: sqlite3.Connection, prepared: P) -> T:
            notes.append(Note(connection, self._clock()))
            return op(connection, notes[-1], prepared)

        return await self._database.write_prepared(threads, prepare, work, committed=lambda _: notes[-1].settle())

    def refusals(self, act: Act, caller: Principal, **names: str) -> "Refusals":
        """Record it when the block refuses, before the caller is told.

        A caller who was refused too often is refused at once: nobody fills the disk with refusals, or guesses for long.
        """
        return Refusals(self, act, caller, names)

    def late_refusals(self, act: Act, caller: Principal) -> "Refusals":
        """Do the same for a block that asks `check_admitted` itself, with what else it reads, before it gives anything.

        What it refuses without that is refused to a caller who was refused too often as any other call of his.
        """
        return Refusals(self, act, caller, {}, late=True)

    def check_admitted(self, connection: sqlite3.Connection, caller: Principal) -> None:
        """Raise RATE_LIMITED for a caller who was refused too often."""
        rates.check(connection, self._refusals_of(caller), self._clock())

    async def admit(self, caller: Principal) -> None:
        """Raise RATE_LIMITED for a caller who was refused too often."""
        await self._database.read(lambda connection: self.check_admitted(connection, caller))

    async def refused(self, act: Act, caller: Principal, error: PilotageError, **names: str) -> None:
        """Record a refusal; one that cannot be recorded is a refusal all the same."""
        await self.refusal(by(caller, act, names, reason=error.reason.name), caller, error)

    async def refusal(self, entry: Entry, caller: Principal, error: PilotageError) -> None:
        """Record a refusal with an entry of its own."""
        if error.reason in NO_ANSWER:
            _tell(entry, None)
        elif error.reason is not Reason.RATE_LIMITED or self._is_news(caller, entry.act.value):
            await self._write_refusal(entry, caller, error)
        else:
            _count(entry)

    async def _write_refusal(self, entry: Entry, caller: Principal, error: PilotageError) -> None:
        def write(connection: sqlite3.Connection, note: Note) -> None:
            note(entry)
            with contextlib.suppress(PilotageError):
                rates.take(connection, self._refusals_of(caller), self._clock())
            if self._watch is not None:
                self._watch(connection, note, caller, error)

        try:
            await self.write(write)
        except PilotageError:
            _tell(entry, None)

    async def not_allowed(self, caller: Principal, method: str, error: PilotageError) -> None:
        """Record that somebody without the right to it, or banned, called a method; once a minute each."""
        if error.reason is not Reason.CALLER_BANNED and not method.startswith(WATCHED):
            return
        if self._is_news(caller, method):
            entry = by(caller, Act.CALL_REFUSED, {}, reason=error.reason.name, facts={"method": method})
            await self._write_refusal(entry, caller, error)

    def _is_news(self, caller: Principal, what: str) -> bool:
        """Tell whether this was not recorded of this caller within a minute: floods leave one row a minute."""
        now = self._clock()
        if len(self._told) > MOST_TOLD:
            self._told = {name: when for name, when in self._told.items() if now - when < AGAIN}
        last = self._told.get((caller.dn, what))
        # What seems to come is of a clock that has been put back since.
        if last is not None and datetime.timedelta(0) <= now - last < AGAIN:
            return False
        self._told[caller.dn, what] = now
        return True

    def _refusals_of(self, caller: Principal) -> tuple[Rate, Rate]:
        """Count by key first, so that one bad pilot does not stop all of its name; and by name, for keys are cheap."""
        most = self._abuse.refusals_per_minute
        one = f"{caller.dn} {caller.thumbprint.hex()}"
        return Rate(Scope.REFUSALS, one, most), Rate(Scope.REFUSALS, caller.dn, most * OF_ONE_NAME)

    async def page(self, wanted: Filter, before: int, most: int) -> list[AuditRow]:
        """Return rows from the newest before a number to the oldest."""
        return await self._database.read(lambda c: audit.page(c, wanted, before, most), slow=True)

    async def anchor(self) -> None:
        """Sign where the chain ends, if that is another place than last time; never a chain that failed its check."""
        if not self._begun:
            return
        head = await self._database.read(audit.head)
        if head == self._anchored:
            return
        try:
            self._anchor.write(head, self._keys.private, self._clock())
        except OSError as error:
            raise refuse(Reason.STORE_UNAVAILABLE, f"The anchor cannot be written ({error.strerror}).") from error
        self._anchored = head
        log.info("audit anchored", seq=head.seq, digest=head.digest.hex())


class Refusals:
    """A block whose refusals are recorded. What it is about may become known within it: put it in `names`."""

    def __init__(
        self, ledger: Ledger, act: Act, caller: Principal, names: dict[str, str], *, late: bool = False
    ) -> None:
        self.names = names
        self._late = late
        self._ledger = ledger
        self._act = act
        self._caller = caller

    async def __aenter__(self) -> Self:
        if not self._late:
            await self._admit()
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, PilotageError):
            return
        if self._late and error.reason is not Reason.RATE_LIMITED:
            await self._admit()
        await self._refused(error)

    async def _admit(self) -> None:
        try:
            await self._ledger.admit(self._caller)
        except PilotageError as error:
            await self._refused(error)
            raise

    async def _refused(self, error: PilotageError) -> None:
        await self._ledger.refused(self._act, self._caller, error, **self.names)


def _note_keys(connection: sqlite3.Connection, note: Note, keys: Mapping[str, str]) -> None:
    last = audit.last_of(connection, Act.KEYS)
    if last is None or last.entry.facts != keys:
        note(Entry(act=Act.KEYS, facts=keys))


def by(
    caller: Principal, act: Act, names: Mapping[str, str], *, reason: str = "", facts: Mapping[str, str] = NO_FACTS
) -> Entry:
    """Return the entry of an act of a caller; `names` are the columns that name what it was done to."""
    return Entry(
        act=act,
        actor_dn=caller.dn,
        actor_key=caller.thumbprint.hex(),
        peer=caller.peer,
        reason=reason,
        facts=facts,
        **names,
    )


def _tell(entry: Entry, head: Head | None) -> None:
    """Write the line of one entry, and count it; without a place in the chain, say so."""
    _count(entry)
    line = {
        "dn": entry.actor_dn,
        "key": entry.actor_key,
        "owner": entry.owner_dn,
        "credential": entry.credential_id,
        "job": entry.job_id,
        "lease": entry.lease_id,
        "reason": entry.reason,
        **entry.facts,
        "peer": entry.peer,
    }
    place = {"seq": head.seq, "digest": head.digest.hex()} if head else {"unrecorded": True}
    say = log.info if entry.act in QUIET and head else log.warning
    say(entry.act.value, **{name: value for name, value in line.items() if value}, **place)


def _count(entry: Entry) -> None:
    metrics.act(entry.act.value, entry.reason)
