"""Our credential service as its own process, an owner, and a pilot whose lease gives token after token.

All keys are RSA-2048, as myproxy-server's are. The rates of `[abuse]` are set so high that they refuse nothing; they
are counted all the same, as in production.
"""

import os
import resource
import time
from pathlib import Path

import psutil
from toygrid import ToyGrid

from pilotage.transport import open_channel
from pilotage.v1 import credential_pb2 as pb
from pilotage.v1 import pilot_pb2
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, make_key
from pilotage.x509.requests import make_request
from support.journey import acquire, complete_request, delegate, register, submit
from support.server_process import ServerProcess
from support.server_rig import OWNER_ROLE, PILOT_ROLE, Client

KEY_POOL = 64
NO_LIMIT = 10**9
ALL = os.sched_getaffinity(0)
PROCESSOR = min(ALL)
"""The one on which either server runs: the goals are per server core."""
OTHERS = ALL - {PROCESSOR} or ALL
"""Where the clients run, as they would on machines of their own, if there is more than one."""
SETTINGS = {
    "server": {"processor": PROCESSOR},
    "credentials": {"key_pool": KEY_POOL},
    # Nobody sends heartbeats for the pilot.
    "leases": {"sent_seconds": 86_400, "lease_seconds": 86_400},
    "abuse": {
        "pilot_issues_per_minute": NO_LIMIT,
        "owner_issues_per_minute": NO_LIMIT,
        "owner_delegations_per_minute": NO_LIMIT,
    },
}
IDLE_SECONDS = 0.02
"""Processor time within a step of waiting, below which the server is idle."""


def open_files() -> None:
    """Let this process, and the server that it starts, have as many connections as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Service:
    """One server process; `restart` keeps the state."""

    def __init__(self, grid: ToyGrid, folder: Path) -> None:
        self.grid = grid
        self.owner_proxy, self.pilot_proxy = folder / "owner.proxy", folder / "pilot.proxy"
        grid.voms_proxy(grid.user("owner"), self.owner_proxy, fqans=(OWNER_ROLE, "/demo"))
        grid.voms_proxy(grid.robot("Robot - pilot"), self.pilot_proxy, fqans=(PILOT_ROLE, "/demo"))
        self.owner_identity, self.pilot_identity = load_identity(self.owner_proxy), load_identity(self.pilot_proxy)
        self.server = ServerProcess(grid, folder, grid.host("localhost"), SETTINGS)
        self.database = self.server.state / "credentials.sqlite"
        self.start()
        self.delegated = delegate(self.owner, self.owner_identity)
        submit(self.owner, self.delegated)
        self.pilot_id = register(self.pilot)
        self.lease_id = acquire(self.pilot, self.pilot_id).lease_id
        self.request = make_request(make_key(KeyKind.RSA_2048))

    def start(self) -> None:
        """Start the process and fill its pool of keys; connect both callers."""
        os.sched_setaffinity(0, ALL)
        self.server.start()
        os.sched_setaffinity(0, OTHERS)
        own = psutil.Process().children()
        (self._process,) = [process for process in own if "pilotage_server.cli" in process.cmdline()]
        began = self._threads()
        self._filler = 0
        self.settle()
        # Nobody has called yet: what worked was the thread that makes keys in advance.
        now = self._threads()
        self._filler = max(now, key=lambda thread: now[thread] - began.get(thread, 0.0))
        self.owner, self.pilot = self.client(self.owner_identity), self.client(self.pilot_identity)

    def stop(self) -> None:
        """End the process, as an operator does."""
        for client in (self.owner, self.pilot):
            client.channel.close()
        self.server.stop()

    def client(self, identity: LocalIdentity) -> Client:
        """Open a channel; the login happens at its first call."""
        return Client(open_channel(self.server.target, ca_dir=self.grid.ca_dir, identity=identity))

    def settle(self) -> None:
        """Wait until the server is idle, which it is not before its pool of keys is full."""
        before = -1.0
        while (now := sum(self._threads().values())) - before > IDLE_SECONDS:
            before = now
            time.sleep(0.5)

    def cpu_seconds(self) -> float:
        """Return the server's processor time, without that of the thread that makes keys in advance."""
        return sum(seconds for thread, seconds in self._threads().items() if thread != self._filler)

    def anonymous_bytes(self) -> int:
        """Return the memory that is the process's own: resident and of no file (proc(5), RssAnon)."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the kernel does not tell RssAnon")

    def token(self) -> pb.RetrieveCredentialRequest:
        """Return the request of one retrieval, with a token of its own."""
        fresh = self.pilot.pilots.RefreshCredentialToken(
            pilot_pb2.RefreshCredentialTokenRequest(pilot_id=self.pilot_id, lease_id=self.lease_id)
        )
        return pb.RetrieveCredentialRequest(
            credential_token=fresh.credential_token,
            retrieval_key=fresh.retrieval_key,
            certificate_request=self.request,
        )

    def get_kept(self, request: pb.RetrieveCredentialRequest) -> None:
        """Retrieve on the channel that is open."""
        self.pilot.credentials.RetrieveCredential(request)

    def get_fresh(self, request: pb.RetrieveCredentialRequest) -> None:
        """Connect, log in, retrieve."""
        client = self.client(self.pilot_identity)
        client.credentials.RetrieveCredential(request)
        client.channel.close()

    def put(self) -> None:
        """Delegate: ask for a key, sign a proxy for it, have it stored."""
        self.owner.credentials.CompleteDelegation(complete_request(self.owner, self.owner_identity))

    def info(self) -> None:
        """Ask for one credential."""
        self.owner.credentials.GetCredential(pb.GetCredentialRequest(credential_id=self.delegated.credential_id))

    def list_own(self) -> None:
        """Ask for the owner's credentials."""
        self.owner.credentials.ListCredentials(pb.ListCredentialsRequest())

    def close(self) -> None:
        """End the process, whatever state it is in."""
        self.server.close()

    def _threads(self) -> dict[int, float]:
        """Return the seconds that each thread of the server has been on a processor (proc(5), schedstat)."""
        found = {}
        for name in os.listdir(f"/proc/{self._process.pid}/task"):
            stat = Path(f"/proc/{self._process.pid}/task/{name}/schedstat")
            found[int(name)] = int(stat.read_text().split()[0]) / 1e9
        return found
