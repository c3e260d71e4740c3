"""Both desks over a real store, with a clock that stands until a test moves it."""

import datetime
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import JobState, Outcome
from pilotage_server.jobs import (
    Askers,
    CredentialDesk,
    JobDesk,
    JobLimits,
    KeyWrap,
    LeaseProxies,
    LeaseTimes,
    LogStore,
    Notices,
    PilotDesk,
    SandboxStore,
)
from pilotage_server.principal import Principal, Proof
from pilotage_server.retrieval import RetrievalPolicy
from pilotage_server.store.database import Database
from pilotage_server.store.lease_credentials import Issued
from pilotage_server.tokens import TokenKeys
from pilotage_server.workload import AttemptResult, Grant, Job, JobSpec, Offer, Report, Usage

T = TypeVar("T")
START = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)
RETRIEVAL_KEY = Secret(bytes(range(32)))
CREDENTIAL = "credential-1"


def principal(cn: str, key: str = "first", *, limited: bool = False) -> Principal:
    """Return somebody; another `key` is another login of the same name."""
    return Principal(
        dn=f"/O=Toy Grid/CN={cn}",
        vo="demo",
        fqans=("/demo",),
        limited=limited,
        thumbprint=hashlib.sha256(f"{cn} {key}".encode()).digest(),
        proof=Proof.SESSION,
        expire_time=START + datetime.timedelta(days=3650),
    )


ALICE, BOB = principal("Alice"), principal("Bob")
PILOT, OTHER_PILOT = principal("Pilot 1"), principal("Pilot 2")

SPEC = JobSpec(
    name="",
    command=("./analyse", "data.csv"),
    environment={},
    input_sandbox="",
    outputs=(),
    cores=0,
    memory_bytes=0,
    disk_bytes=0,
    wall_seconds=600,
    site="",
    tags=(),
    priority=0,
    max_attempts=0,
)
OFFER = Offer(
    site="here",
    worker_node="wn1",
    slots=2,
    cores=4,
    memory_bytes=8 * 1024**3,
    disk_bytes=10**11,
    wall_seconds=30 * 86400,
    tags=("gpu", "avx2"),
    version="0.1",
)
OK = AttemptResult(
    outcome=Outcome.OK,
    usage=Usage(wall_seconds=12.5, cpu_user_seconds=10.25, max_rss_bytes=10**8),
    account="pool001",
    uid=5001,
    pilot_uid=1001,
    worker_node="wn1",
)


def spec(**changes: object) -> JobSpec:
    """Return the usual job with changes."""
    return msgspec.structs.replace(SPEC, **changes)


def ended(outcome: Outcome, reason: Reason | None = None, **changes: object) -> AttemptResult:
    """Return a result of this outcome."""
    name = "" if reason is None else reason.name
    return msgspec.structs.replace(OK, outcome=outcome, reason=name, **changes)


class Facts(msgspec.Struct, frozen=True):
    """What the directory knows of a credential."""

    vo: str
    vos: tuple[str, ...]
    fqan: str
    expire_time: datetime.datetime
    owner_dn: str
    reason: str = ""
    message: str = ""


class Directory:
    """The credentials there are: by id and owner; and whose names are linked."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Facts] = {}
        self.links: dict[str, tuple[str, ...]] = {}

    def names(self, dn: str) -> tuple[str, ...]:
        """Answer as CredentialKeeper does."""
        return (dn, *self.links.get(dn, ()))

    def put(
        self, owner: Principal, expire_time: datetime.datetime, credential_id: str = CREDENTIAL, vo: str = "demo"
    ) -> None:
        """Let an owner have a credential until a time."""
        self.known[credential_id, owner.dn] = Facts(vo, (vo,), f"/{vo}/Role=analysis", expire_time, owner.dn)

    def withdraw(self, owner: Principal, credential_id: str, reason: Reason) -> None:
        """Let a credential be of no use any more."""
        facts = self.known[credential_id, owner.dn]
        self.known[credential_id, owner.dn] = msgspec.structs.replace(facts, reason=reason.name)

    async def describe(self, credential_id: str, owner_dn: str, *, fresh: bool = False) -> Facts:
        """Answer as CredentialKeeper does."""
        for name in self.names(owner_dn):
            if (credential_id, name) in self.known:
                return self.known[credential_id, name]
        raise refuse(Reason.CREDENTIAL_NOT_FOUND)


class Desks:
    """A jobs server without its wire."""

    def __init__(
        self,
        root: Path,
        limits: JobLimits | None = None,
        times: LeaseTimes | None = None,
        policy: RetrievalPolicy | None = None,
    ) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.limits = limits or JobLimits()
        self.times = times or LeaseTimes()
        self.policy = policy or RetrievalPolicy()
        self.now = START
        self.credentials = Directory()
        for owner in (ALICE, BOB):
            self.credentials.put(owner, START + datetime.timedelta(days=20))
        self.token_key = Ed25519PrivateKey.generate()
        self.wrapping = KeyWrap(Secret(b"w" * 32))
        self._requests = 0
        self.open()

    def open(self) -> None:
        """Open the store and put the desks together."""
        self.database = Database.open(self.root / "jobs.sqlite", "jobs")
        self.notices = Notices()
        self.askers = Askers(self.policy, self.clock)
        self.logs = LogStore(self.root / "logs", self.limits)
        self.jobs = JobDesk(
            self.database,
            self.credentials,
            self.logs,
            self.wrapping,
            self.notices,
            self.askers,
            self.limits,
            self.clock,
        )
        self.credential_desk = CredentialDesk(
            self.database, self.credentials, self.wrapping, self.notices, self.limits, self.clock
        )
        self.proxies = LeaseProxies(self.database, self.notices, self.clock)
        self.pilots = PilotDesk(
            self.database,
            self.logs,
            self.wrapping,
            TokenKeys(self.token_key),
            self.notices,
            self.limits,
            self.times,
            self.askers,
            self.clock,
        )
        self.sandboxes = SandboxStore(
            self.database, self.root / "sandboxes", self.limits, self.clock, self.credentials.names
        )

    async def close(self) -> None:
        """Close the store."""
        await self.database.close()

    def clock(self) -> datetime.datetime:
        """Return the present of this server."""
        return self.now

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.now += datetime.timedelta(seconds=seconds)

    def request_id(self) -> str:
        """Return a request id never used before."""
        self._requests += 1
        return f"request-{self._requests}"

    async def submit(self, owner: Principal = ALICE, *wanted: JobSpec) -> str:
        """Submit jobs, by default the usual one, and return the first's id."""
        specs: Sequence[JobSpec] = wanted or (SPEC,)
        return (await self.jobs.submit(owner, self.request_id(), specs, CREDENTIAL, RETRIEVAL_KEY))[0]

    async def register(self, pilot: Principal = PILOT, /, **changes: object) -> str:
        """Register a pilot with the usual offer, changed."""
        return await self.pilots.register(pilot, self.request_id(), msgspec.structs.replace(OFFER, **changes))

    async def take(self, pilot_id: str, pilot: Principal = PILOT, slots: int = 1) -> tuple[Grant, ...]:
        """Acquire without waiting."""
        return (await self.pilots.acquire(pilot, pilot_id, slots, 0)).grants

    async def issue(self, lease_id: str, hours: float = 12) -> None:
        """Have a proxy noted that a lease was given just now."""
        self.proxies.issued(Issued(lease_id, self.now, self.now + datetime.timedelta(hours=hours)))
        await self.database.caught_up()

    async def beat(self, pilot_id: str, lease_id: str, phase: JobState | None, pilot: Principal = PILOT) -> str:
        """Report on one lease and return the order, with the reason."""
        (answer,) = (await self.pilots.heartbeat(pilot, pilot_id, [Report(lease_id, phase)])).answers
        return " ".join(filter(None, (answer.order.name, answer.reason)))

    async def job(self, job_id: str, owner: Principal = ALICE) -> Job:
        """Return a job as its owner sees it."""
        return await self.jobs.get(owner, job_id)

    async def states(self, job_id: str, owner: Principal = ALICE) -> list[str]:
        """Return the states a job went through."""
        return [event.to_state.label for event in await self.jobs.list_events(owner, job_id, 0, 1000)]

    async def look(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Look into the database itself."""
        read: Callable[[sqlite3.Connection], list[tuple[object, ...]]] = lambda c: c.execute(query, values).fetchall()  # noqa: E731
        return await self.database.read(read)
