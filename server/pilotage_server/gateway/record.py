"""What the gateway does goes on record: act and audit row in one transaction, within the rates that hold for all."""

import datetime
import sqlite3
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from pilotage.errors import PilotageError
from pilotage.myproxy.messages import Request
from pilotage.reasons import Reason
from pilotage_server.clock import Clock
from pilotage_server.credentials.abuse import AbuseLimits
from pilotage_server.credentials.ledger import Ledger, Note, by
from pilotage_server.gateway.policy import Client
from pilotage_server.store import rates
from pilotage_server.store.audit import NO_FACTS, Act
from pilotage_server.store.credentials import StoredCredential
from pilotage_server.store.rates import Rate, Scope

log = structlog.get_logger("pilotage.myproxy")

T = TypeVar("T")
Gone = Callable[[str], None]
AGAIN = datetime.timedelta(minutes=1)
MOST_TOLD = 10_000
LONGEST = 256


class Record:
    """Write to the store, and to the audit with it."""

    def __init__(self, ledger: Ledger, limits: AbuseLimits, clock: Clock) -> None:
        self._ledger = ledger
        self._limits = limits
        self._clock = clock
        self._told: dict[tuple[str, str, Reason], datetime.datetime] = {}

    async def write(
        self,
        op: Callable[[sqlite3.Connection, Gone], T],
        act: Act,
        client: Client,
        stored: StoredCredential,
        facts: Mapping[str, str] = NO_FACTS,
    ) -> T:
        """Run an operation in one transaction with its audit row; raise RATE_LIMITED when it is one too many.

        The operation says which of the same owner's credentials it has destroyed by the way, and by returning False
        that it found nothing to do: then there is no row.
        """
        now, limited = self._clock(), self._rates(act, client, stored)
        names = {"owner_dn": stored.owner_dn, "credential_id": stored.credential_id}
        entry = by(client.actor, act, names, facts={"through": "myproxy", **facts})

        def work(connection: sqlite3.Connection, note: Note) -> T:
            rates.take(connection, limited, now)
            gone: list[str] = []
            result = op(connection, gone.append)
            if result is not False:
                note(entry)
            for credential_id in gone:
                names["credential_id"] = credential_id
                note(by(client.actor, Act.DESTROYED, names, facts={"through": "myproxy"}))
            return result

        return await self._ledger.write(work)

    async def refused(self, client: Client, request: Request, error: PilotageError) -> None:
        """Record a refusal, once a minute for each client, address and reason; the log has them all.

        The reason on record is the true one, which may be more than the client was told.
        """
        true = error.__cause__ if isinstance(error.__cause__, PilotageError) else error
        facts = {
            "through": "myproxy",
            "command": request.command.name,
            "username": request.username[:LONGEST],
            "name": request.name[:LONGEST],
            "told": error.reason.name,
            "why": true.message,
        }
        if self._is_news(client, error.reason):
            entry = by(client.actor, Act.MYPROXY_REFUSED, {}, reason=true.reason.name, facts=facts)
            await self._ledger.refusal(entry, client.actor, true)
        else:
            log.warning(Act.MYPROXY_REFUSED.value, dn=client.name, peer=client.host, reason=true.reason.name, **facts)

    def _is_news(self, client: Client, reason: Reason) -> bool:
        now, name = self._clock(), (client.name, client.host, reason)
        if len(self._told) > MOST_TOLD:
            self._told = {told: when for told, when in self._told.items() if now - when < AGAIN}
        last = self._told.get(name)
        # A time ahead of now is of a clock that has been put back since.
        if last is not None and datetime.timedelta(0) <= now - last < AGAIN:
            return False
        self._told[name] = now
        return True

    def _rates(self, act: Act, client: Client, stored: StoredCredential) -> tuple[Rate, ...]:
        limits = self._limits
        if act is Act.STORED:
            return (Rate(Scope.OWNER_DELEGATIONS, stored.owner_dn, limits.owner_delegations_per_minute),)
        if act not in (Act.ISSUED, Act.KEY_RETRIEVED):
            return ()
        taker = f"{client.name} {client.actor.thumbprint.hex() or client.host}"
        return (
            Rate(Scope.PILOT_ISSUES, taker, limits.pilot_issues_per_minute),
            Rate(Scope.OWNER_ISSUES, stored.owner_dn, limits.owner_issues_per_minute),
        )
