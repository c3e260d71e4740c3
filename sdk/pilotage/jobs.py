"""Jobs, credentials and callers as values: what the SDK gives and takes.

They know nothing of protobuf; `pilotage.convert` turns them into messages and back.
"""

import datetime
import enum

import msgspec

from pilotage.states import FINAL, JobState, Outcome


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and what it needs; a number left 0 means the service's default."""

    command: tuple[str, ...]
    name: str = ""
    environment: dict[str, str] = {}
    input_sandbox: str = ""
    outputs: tuple[str, ...] = ()
    cores: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    wall_seconds: float = 0
    site: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    max_attempts: int = 0
    fqans: tuple[str, ...] = ()
    """VOMS attributes that the job wants, the primary one first."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt used."""

    wall_seconds: float
    cpu_user_seconds: float
    cpu_system_seconds: float
    max_rss_bytes: int


class AttemptResult(msgspec.Struct, frozen=True, kw_only=True):
    """How and where the newest attempt ended."""

    outcome: Outcome
    exit_code: int
    signal: int
    usage: Usage
    account: str
    uid: int
    pilot_uid: int
    worker_node: str
    output_sandbox: str
    reason: str
    message: str


class JobProxy(msgspec.Struct, frozen=True, kw_only=True):
    """The proxy that a job's pilot holds, and how its renewal stands; `reason` is of the last one that failed."""

    expire_time: datetime.datetime
    next_renewal_time: datetime.datetime | None
    issued: int
    error_time: datetime.datetime | None
    reason: str
    message: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A stored job."""

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
    proxy: JobProxy | None = None

    @property
    def final(self) -> bool:
        """Return whether nothing more happens to it."""
        return self.state in FINAL

    @property
    def succeeded(self) -> bool:
        """Return whether it ended well."""
        return self.state is JobState.FINISHED


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One move of one job; or, where both states are the same, something noted about it."""

    event_time: datetime.datetime
    from_state: JobState | None
    to_state: JobState
    attempt: int
    actor: str
    reason: str
    message: str


class ItemResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one item of a bulk call; `reason` is empty when it was done."""

    id: str
    reason: str
    message: str


class LogStream(enum.IntEnum):
    """Which of the payload's two streams; numbers of `pilotage.v1.LogStream`."""

    STDOUT = 1
    STDERR = 2


class LogChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a log; `truncated` when the pilot cut the stream at its limit."""

    data: bytes
    offset: int
    truncated: bool


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What the service tells about a stored credential."""

    credential_id: str
    owner_dn: str
    name: str
    vo: str
    fqans: tuple[str, ...]
    key_kind: str
    create_time: datetime.datetime
    expire_time: datetime.datetime
    destroy_time: datetime.datetime | None
    limited: bool
    revoke_time: datetime.datetime | None = None


class Issuance(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy made from a credential for a pilot."""

    issuance_id: str
    credential_id: str
    job_id: str
    lease_id: str
    attempt: int
    pilot_dn: str
    serial: str
    issue_time: datetime.datetime
    expire_time: datetime.datetime
    peer: str


class NameLink(msgspec.Struct, frozen=True, kw_only=True):
    """What one DN said of another; linked once the other has said so, too."""

    dn: str
    other_dn: str
    ask_time: datetime.datetime
    link_time: datetime.datetime | None


class Ban(msgspec.Struct, frozen=True, kw_only=True):
    """Who is banned; with a `thumbprint` (hex) only who has that key. `by_dn` is empty for the service itself."""

    subject: str
    thumbprint: str
    why: str
    by_dn: str
    ban_time: datetime.datetime


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the audit; `reason` is empty for what was done, and `actor_dn` for what the service did by itself."""

    sequence: int
    act_time: datetime.datetime
    act: str
    actor_dn: str
    actor_thumbprint: str
    peer: str
    owner_dn: str
    credential_id: str
    job_id: str
    lease_id: str
    reason: str
    facts: dict[str, str]
    digest: str


class Rebound(msgspec.Struct, frozen=True, kw_only=True):
    """What a new credential did for the jobs that were held for want of one."""

    released: int
    still_held: int


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """How the server sees this caller."""

    dn: str
    vo: str
    fqans: tuple[str, ...]
    limited: bool
    roles: tuple[str, ...]
    expire_time: datetime.datetime
