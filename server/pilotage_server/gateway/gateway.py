"""The gateway, put together."""

import datetime

from pilotage.x509.pool import KeyPool
from pilotage_server.auth.policy import Policy
from pilotage_server.clock import Clock
from pilotage_server.credentials.abuse import AbuseLimits
from pilotage_server.credentials.bans import Bans
from pilotage_server.credentials.ledger import Ledger
from pilotage_server.credentials.sealing import Sealer
from pilotage_server.gateway.opening import Locksmith
from pilotage_server.gateway.phrases import Stretcher
from pilotage_server.gateway.policy import GatewayRules
from pilotage_server.gateway.record import Record
from pilotage_server.gateway.service import GatewayServer
from pilotage_server.gateway.storing import Changed, Storing
from pilotage_server.gateway.taking import Taking
from pilotage_server.gateway.talk import Talk
from pilotage_server.gateway.tls import Context
from pilotage_server.gateway.trust_roots import TrustRoots
from pilotage_server.gateway.wire import check_python
from pilotage_server.store.database import Database
from pilotage_server.verifier import Verifier


class Gateway:
    """MyProxy's protocol on a port of its own."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        bans: Bans,
        limits: AbuseLimits,
        verifier: Verifier,
        sealer: Sealer,
        keys: KeyPool,
        clock: Clock,
        roles: Policy,
        rules: GatewayRules,
        changed: Changed,
        context: Context,
        max_lifetime: datetime.timedelta,
    ) -> None:
        check_python()
        self._context = context
        self._stretcher = Stretcher()
        locksmith = Locksmith(database, sealer, self._stretcher)
        record = Record(ledger, limits, clock)
        self._storing = Storing(database, verifier, locksmith, keys, clock, roles, rules, record, changed, max_lifetime)
        taking = Taking(database, verifier, bans, locksmith, clock, rules, record)
        talk = Talk(self._storing, taking, TrustRoots(context.ca_dir, given=rules.serve_trust_roots))
        self._server = GatewayServer(context, verifier, bans, talk, record, clock)

    async def start(self, host: str, port: int) -> int:
        """Open the port; return its number."""
        return await self._server.start(host, port)

    @property
    def connections(self) -> int:
        """Return how many clients are connected."""
        return self._server.connections

    async def stop(self, grace_seconds: float) -> None:
        """Take no new connections, let those that are served end, then end them."""
        await self._server.stop(grace_seconds)
        self._stretcher.close()

    async def prune(self) -> None:
        """Forget what is too old to matter, and take up a renewed certificate."""
        await self._storing.prune()
        self._context.renew()

    def close(self) -> None:
        """Let go of a gateway that was never started."""
        self._server.close()
        self._stretcher.close()
