"""What the gateway does goes on record: an act and its line in the audit log."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import structlog

from pilotage.errors import PilotageError
from pilotage.myproxy.messages import Request
from pilotage_server.gateway.policy import Client
from pilotage_server.store.database import Database

audit = structlog.get_logger("pilotage.audit")

T = TypeVar("T")


class Record:
    """Write to the store, and say so in the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, op: Callable[[sqlite3.Connection], T], act: str, client: Client, **facts: str) -> T:
        """Run an operation in a transaction and tell of it once it is durable."""
        result = await self._database.write(op)
        audit.info(act, dn=client.name, peer=client.host, through="myproxy", **facts)
        return result

    def refused(self, client: Client, request: Request, error: PilotageError) -> None:
        """Tell of a refusal; the message may say more than the client was told."""
        audit.warning(
            "myproxy request refused",
            dn=client.name,
            peer=client.host,
            command=request.command.name,
            username=request.username,
            name=request.name,
            reason=error.reason.name,
            why=str(error.__cause__.message) if isinstance(error.__cause__, PilotageError) else error.message,
        )
