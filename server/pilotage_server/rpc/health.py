"""The standard health service: SERVING only while every database answers."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence

import structlog
from grpc_health.v1 import health, health_pb2

from pilotage.errors import PilotageError
from pilotage_server.store.database import Database

log = structlog.get_logger("pilotage.health")

EVERY_SECONDS = 5.0
PATIENCE_SECONDS = 2.0


class Health:
    """Ask the databases now and then, and tell whoever asks."""

    def __init__(self, databases: Mapping[str, Database], services: Sequence[str]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._databases = databases
        self._services = ("", *services)

    async def look(self) -> bool:
        """Ask every database once and publish what was found."""
        found = await asyncio.gather(*(self._answers(name) for name in self._databases))
        serving = all(found)
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services:
            await self.servicer.set(service, status)
        return serving

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self.look()

    async def close(self) -> None:
        """Say NOT_SERVING from now on."""
        await self.servicer.enter_graceful_shutdown()

    async def _answers(self, name: str) -> bool:
        """Write nothing, durably: that needs the pump, the disk and the lock."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._databases[name].write(_nothing)
                await self._databases[name].read(_nothing)
        except (TimeoutError, PilotageError, sqlite3.Error) as error:
            log.error("database does not answer", database=name, why=type(error).__name__)
            return False
        return True


def _nothing(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT version_num FROM alembic_version").fetchone()
