"""Tables of the jobs database. Its checks are made from `pilotage.states`, the one table of moves.

`*_us` are microseconds since 1970, UTC. Retrieval keys lie wrapped in a table of their own and go
when their job is final; nothing here opens a credential.
"""

from sqlalchemy import (
    REAL,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from pilotage.states import FINAL, LEASED, MOVES, JobState, Outcome

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMES)


def _among(column: str, members: frozenset[JobState] | type[Outcome]) -> str:
    return f"{column} IN ({', '.join(str(int(member)) for member in sorted(members))})"


def _moves() -> str:
    """Return the SQL condition that a move is in the table, or is a job's making."""
    allowed = " OR ".join(
        f"(from_state = {int(source)} AND {_among('to_state', targets)})"
        for source, targets in MOVES.items()
        if targets
    )
    # Where nothing moves, something is noted, and a note says what.
    noted = "(from_state = to_state AND reason <> '')"
    made = f"(from_state = 0 AND to_state IN ({int(JobState.PENDING)}, {int(JobState.DEFINED)}))"
    return f"{made} OR {allowed} OR {noted}"


owner = Table(
    "owner",
    metadata,
    Column("owner_id", Integer, primary_key=True),
    Column("dn", Text, nullable=False, unique=True),
    # Logarithm of decayed use, comparable at any time; see pilotage_server.jobs.broker.
    Column("score", REAL, nullable=False, server_default=text("0")),
    Column("open_jobs", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("open_jobs >= 0", name="open_jobs"),
)

job_class = Table(
    "job_class",
    metadata,
    # A hash of the requirements, so that an id means the same for ever.
    Column("class_id", Integer, primary_key=True, autoincrement=False),
    Column("requirements", LargeBinary, nullable=False),
)

queue = Table(
    "queue",
    metadata,
    Column("class_id", ForeignKey("job_class.class_id"), primary_key=True),
    Column("owner_id", ForeignKey("owner.owner_id"), primary_key=True),
    Column("queued", Integer, nullable=False),
    CheckConstraint("queued >= 0", name="queued"),
    Index("ix_queue_waiting", "class_id", "owner_id", sqlite_where=text("queued > 0")),
)

job = Table(
    "job",
    metadata,
    Column("job_seq", Integer, primary_key=True),
    Column("job_id", Text, nullable=False, unique=True),
    Column("owner_id", ForeignKey("owner.owner_id"), nullable=False),
    Column("class_id", ForeignKey("job_class.class_id"), nullable=False),
    Column("state", Integer, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    # Count of leases; the newest attempt's number.
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    # Attempts that ended and count against max_attempts; one given back unstarted does not.
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer, nullable=False),
    Column("result_attempt", Integer, nullable=False, server_default=text("0")),
    Column("lease_id", Text),
    Column("cancel_requested", Integer, nullable=False, server_default=text("0")),
    # Smaller goes first; holds priority and age in one number that time does not change.
    Column("rank", Integer, nullable=False),
    Column("credential_id", Text, nullable=False),
    Column("credential_expire_us", Integer, nullable=False),
    Column("vo", Text, nullable=False),
    Column("fqan", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("create_us", Integer, nullable=False),
    Column("start_us", Integer),
    Column("end_us", Integer),
    CheckConstraint(_among("state", frozenset(JobState)), name="state"),
    CheckConstraint(f"(lease_id IS NOT NULL) = ({_among('state', LEASED)})", name="leased"),
    CheckConstraint(f"(end_us IS NOT NULL) = ({_among('state', FINAL)})", name="final"),
    CheckConstraint("cancel_requested IN (0, 1)", name="cancel_requested"),
    Index("ix_job_owner", "owner_id", "job_seq"),
    Index(
        "ix_job_queue",
        "class_id",
        "owner_id",
        "rank",
        "job_seq",
        sqlite_where=text(f"state = {int(JobState.ACTIVATED)}"),
    ),
    Index("ix_job_held", "owner_id", "job_seq", sqlite_where=text(f"state = {int(JobState.HELD)}")),
    Index("ix_job_credential", "credential_id", "owner_id", "state", sqlite_where=text("end_us IS NULL")),
)

job_spec = Table(
    "job_spec",
    metadata,
    Column("job_seq", ForeignKey("job.job_seq"), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

job_key = Table(
    "job_key",
    metadata,
    Column("job_seq", ForeignKey("job.job_seq"), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)

pilot = Table(
    "pilot",
    metadata,
    Column("pilot_id", Text, primary_key=True),
    Column("dn", Text, nullable=False),
    Column("thumbprint", LargeBinary, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("offer", LargeBinary, nullable=False),
    Column("drain", Integer, nullable=False, server_default=text("0")),
    Column("register_us", Integer, nullable=False),
    Column("seen_us", Integer, nullable=False),
    Column("end_us", Integer),
    UniqueConstraint("dn", "thumbprint", "request_id"),
)

# Pilots that have not said good-bye and were heard of lately, and how many there are of each DN and key.
live_pilot = Table(
    "live_pilot",
    metadata,
    Column("pilot_id", ForeignKey("pilot.pilot_id"), primary_key=True),
)

pilot_count = Table(
    "pilot_count",
    metadata,
    Column("dn", Text, nullable=False),
    Column("thumbprint", LargeBinary, nullable=False),
    Column("live", Integer, nullable=False),
    PrimaryKeyConstraint("dn", "thumbprint"),
    CheckConstraint("live > 0", name="live"),
)

lease = Table(
    "lease",
    metadata,
    Column("lease_id", Text, primary_key=True),
    Column("job_seq", ForeignKey("job.job_seq"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("pilot_id", ForeignKey("pilot.pilot_id"), nullable=False),
    # Core-seconds charged to the owner in advance, settled at the end.
    Column("charged", REAL, nullable=False),
    Column("start_us", Integer, nullable=False),
    Column("expire_us", Integer, nullable=False),
    Column("usage", LargeBinary),
    Column("account", Text, nullable=False),
    Column("uid", Integer, nullable=False, server_default=text("0")),
    Column("end_us", Integer),
    # NULL in an ended lease: it was given back unstarted.
    Column("outcome", Integer),
    Column("result", LargeBinary),
    # The state the job went to, for a repeated finish.
    Column("end_state", Integer),
    UniqueConstraint("job_seq", "attempt"),
    CheckConstraint(f"outcome IS NULL OR {_among('outcome', Outcome)}", name="outcome"),
    CheckConstraint("(end_us IS NULL) = (end_state IS NULL)", name="ended"),
    Index("uq_lease_live", "job_seq", unique=True, sqlite_where=text("end_us IS NULL")),
    Index("ix_lease_expire", "expire_us", sqlite_where=text("end_us IS NULL")),
    Index("ix_lease_pilot", "pilot_id", sqlite_where=text("end_us IS NULL")),
)

# What a lease has to do with its credential: a row from the lease's first moment on.
lease_credential = Table(
    "lease_credential",
    metadata,
    Column("lease_id", ForeignKey("lease.lease_id"), primary_key=True),
    Column("credential_id", Text, nullable=False),
    # Why the payload must end: its credential is gone. Empty while it may go on.
    Column("stop_reason", Text, nullable=False, server_default=text("''")),
    # Of the newest proxy.
    Column("issue_us", Integer),
    Column("expire_us", Integer),
    Column("issued", Integer, nullable=False, server_default=text("0")),
    # When the pilot is told to renew; NULL when it is not.
    Column("renew_us", Integer),
    # The last refused renewal since the newest proxy.
    Column("error_us", Integer),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("message", Text, nullable=False, server_default=text("''")),
    CheckConstraint("(expire_us IS NULL) = (issued = 0)", name="issued"),
    Index("ix_lease_credential_credential", "credential_id"),
)

event = Table(
    "event",
    metadata,
    Column("event_seq", Integer, primary_key=True),
    Column("job_seq", ForeignKey("job.job_seq"), nullable=False),
    Column("time_us", Integer, nullable=False),
    Column("from_state", Integer, nullable=False),
    Column("to_state", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    CheckConstraint(_moves(), name="move"),
    CheckConstraint("actor IN ('owner', 'pilot', 'server', 'admin')", name="actor"),
    Index("ix_event_job", "job_seq", "event_seq"),
)

sandbox = Table(
    "sandbox",
    metadata,
    Column("owner_id", ForeignKey("owner.owner_id"), primary_key=True),
    Column("sha256", Text, primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    Column("create_us", Integer, nullable=False),
)

request = Table(
    "request",
    metadata,
    Column("owner_id", ForeignKey("owner.owner_id"), primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("job_ids", LargeBinary, nullable=False),
    Column("create_us", Integer, nullable=False),
)
