"""The real server in this process: real TLS, real certificates, real databases, a clock that can be turned.

Servers live on one event loop in a thread of its own, so tests use the synchronous SDK as users do.
"""

import asyncio
import contextlib
import datetime
import json
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TypeVar

import grpc
from toygrid import Identity, ToyGrid

from pilotage.transport import open_channel, open_mutual_channel
from pilotage.v1 import admin_pb2_grpc, auth_pb2_grpc, credential_pb2_grpc, job_pb2_grpc, pilot_pb2_grpc
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage_server import config as configuration
from pilotage_server import logs
from pilotage_server.app import App
from pilotage_server.clock import utc_now

T = TypeVar("T")

AUDIENCE = "pilotage://localhost"
OWNER_ROLE = "/demo/Role=analysis"
PILOT_ROLE = "/demo/Role=pilot"
ADMIN_CN = "admin"


class LoopThread:
    """An event loop in a thread. gRPC's asyncio side wants one loop for the life of a process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="server rig", daemon=True).start()

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine there and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)


LOOP = LoopThread()


class TurnedClock:
    """The present, moved by as much as a test wants."""

    def __init__(self) -> None:
        self.ahead = datetime.timedelta(0)
        self._stood: datetime.datetime | None = None
        self._passed = 0.0

    def __call__(self) -> datetime.datetime:
        return (self._stood or utc_now()) + self.ahead

    def stand(self) -> None:
        """Let no time pass from now on but what is turned, however slow the machine is."""
        self._stood = utc_now()

    def steady(self) -> float:
        """Return seconds that pass whatever anybody sets the clock to."""
        return time.monotonic() + self._passed

    def turn(self, seconds: float) -> None:
        """Let time pass; where that is less than none, somebody sets the clock back."""
        self.ahead += datetime.timedelta(seconds=seconds)
        self._passed += max(seconds, 0.0)

    def put(self, seconds: float) -> None:
        """Have somebody set the clock forward or back; no time passes."""
        self.ahead += datetime.timedelta(seconds=seconds)


class Client:
    """The stubs of one caller, on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self.auth = auth_pb2_grpc.AuthServiceStub(channel)
        self.credentials = credential_pb2_grpc.CredentialServiceStub(channel)
        self.jobs = job_pb2_grpc.JobServiceStub(channel)
        self.pilots = pilot_pb2_grpc.PilotServiceStub(channel)


class Rig:
    """A server on ports of its own; `start` and `stop` as often as wanted, the state stays."""

    def __init__(
        self, grid: ToyGrid, root: Path, host: Identity, settings: Mapping[str, Mapping[str, object]] | None = None
    ) -> None:
        self.grid = grid
        self.state = root / "state"
        self.log_path = root / "server.log"
        self.clock = TurnedClock()
        self.config_path = root / "server.toml"
        self.config_path.write_text(config_text(grid, self.state, host, settings or {}))
        self.config = configuration.load(self.config_path)
        self.app: App | None = None
        self._files = contextlib.ExitStack()
        self._channels: list[grpc.Channel] = []

    @property
    def target(self) -> str:
        """Return the address of the login port."""
        assert self.app is not None
        return f"localhost:{self.app.port}"

    @property
    def mutual_target(self) -> str:
        """Return the address of the mutual-TLS port."""
        assert self.app is not None
        return f"localhost:{self.app.mutual_port}"

    @property
    def log_text(self) -> str:
        """Return everything that was logged."""
        return self.log_path.read_text()

    def start(self) -> None:
        """Start the server; return when it serves."""
        self.state.mkdir(mode=0o700, exist_ok=True)
        audit = self._files.enter_context(logs.open_audit(self.state / "audit.jsonl"))
        out = self._files.enter_context(self.log_path.open("a", buffering=1))
        logs.configure("json", audit, out)
        self.app = LOOP.run(self._start())

    async def _start(self) -> App:
        app = App(self.config, self.clock, self.clock.steady)
        try:
            await app.start()
        except BaseException:
            await app.close(0)
            raise
        return app

    def stop(self) -> None:
        """Stop the server as SIGTERM does, and close every client."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        if self.app is not None:
            LOOP.run(self.app.close(2.0))
        self.app = None
        self._files.close()

    def restart(self) -> None:
        """Stop, and start anew on the same state. The ports change; clients must be made again."""
        self.stop()
        self.start()

    def call(self, work: Callable[[App], Coroutine[object, object, T]]) -> T:
        """Run something on the server's own loop."""
        assert self.app is not None
        return LOOP.run(work(self.app))

    def client(self, who: LocalIdentity | Path | None) -> Client:
        """Return the stubs of a caller who logs in with an identity or a proxy file; None for a stranger."""
        identity = load_identity(who) if isinstance(who, Path) else who
        return self._client(open_channel(self.target, ca_dir=self.grid.ca_dir, identity=identity))

    def mutual_client(self, who: LocalIdentity) -> Client:
        """Return the stubs of a caller who shows a certificate to the mutual-TLS port."""
        return self._client(open_mutual_channel(self.mutual_target, ca_dir=self.grid.ca_dir, identity=who))

    def _client(self, channel: grpc.Channel) -> Client:
        self._channels.append(channel)
        return Client(channel)


def local_identity(who: Identity) -> LocalIdentity:
    """Return an end entity's own certificate and key."""
    return load_identity(who.cert_path, who.key_path)


def config_text(grid: ToyGrid, state: Path, host: Identity, settings: Mapping[str, Mapping[str, object]]) -> str:
    """Return a configuration file for tests; `settings` add to its sections."""
    sections: dict[str, dict[str, object]] = {
        "server": {
            "state_dir": str(state),
            "listen": "127.0.0.1:0",
            "listen_mutual": "127.0.0.1:0",
            "audience": AUDIENCE,
            "host_cert": str(host.cert_path),
            "host_key": str(host.key_path),
            "ca_dir": str(grid.ca_dir),
            "voms_dir": str(grid.voms_dir),
            "log_calls": "all",
        },
        "roles": {"pilot": [PILOT_ROLE], "owner": [OWNER_ROLE], "admin": [f"/O={grid.name}/CN={ADMIN_CN}"]},
        "credentials": {"key_pool": 1},
    }
    for name, values in settings.items():
        sections.setdefault(name, {}).update(values)
    return as_toml(sections)


def as_toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Write sections of plain values as TOML, whose values these are in JSON, too."""
    lines: list[str] = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)
