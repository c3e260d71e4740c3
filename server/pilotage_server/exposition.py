"""The port that Prometheus scrapes: what this process counted, how much there is, and how old keys and CRLs are.

Plain HTTP without authentication: it is off unless configured, and binds loopback unless told otherwise. It tells
numbers only; whoever may reach it learns how busy the service is, and no name or secret.
"""

import asyncio
import concurrent.futures
import contextlib
import datetime
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import prometheus_client
import structlog
from cryptography import x509
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server import metrics
from pilotage_server.clock import Clock
from pilotage_server.config import Config
from pilotage_server.keys import NAMES
from pilotage_server.store import census
from pilotage_server.store.database import Database

log = structlog.get_logger("pilotage.server")

Request = socket.socket | tuple[bytes, socket.socket]
CENSUS_SECONDS = 5.0
"""For how long a census is told again, however often somebody scrapes."""
LOOP_SECONDS = 5.0
"""How long a scrape waits for the server's own loop; one that is that busy is told as no census."""
CONNECTION_SECONDS = 10.0
MOST_CONNECTIONS = 16
"""Each holds a thread; one more is closed unanswered, so that silent ones cost the service nothing else."""
CRLS = "*.r[0-9]"


class Census(Collector):
    """Ask the databases, on the server's loop; a scrape comes in a thread of its own."""

    def __init__(self, databases: dict[str, Database], clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._databases = databases
        self._clock = clock
        self._loop = loop
        self._lock = threading.Lock()
        self._taken = -CENSUS_SECONDS
        self._last: tuple[census.Work, census.Credentials] | None = None

    def collect(self) -> Iterator[Metric]:
        """Tell how much there is; when the databases do not answer, only that."""
        found = self._fresh()
        yield gauge("pilotage_store_up", "1 when the databases answered.", float(found is not None))
        if found is None:
            return
        work, credentials = found
        jobs = GaugeMetricFamily("pilotage_jobs", "Jobs that are not over, by state.", labels=["state"])
        for state, count in work.jobs.items():
            jobs.add_metric([state.label], count)
        yield jobs
        leases = GaugeMetricFamily("pilotage_leases", "Leases: live, and expired but not yet swept.", labels=["state"])
        leases.add_metric(["live"], work.live_leases)
        leases.add_metric(["expired"], work.expired_leases)
        yield leases
        yield gauge("pilotage_pilots", "Pilots that are registered and were heard of within the hour.", work.pilots)
        yield gauge("pilotage_credentials", "Stored credentials that have not ended.", credentials.usable)
        yield gauge("pilotage_bans", "Bans in force.", credentials.bans)
        yield gauge("pilotage_audit_rows", "Rows of the audit chain.", credentials.audit_rows)

    def _fresh(self) -> tuple[census.Work, census.Credentials] | None:
        with self._lock:
            if time.monotonic() - self._taken >= CENSUS_SECONDS:
                self._last = self._ask()
                self._taken = time.monotonic()
            return self._last

    def _ask(self) -> tuple[census.Work, census.Credentials] | None:
        asked = asyncio.run_coroutine_threadsafe(self._take(), self._loop)
        try:
            return asked.result(LOOP_SECONDS)
        except (PilotageError, TimeoutError, concurrent.futures.CancelledError) as error:
            asked.cancel()
            log.warning("no census for a scrape", why=type(error).__name__)
            return None

    async def _take(self) -> tuple[census.Work, census.Credentials]:
        now = self._clock()
        work = await self._databases["jobs"].read(lambda c: census.work(c, now), slow=True)
        return work, await self._databases["credentials"].read(lambda c: census.credentials(c, now), slow=True)


class Files(Collector):
    """Look at what grows old in files: keys, CRLs, the host certificate."""

    def __init__(self, config: Config) -> None:
        self._keys = config.server.state_dir / "keys"
        self._ca_dir = config.server.ca_dir
        self._host_cert = config.server.host_cert
        self._known: dict[Path, tuple[tuple[int, int], float | None]] = {}

    def collect(self) -> Iterator[Metric]:
        """Tell times, as Prometheus wants them: whoever asks subtracts them from the present."""
        made = GaugeMetricFamily(
            "pilotage_key_created_timestamp_seconds", "When the present key was made.", labels=["key"]
        )
        old = GaugeMetricFamily("pilotage_retired_keys", "Key files kept beside the present one.", labels=["key"])
        for name in NAMES:
            file = self._keys / name
            if file.exists():
                made.add_metric([file.stem], file.stat().st_mtime)
            old.add_metric([file.stem], len(list(self._keys.glob(f"{file.stem}-*.key"))))
        yield made
        yield old
        ends = [self._once(path, crl_end) for path in sorted(self._ca_dir.glob(CRLS))]
        readable = [end for end in ends if end is not None]
        yield gauge("pilotage_crls", "Revocation lists that can be read.", len(readable))
        yield gauge("pilotage_crls_unreadable", "Revocation lists that cannot.", len(ends) - len(readable))
        if readable:
            text = "The earliest nextUpdate of a revocation list; beyond it nobody of its authority is believed."
            yield gauge("pilotage_crl_next_update_timestamp_seconds", text, min(readable))
        if (end := self._once(self._host_cert, certificate_end)) is not None:
            yield gauge("pilotage_host_certificate_end_timestamp_seconds", "When the host certificate ends.", end)

    def _once(self, path: Path, read: Callable[[bytes], datetime.datetime | None]) -> float | None:
        """Return a time that a file tells, reading it again when it has changed; None for one that tells none."""
        try:
            facts = path.stat()
            stamp = (facts.st_ino, facts.st_mtime_ns)
            known = self._known.get(path)
            if known is None or known[0] != stamp:
                end = read(path.read_bytes())
                known = self._known[path] = (stamp, None if end is None else end.timestamp())
            return known[1]
        except (OSError, ValueError):
            return None


def crl_end(content: bytes) -> datetime.datetime | None:
    """Return the nextUpdate of a CRL, PEM or DER."""
    load = x509.load_pem_x509_crl if b"-----BEGIN" in content else x509.load_der_x509_crl
    return load(content).next_update_utc


def certificate_end(content: bytes) -> datetime.datetime:
    """Return the end of the first certificate of a PEM file."""
    return x509.load_pem_x509_certificates(content)[0].not_valid_after_utc


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


class Handler(WSGIRequestHandler):
    """Write no line for a scrape."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is the library's)
        """Say nothing."""


class Server(ThreadingWSGIServer):
    """Answer each connection in a thread of its own, a few at a time."""

    def __init__(self, *values: Any, **named: Any) -> None:  # as the library's own calls it
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(*values, **named)

    def process_request(self, request: Request, client_address: Any) -> None:
        """Take a connection if there is a place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Request, client_address: Any) -> None:
        """Answer within the time that a connection has, then give the place back."""
        # A time limit of the socket's own would hold for each byte anew.
        end = threading.Timer(CONNECTION_SECONDS, _hang_up, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._places.release()


def _hang_up(request: Request) -> None:
    """End a connection under the thread that waits for it."""
    if isinstance(request, socket.socket):
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


class Server6(Server):
    """The same, for IPv6."""

    address_family = socket.AF_INET6


class Exposition:
    """The port, in threads of its own."""

    def __init__(self, collectors: tuple[Collector, ...]) -> None:
        self._registry = CollectorRegistry()
        for collector in (*metrics.ALL, *collectors):
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        self._server: Server | None = None

    def listen(self, host: str, port: int) -> int:
        """Open the port and answer on it; return its number."""
        kind = Server6 if ipaddress.ip_address(host).version == 6 else Server
        try:
            made = make_server(host, port, prometheus_client.make_wsgi_app(self._registry), kind, Handler)
        except OSError as error:
            raise refuse(
                Reason.UNAVAILABLE, f"[metrics]: the server cannot listen on {host} port {port} ({error.strerror})."
            ) from error
        self._server = made
        threading.Thread(target=made.serve_forever, name="metrics", daemon=True).start()
        return int(made.server_port)

    async def close(self) -> None:
        """Close the port. A scrape may wait for the loop meanwhile, so the loop does not wait for it."""
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.to_thread(server.shutdown)
            server.server_close()
