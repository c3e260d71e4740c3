"""The proxies of leases as JobService sees them: CredentialService tells it of each one issued, and of each refused."""

import asyncio
import datetime
import functools
import sqlite3
from collections.abc import Sequence

import structlog

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server import metrics
from pilotage_server.clock import Clock
from pilotage_server.jobs.broker import Broker
from pilotage_server.jobs.moves import Moves
from pilotage_server.jobs.notices import Changes, Notices
from pilotage_server.jobs.renewal import next_try, renewal_time
from pilotage_server.jobs.reports import clean_message
from pilotage_server.store import events, jobs, lease_credentials
from pilotage_server.store.database import Database
from pilotage_server.store.lease_credentials import Issued
from pilotage_server.store.times import from_microseconds, microseconds

log = structlog.get_logger("pilotage.leases")

MOST_UNWRITTEN = 1000
"""How many proxies may wait to be written down, which takes 20 ms, before no more are issued."""
AGAIN_SECONDS = 1.0
QUIET = datetime.timedelta(minutes=1)
"""A pilot that asks again and again makes no more than one event a minute."""
MOST_NOTES = 3
"""How many it makes in that time at most, when it is refused for other and other reasons."""


class LeaseProxies:
    """Keep what the pilots' proxies are worth, and be loud about renewals that fail."""

    def __init__(self, database: Database, notices: Notices, clock: Clock) -> None:
        self._database = database
        self._notices = notices
        self._clock = clock
        self._broker = Broker()
        self._unwritten = 0

    def check_ready(self) -> None:
        """Raise STORE_UNAVAILABLE while too many proxies are noted that could not be written down."""
        if self._unwritten >= MOST_UNWRITTEN:
            raise refuse(Reason.STORE_UNAVAILABLE, "The jobs database takes no notes of proxies; try again later.")

    def issued(self, proxy: Issued) -> None:
        """Note a proxy; it is written down with others a moment later, before whatever is written after it.

        One that suffices for the attempt is not renewed. A note that cannot be written is kept and tried again; what
        a crash takes is made up for by `recall`.
        """
        self._unwritten += 1
        self._write(proxy)

    def _write(self, proxy: Issued, *, late: bool = False) -> None:
        changes = Changes()

        def written(_: None) -> None:
            self._unwritten -= 1
            self._notices.tell(changes)

        def failed(error: Exception) -> None:
            metrics.background_failure("planning renewals", error)
            log.error("proxy not noted; tried again", lease=proxy.lease_id, why=str(error))
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, functools.partial(self._write, proxy, late=True))

        try:
            self._database.write_soon(lambda connection: _note(connection, proxy, changes, late=late), written, failed)
        except PilotageError as error:
            log.error("proxy not noted; the next start makes up for it", lease=proxy.lease_id, why=str(error))

    async def recall(self, newest: Sequence[Issued]) -> None:
        """Take up proxies, in the order they were issued, that a crash may have kept from being written down."""
        changes = Changes()

        def write(connection: sqlite3.Connection) -> None:
            for proxy in newest:
                _note(connection, proxy, changes, late=True)

        await self._database.write(write, committed=lambda _: self._notices.tell(changes))

    async def has_proxy(self, lease_id: str) -> bool:
        """Tell whether a live lease has had a proxy."""
        await self._database.caught_up()
        return await self._database.read(lambda c: lease_credentials.proxy(c, lease_id)) is not None

    async def renewal_failed(self, lease_id: str, error: PilotageError) -> None:
        """Note a refused renewal where the owner sees it: on the job, as its event; and in the log."""
        now = self._clock()
        changes = Changes()

        def write(connection: sqlite3.Connection) -> None:
            moves = Moves(connection, self._broker, changes, "server", now)
            note_failed_renewal(moves, lease_id, error.reason, error.message, told_by="server")

        await self._database.write(write, committed=lambda _: self._notices.tell(changes))


def _note(connection: sqlite3.Connection, proxy: Issued, changes: Changes, *, late: bool) -> None:
    """Write down a proxy and plan its renewal, unless its lease is over; a late note never undoes a newer one."""
    plan = lease_credentials.plan(connection, proxy.lease_id)
    if plan is None or (late and plan.issue_us is not None and plan.issue_us >= microseconds(proxy.issue_time)):
        return
    renew = None
    if plan.offer.renews and not proxy.suffices and not plan.stop_reason:
        ends = from_microseconds(plan.credential_expire_us)
        renew = renewal_time(proxy.lease_id, proxy.issue_time, proxy.expire_time, ends)
    lease_credentials.issued(connection, proxy, renew)
    jobs.touch(connection, plan.job_seq)
    changes.jobs.add(plan.job_id)


def note_failed_renewal(
    moves: Moves,
    lease_id: str,
    reason: Reason,
    message: str,
    *,
    told_by: str,
    held_until: datetime.datetime | None = None,
) -> None:
    """Note why a live lease's proxy was not renewed, with the event for its owner, and plan the next try.

    `reason` and `message` are CredentialService's (`told_by` "server") or the pilot's. Of a lease without a proxy
    nothing is noted. A pilot that could not use its newest proxy says until when its payload has the one before
    (`held_until`); that is what counts then, and until then it is tried again even if that renewal was to be the last.
    """
    proxy = lease_credentials.proxy(moves.connection, lease_id)
    if proxy is None:
        return
    row = jobs.by_seq(moves.connection, proxy.job_seq)
    message = clean_message(message)
    newest = from_microseconds(proxy.expire_us)
    ends = newest if held_until is None else min(newest, held_until)
    wanted = not proxy.stop_reason and (proxy.renew_us is not None or ends < newest)
    again = next_try(moves.now, ends) if wanted else None
    lease_credentials.renewal_failed(moves.connection, lease_id, moves.now, ends, again, reason.name, message)
    now, before = microseconds(moves.now), microseconds(moves.now - QUIET)
    told = proxy.error_us is not None and before < proxy.error_us and proxy.reason == reason.name
    if not told and events.noted_since(moves.connection, proxy.job_seq, before, now, MOST_NOTES) < MOST_NOTES:
        text = f"The proxy was not renewed, and ends at {ends:%Y-%m-%d %H:%M} UTC. {message}"
        moves.note(row, reason, text)

    def tell() -> None:
        metrics.RENEWALS_FAILED.labels(told_by, reason.name).inc()
        names = {"lease": lease_id, "job": row.job_id, "told_by": told_by}
        log.warning("proxy renewal failed", **names, reason=reason.name, message=message)

    moves.then(tell)
