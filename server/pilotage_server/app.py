"""Put the server together, start it, and take it apart again."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.x509.keys import KeyKind
from pilotage.x509.pool import KeyPool
from pilotage_server import config as configuration
from pilotage_server import keys as key_files
from pilotage_server import metrics
from pilotage_server.auth.challenge import Challenges
from pilotage_server.auth.login import LoginDesk
from pilotage_server.auth.mutual import Peers
from pilotage_server.auth.presence import Presence
from pilotage_server.auth.trust_watch import TrustWatch
from pilotage_server.clock import Clock, utc_now
from pilotage_server.config import Config
from pilotage_server.credentials.anchor import FILE as ANCHOR
from pilotage_server.credentials.anchor import AnchorFile
from pilotage_server.credentials.bans import Bans
from pilotage_server.credentials.issuing import ProxyIssuer
from pilotage_server.credentials.keeper import CredentialKeeper
from pilotage_server.credentials.ledger import Ledger
from pilotage_server.credentials.links import Links
from pilotage_server.credentials.service_keys import ServiceKeys
from pilotage_server.exposition import Census, Exposition, Files
from pilotage_server.gateway.gateway import Gateway
from pilotage_server.gateway.tls import Context
from pilotage_server.jobs import (
    Askers,
    CredentialDesk,
    JobDesk,
    LeaseProxies,
    LogStore,
    Notices,
    PilotDesk,
    SandboxStore,
    SilentPilots,
)
from pilotage_server.key_ring import KeyRing
from pilotage_server.logs import fault
from pilotage_server.processors import work_anywhere
from pilotage_server.rpc.admin_service import AdminServicer
from pilotage_server.rpc.auth_service import AuthServicer
from pilotage_server.rpc.credential_service import CredentialServicer
from pilotage_server.rpc.guard import Gates, Guard
from pilotage_server.rpc.health import Health
from pilotage_server.rpc.job_service import JobServicer
from pilotage_server.rpc.pilot_service import PilotServicer
from pilotage_server.rpc.server import RpcServer, Servicers, service_names
from pilotage_server.rpc.tls import Certificates
from pilotage_server.store.database import Database
from pilotage_server.verifier import Verifier

log = structlog.get_logger("pilotage.server")

DATABASES = {"jobs": "jobs.sqlite", "credentials": "credentials.sqlite"}
HOUSEKEEPING_SECONDS = 60.0
GRACE_SECONDS = 10.0


def prepare_state(config: Config) -> list[str]:
    """Make the state directory and the keys; return the names of new keys.

    A key that is missing beside an existing database is not made anew: what it sealed or wrapped would be lost
    behind a server that looks well.
    """
    state = config.server.state_dir
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = state.stat()
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        text = "must be the server's account's and writable by nobody else"
        do = "run this as that account" if facts.st_uid != os.geteuid() else f"chmod go-w {state}"
        raise refuse(Reason.CONFIG_INVALID, f"server.state_dir: {state} {text}; {do}.")
    if any((state / name).exists() for name in DATABASES.values()):
        return []
    made = key_files.make_missing(state / "keys", service=config.pkcs11 is None)
    with contextlib.closing(ServiceKeys(config.pkcs11)) as services:
        return [*made, "a key in the token"] if services.make_first(utc_now()) else made


def _discard_keys(folder: Path) -> None:
    """Destroy keys that only earlier releases used; a folder that is not to be written to keeps them."""
    try:
        if gone := key_files.destroy_unused(folder):
            log.info("keys of an earlier release destroyed", names=gone)
    except OSError as error:
        log.warning("keys of an earlier release stay; nothing uses them", why=str(error))


class App:
    """A server that was put together; `start` it, then `close` it."""

    def __init__(self, config: Config, clock: Clock = utc_now, steady: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.clock = clock
        self.challenges = Challenges(steady)
        self.stopping = asyncio.Event()
        """Set when the server should stop: by a signal, or because a part of it failed."""
        self.failed = False
        self.port = 0
        self.mutual_port = 0
        self.gateway_port = 0
        self.metrics_port = 0
        self._exposition: Exposition | None = None
        self._tasks: list[asyncio.Task[None]] = []
        configuration.check_files(config)
        prepare_state(config)
        self._reloading: asyncio.Task[bool] | None = None
        self._rewrapping: asyncio.Task[None] | None = None
        self._certificates = Certificates(config.server)
        with contextlib.ExitStack() as undo:
            self._build(undo)
            undo.pop_all()

    def _build(self, undo: contextlib.ExitStack) -> None:
        config, clock = self.config, self.clock
        state, audience = config.server.state_dir, config.server.audience
        ring = self._ring = KeyRing(config, clock)
        undo.callback(ring.close)
        self._databases = {kind: Database.open(state / name, kind) for kind, name in DATABASES.items()}
        jobs, credentials = self._databases["jobs"], self._databases["credentials"]
        _discard_keys(state / "keys")
        self._verifier = Verifier(config.server.ca_dir, config.server.voms_dir, clock)
        undo.callback(self._verifier.close)
        self._pool = KeyPool(KeyKind.RSA_2048, config.credentials.key_pool, begin=work_anywhere)
        undo.callback(self._pool.close)
        policy = config.policy()
        retrieval = config.retrieval_policy()
        max_lifetime = configuration.span(config.credentials.max_lifetime_seconds)
        self._ledger = Ledger(credentials, AnchorFile(state / ANCHOR), ring.tokens, config.abuse, clock)
        self._bans = Bans(credentials, self._ledger, config.abuse, clock)
        self._links = Links(credentials, self._ledger, clock)
        self._keeper = CredentialKeeper(
            credentials,
            self._ledger,
            self._bans,
            self._links,
            self._verifier,
            ring.sealer,
            self._pool,
            clock,
            max_lifetime,
            config.abuse,
        )
        self._notices = Notices()
        logs = LogStore(state / "logs", config.limits)
        askers = Askers(retrieval, clock)
        job_desk = JobDesk(jobs, self._keeper, logs, ring.wrapping, self._notices, askers, config.limits, clock)
        self._pilot_desk = PilotDesk(
            jobs, logs, ring.wrapping, ring.tokens, self._notices, config.limits, config.leases, askers, clock
        )
        self._silent_pilots = SilentPilots(jobs, clock)
        self._credential_desk = CredentialDesk(jobs, self._keeper, ring.wrapping, self._notices, config.limits, clock)
        self._keeper.tell(self._credential_desk.look)
        book = LeaseProxies(jobs, self._notices, clock)
        sandboxes = SandboxStore(jobs, state / "sandboxes", config.limits, clock, self._keeper.names)
        self._issuer = ProxyIssuer(
            credentials,
            self._ledger,
            self._bans,
            self._verifier,
            ring.sealer,
            self._pilot_desk,
            book,
            ring.tokens,
            clock,
            retrieval,
            config.abuse,
            # On one processor two threads that sign only take turns.
            threads=1 if config.server.processor is not None else 2,
        )
        undo.callback(self._issuer.close)
        self._gateway: Gateway | None = None
        if config.gateway.listen:
            own = config.server
            self._gateway = Gateway(
                credentials,
                self._ledger,
                self._bans,
                config.abuse,
                self._verifier,
                ring.sealer,
                self._pool,
                clock,
                policy,
                config.gateway,
                self._keeper.changed,
                Context(own.host_cert, own.host_key, own.ca_dir),
                max_lifetime,
            )
            undo.callback(self._gateway.close)
        desk = LoginDesk(self.challenges, ring.sessions, self._verifier, audience, clock)
        self._health = Health(self._databases, service_names())
        servicers = Servicers(
            auth=AuthServicer(desk, policy),
            credentials=CredentialServicer(self._keeper, self._issuer, self._links, policy),
            jobs=JobServicer(job_desk, self._credential_desk, sandboxes, policy),
            pilots=PilotServicer(self._pilot_desk),
            admin=AdminServicer(self._ledger, self._bans),
            health=self._health,
        )
        trusted = [folder for folder in (config.server.ca_dir, config.server.voms_dir) if folder is not None]
        self._presence = Presence(self._verifier, TrustWatch(trusted), clock)
        desk.tell(self._presence.note)
        gates = Gates(self._bans, self._presence)
        every = config.server.log_calls == "all"
        guard = Guard(policy, ring.sessions, Peers(self._verifier, clock), gates, self._ledger, clock, log_all=every)
        self._server = RpcServer(guard, servicers, self._certificates)

    async def start(self) -> None:
        """Open the ports and serve; on return the health service says SERVING."""
        await self._ledger.begin(self.config.policy_text(), self._ring.ids())
        await self._bans.load()
        await self._links.load()
        await self._pilot_desk.start()
        await self._issuer.start()
        await self._presence.begin()
        self.port = self._server.listen(self.config.server.listen)
        if self.config.server.listen_mutual:
            self.mutual_port = self._server.listen_mutual(self.config.server.listen_mutual)
        if self._gateway is not None:
            self.gateway_port = await self._gateway.start(*configuration.split_address(self.config.gateway.listen))
        if self.config.metrics.port is not None:
            census = Census(self._databases, self.clock, asyncio.get_running_loop())
            self._exposition = Exposition((census, Files(self.config)))
            self.metrics_port = self._exposition.listen(self.config.metrics.address, self.config.metrics.port)
        if not await self._health.look():
            raise refuse(Reason.STORE_UNAVAILABLE)
        await self._server.start()
        self._spawn(self._health.run(), "health")
        self._spawn(self._pilot_desk.run(), "leases")
        self._spawn(self._keep_house(), "housekeeping")
        self._spawn(self._check_credentials(), "credential checks")
        self._begin_rewrapping()
        ports = {"port": self.port, "mutual_port": self.mutual_port, "gateway_port": self.gateway_port}
        if self._exposition is not None:
            ports["metrics_port"] = self.metrics_port
        log.info("serving", **ports, audience=self.config.server.audience)

    async def close(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Let running calls end, then close what they used."""
        log.info("stopping")
        if self._exposition is not None:
            await self._exposition.close()
        await self._health.close()
        self._notices.close()
        await self._server.stop(grace_seconds)
        if self._gateway is not None:
            await self._gateway.stop(grace_seconds)
        tasks: list[asyncio.Task[Any]]  # they return nothing that is wanted
        tasks = [task for task in (*self._tasks, self._reloading, self._rewrapping) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._verifier.close()
        self._issuer.close()
        try:
            await self._ledger.anchor()
        except PilotageError as error:
            log.error("the audit is not anchored", reason=error.reason.name, why=error.message)
        for database in self._databases.values():
            await database.close()
        self._ring.close()
        await asyncio.to_thread(self._pool.close)
        log.info("stopped")

    def reload(self) -> None:
        """Take up rotated keys and renewed certificates now, as SIGHUP asks for."""
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload(), name="reload")

    async def _reload(self) -> bool:
        """Tell whether the keys in the folder are those in use."""
        self._certificates.renew()
        try:
            await self.take_up_keys()
        except PilotageError as error:
            metrics.background_failure("taking up keys", error)
            log.error("new keys are not used", reason=error.reason.name, why=error.message)
            return False
        return True

    async def take_up_keys(self) -> None:
        """Use the keys that are in the folder now, if they are others; keys that are unusable leave all as it was."""
        if await self._ring.take_up():
            await self._ledger.keys_changed(self._ring.ids())
            log.info("keys taken up", **self._ring.ids())
            self._begin_rewrapping()

    def _begin_rewrapping(self) -> None:
        """Have what old wrapping keys wrapped wrapped anew, beside everything else."""
        if self._ring.has_old_wraps and (self._rewrapping is None or self._rewrapping.done()):
            self._rewrapping = asyncio.create_task(self._rewrap(), name="rewrapping")

    async def _rewrap(self) -> None:
        try:
            await self.rewrap()
        except (PilotageError, OSError) as error:
            metrics.background_failure("wrapping keys anew", error)
            log.error("retrieval keys not wrapped anew; tried again in a minute", why=str(error))

    async def rewrap(self) -> None:
        """Wrap every retrieval key with the present key, then destroy those before, which open nothing any more."""
        while self._ring.has_old_wraps:
            await self._ring.rewrap(self._databases["jobs"])
            await self.take_up_keys()

    async def prune(self) -> None:
        """Forget what is too old to matter, and take up renewed certificates and rotated keys."""
        if await self._reload():
            self._begin_rewrapping()
            self._ring.forget_retired()
        await self._keeper.prune()
        await self._bans.prune()
        await self._links.prune()
        if self._gateway is not None:
            await self._gateway.prune()
        await self._credential_desk.look_at_all()
        await self._silent_pilots.forget()
        await self._ledger.anchor()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                await self.prune()
            except (PilotageError, OSError) as error:
                metrics.background_failure("housekeeping", error)
                log.error("housekeeping failed; tried again in a minute", why=str(error))

    async def check_credentials(self) -> None:
        """Look for callers and stored credentials that were revoked meanwhile; jobs are held and stopped at once."""
        # Callers first: that stands on no database, which may be what fails.
        await self._presence.look_again()
        await self._keeper.check_revocation()

    async def _check_credentials(self) -> None:
        while True:
            await asyncio.sleep(self.config.credentials.check_seconds)
            try:
                await self.check_credentials()
            except PilotageError as error:
                metrics.background_failure("checking credentials", error)
                log.error("credentials not checked; tried again later", reason=error.reason.name, why=error.message)

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop the server when a part that should run for ever has failed."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a part of the server failed; the server stops", part=task.get_name(), fault=fault(error))
            self.failed = True
            self.stopping.set()
