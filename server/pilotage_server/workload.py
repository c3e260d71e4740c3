"""Jobs, attempts and offers as values: what services, desks and store pass to each other."""

import datetime
import enum

import msgspec

from pilotage.secret import Secret
from pilotage.states import JobState, Outcome
from pilotage.voms.fqans import ADDS, vo_of


class Requirements(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """What a job needs of a slot. Jobs with equal requirements share a class; `tags` are sorted.

    `vos` are those of the job's credential, sorted: which pilots get it is decided by VO.
    """

    site: str
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_seconds: int
    tags: tuple[str, ...]
    vos: tuple[str, ...] = ()


class JobSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the owner wants to run and what it needs, with the service's defaults filled in."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    input_sandbox: str
    outputs: tuple[str, ...]
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_seconds: int
    site: str
    tags: tuple[str, ...]
    priority: int
    max_attempts: int
    fqans: tuple[str, ...] = ()

    def requirements(self, vos: tuple[str, ...]) -> Requirements:
        """Return what decides which slots fit a job that runs with a credential of these VOs.

        One that wants attributes which its credential has not goes to pilots that add those of that VO.
        """
        added = {ADDS + vo_of(self.fqans[0])} if self.fqans and not vos else set()
        return Requirements(
            self.site,
            self.cores,
            self.memory_bytes,
            self.disk_bytes,
            self.wall_seconds,
            tuple(sorted({*self.tags, *added})),
            vos,
        )


class Usage(msgspec.Struct, frozen=True):
    """What an attempt used."""

    wall_seconds: float = 0.0
    cpu_user_seconds: float = 0.0
    cpu_system_seconds: float = 0.0
    max_rss_bytes: int = 0


class AttemptResult(msgspec.Struct, frozen=True):
    """How and where an attempt ended."""

    outcome: Outcome
    exit_code: int = 0
    signal: int = 0
    usage: Usage = Usage()
    account: str = ""
    uid: int = 0
    pilot_uid: int = 0
    worker_node: str = ""
    output_sandbox: str = ""
    reason: str = ""
    message: str = ""


class JobProxy(msgspec.Struct, frozen=True):
    """The newest proxy issued for an attempt that goes on, and how its renewal stands."""

    expire_time: datetime.datetime
    next_renewal_time: datetime.datetime | None
    issued: int
    error_time: datetime.datetime | None = None
    reason: str = ""
    message: str = ""


class Job(msgspec.Struct, frozen=True):
    """A stored job, as its owner sees it."""

    job_id: str
    owner_dn: str
    spec: JobSpec
    state: JobState
    reason: str
    message: str
    attempt: int
    cancel_requested: bool
    create_time: datetime.datetime
    start_time: datetime.datetime | None
    end_time: datetime.datetime | None
    result: AttemptResult | None
    credential_id: str
    vo: str
    fqan: str
    version: int
    proxy: JobProxy | None = None


class JobEvent(msgspec.Struct, frozen=True):
    """One move of one job; `from_state` is None for its making, and `to_state` where something was only noted."""

    event_id: int
    event_time: datetime.datetime
    from_state: JobState | None
    to_state: JobState
    attempt: int
    actor: str
    reason: str
    message: str


class Offer(msgspec.Struct, frozen=True):
    """What a pilot offers; sizes are per slot, `wall_seconds` counts from registration."""

    site: str
    worker_node: str
    slots: int
    cores: int
    memory_bytes: int
    disk_bytes: int
    wall_seconds: int
    tags: tuple[str, ...]
    version: str
    renews: bool = False


class RenewalFailure(msgspec.Struct, frozen=True):
    """Why a pilot could not give its payload a new proxy, and when the one ends that the payload has still."""

    reason: str
    message: str
    proxy_expire_time: datetime.datetime | None = None


class Report(msgspec.Struct, frozen=True):
    """What a pilot says about one lease; `phase` is STARTING, RUNNING or HOLDING, or None."""

    lease_id: str
    phase: JobState | None
    usage: Usage = Usage()
    account: str = ""
    uid: int = 0
    renewal_failure: RenewalFailure | None = None


class Order(enum.IntEnum):
    """What the pilot must do with a lease; numbers of `pilotage.v1.LeaseOrder`."""

    CONTINUE = 1
    KILL = 2
    RENEW = 3
    LOST = 4


class Answer(msgspec.Struct, frozen=True):
    """The answer to one report."""

    lease_id: str
    order: Order
    expire_time: datetime.datetime | None
    reason: str = ""


class Grant(msgspec.Struct, frozen=True):
    """One attempt given to one pilot. The token and the key reach nobody else."""

    lease_id: str
    job_id: str
    attempt: int
    owner_dn: str
    spec: JobSpec
    expire_time: datetime.datetime
    credential_id: str
    token: Secret
    retrieval_key: Secret


class TokenAndKey(msgspec.Struct, frozen=True):
    """What opens a job's credential once, for the pilot that holds its lease."""

    token: Secret
    retrieval_key: Secret
