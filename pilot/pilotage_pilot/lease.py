"""The values of one attempt: what the server leases, what the pilot reports about it."""

import datetime
import enum

import msgspec

from pilotage.errors import PilotageError
from pilotage.secret import Secret
from pilotage.states import Outcome


class Phase(enum.IntEnum):
    """What happens to a leased job here; numbers of `pilotage.v1.AttemptPhase`."""

    STARTING = 1
    RUNNING = 2
    HOLDING = 3


class Order(enum.IntEnum):
    """What the server wants done with a lease; numbers of `pilotage.v1.LeaseOrder`."""

    CONTINUE = 1
    KILL = 2
    RENEW = 3
    LOST = 4


class Stream(enum.IntEnum):
    """Which of the payload's streams; numbers of `pilotage.v1.LogStream`."""

    STDOUT = 1
    STDERR = 2


class Usage(msgspec.Struct, frozen=True):
    """What an attempt used."""

    wall_seconds: float = 0.0
    cpu_user_seconds: float = 0.0
    cpu_system_seconds: float = 0.0
    max_rss_bytes: int = 0


class Lease(msgspec.Struct, frozen=True):
    """One attempt at one job, ours until the server says otherwise."""

    lease_id: str
    job_id: str
    attempt: int
    owner_dn: str
    command: tuple[str, ...]
    environment: dict[str, str]
    input_sandbox: str
    outputs: tuple[str, ...]
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_seconds: float
    token: Secret
    retrieval_key: Secret
    fqans: tuple[str, ...] = ()
    """VOMS attributes that the job wants, the primary one first."""


class Report(msgspec.Struct, frozen=True):
    """What is reported of one lease."""

    lease_id: str
    phase: Phase
    usage: Usage = Usage()
    account: str = ""
    uid: int = 0
    renewal_failure: PilotageError | None = None
    """Why the payload did not get a new proxy, until the server has heard it."""
    proxy_expire_time: datetime.datetime | None = None
    """When the proxy ends that the payload has."""


class Answer(msgspec.Struct, frozen=True):
    """What the server answers to one report."""

    lease_id: str
    order: Order
    reason: str = ""


class Result(msgspec.Struct, frozen=True):
    """How an attempt ended."""

    outcome: Outcome
    exit_code: int = 0
    signal: int = 0
    usage: Usage = Usage()
    account: str = ""
    uid: int = 0
    output_sandbox: str = ""
    reason: str = ""
    message: str = ""


class Offer(msgspec.Struct, frozen=True):
    """What this node offers; sizes are for one slot."""

    site: str
    worker_node: str
    slots: int
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_seconds: int
    tags: tuple[str, ...]
    version: str
