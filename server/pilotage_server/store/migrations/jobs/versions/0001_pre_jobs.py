"""Make the tables of jobs, leases and sandboxes."""

import sqlalchemy as sa
from alembic import op

revision = "jobs_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "job_class",
        sa.Column("class_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requirements", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("class_id", name=op.f("pk_job_class")),
    )
    op.create_table(
        "owner",
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("dn", sa.Text(), nullable=False),
        sa.Column("score", sa.REAL(), server_default=sa.text("0"), nullable=False),
        sa.Column("open_jobs", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("open_jobs >= 0", name=op.f("ck_owner_open_jobs")),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_owner")),
        sa.UniqueConstraint("dn", name=op.f("uq_owner_dn")),
    )
    op.create_table(
        "pilot",
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.Column("dn", sa.Text(), nullable=False),
        sa.Column("thumbprint", sa.LargeBinary(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("offer", sa.LargeBinary(), nullable=False),
        sa.Column("drain", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("register_us", sa.Integer(), nullable=False),
        sa.Column("seen_us", sa.Integer(), nullable=False),
        sa.Column("end_us", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("pilot_id", name=op.f("pk_pilot")),
        sa.UniqueConstraint("dn", "thumbprint", "request_id", name=op.f("uq_pilot_dn_thumbprint_request_id")),
    )
    op.create_table(
        "job",
        sa.Column("job_seq", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("result_attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_id", sa.Text(), nullable=True),
        sa.Column("cancel_requested", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("credential_expire_us", sa.Integer(), nullable=False),
        sa.Column("vo", sa.Text(), nullable=False),
        sa.Column("fqan", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("create_us", sa.Integer(), nullable=False),
        sa.Column("start_us", sa.Integer(), nullable=True),
        sa.Column("end_us", sa.Integer(), nullable=True),
        sa.CheckConstraint("(end_us IS NOT NULL) = (state IN (9, 10, 11, 12))", name=op.f("ck_job_final")),
        sa.CheckConstraint("(lease_id IS NOT NULL) = (state IN (5, 6, 7, 8))", name=op.f("ck_job_leased")),
        sa.CheckConstraint("cancel_requested IN (0, 1)", name=op.f("ck_job_cancel_requested")),
        sa.CheckConstraint("state IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)", name=op.f("ck_job_state")),
        sa.ForeignKeyConstraint(["class_id"], ["job_class.class_id"], name=op.f("fk_job_class_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.owner_id"], name=op.f("fk_job_owner_id")),
        sa.PrimaryKeyConstraint("job_seq", name=op.f("pk_job")),
        sa.UniqueConstraint("job_id", name=op.f("uq_job_job_id")),
    )
    op.create_index("ix_job_owner", "job", ["owner_id", "job_seq"], unique=False)
    op.create_index(
        "ix_job_queue",
        "job",
        ["class_id", "owner_id", "rank", "job_seq"],
        unique=False,
        sqlite_where=sa.text("state = 3"),
    )
    op.create_table(
        "queue",
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.CheckConstraint("queued >= 0", name=op.f("ck_queue_queued")),
        sa.ForeignKeyConstraint(["class_id"], ["job_class.class_id"], name=op.f("fk_queue_class_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.owner_id"], name=op.f("fk_queue_owner_id")),
        sa.PrimaryKeyConstraint("class_id", "owner_id", name=op.f("pk_queue")),
    )
    op.create_index(
        "ix_queue_waiting", "queue", ["class_id", "owner_id"], unique=False, sqlite_where=sa.text("queued > 0")
    )
    op.create_table(
        "request",
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("job_ids", sa.LargeBinary(), nullable=False),
        sa.Column("create_us", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.owner_id"], name=op.f("fk_request_owner_id")),
        sa.PrimaryKeyConstraint("owner_id", "request_id", name=op.f("pk_request")),
    )
    op.create_table(
        "sandbox",
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("create_us", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.owner_id"], name=op.f("fk_sandbox_owner_id")),
        sa.PrimaryKeyConstraint("owner_id", "sha256", name=op.f("pk_sandbox")),
    )
    op.create_table(
        "event",
        sa.Column("event_seq", sa.Integer(), nullable=False),
        sa.Column("job_seq", sa.Integer(), nullable=False),
        sa.Column("time_us", sa.Integer(), nullable=False),
        sa.Column("from_state", sa.Integer(), nullable=False),
        sa.Column("to_state", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.CheckConstraint("actor IN ('owner', 'pilot', 'server', 'admin')", name=op.f("ck_event_actor")),
        sa.CheckConstraint(
            "(from_state = 0 AND to_state IN (1, 2)) "
            "OR (from_state = 1 AND to_state IN (2, 11)) "
            "OR (from_state = 2 AND to_state IN (3, 4, 11, 12)) "
            "OR (from_state = 3 AND to_state IN (4, 5, 11, 12)) "
            "OR (from_state = 4 AND to_state IN (3, 11, 12)) "
            "OR (from_state = 5 AND to_state IN (3, 4, 6, 10, 11)) "
            "OR (from_state = 6 AND to_state IN (3, 4, 7, 8, 10, 11)) "
            "OR (from_state = 7 AND to_state IN (3, 4, 8, 9, 10, 11)) "
            "OR (from_state = 8 AND to_state IN (3, 4, 9, 10, 11))",
            name=op.f("ck_event_move"),
        ),
        sa.ForeignKeyConstraint(["job_seq"], ["job.job_seq"], name=op.f("fk_event_job_seq")),
        sa.PrimaryKeyConstraint("event_seq", name=op.f("pk_event")),
    )
    op.create_index("ix_event_job", "event", ["job_seq", "event_seq"], unique=False)
    op.create_table(
        "job_key",
        sa.Column("job_seq", sa.Integer(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["job.job_seq"], name=op.f("fk_job_key_job_seq")),
        sa.PrimaryKeyConstraint("job_seq", name=op.f("pk_job_key")),
    )
    op.create_table(
        "job_spec",
        sa.Column("job_seq", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["job.job_seq"], name=op.f("fk_job_spec_job_seq")),
        sa.PrimaryKeyConstraint("job_seq", name=op.f("pk_job_spec")),
    )
    op.create_table(
        "lease",
        sa.Column("lease_id", sa.Text(), nullable=False),
        sa.Column("job_seq", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.Column("charged", sa.REAL(), nullable=False),
        sa.Column("start_us", sa.Integer(), nullable=False),
        sa.Column("expire_us", sa.Integer(), nullable=False),
        sa.Column("usage", sa.LargeBinary(), nullable=True),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("uid", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("end_us", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Integer(), nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("end_state", sa.Integer(), nullable=True),
        sa.CheckConstraint("(end_us IS NULL) = (end_state IS NULL)", name=op.f("ck_lease_ended")),
        sa.CheckConstraint("outcome IS NULL OR outcome IN (1, 2, 3, 4, 5, 6, 7, 8)", name=op.f("ck_lease_outcome")),
        sa.ForeignKeyConstraint(["job_seq"], ["job.job_seq"], name=op.f("fk_lease_job_seq")),
        sa.ForeignKeyConstraint(["pilot_id"], ["pilot.pilot_id"], name=op.f("fk_lease_pilot_id")),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_lease")),
        sa.UniqueConstraint("job_seq", "attempt", name=op.f("uq_lease_job_seq_attempt")),
    )
    op.create_index("ix_lease_expire", "lease", ["expire_us"], unique=False, sqlite_where=sa.text("end_us IS NULL"))
    op.create_index("ix_lease_pilot", "lease", ["pilot_id"], unique=False, sqlite_where=sa.text("end_us IS NULL"))
    op.create_index("uq_lease_live", "lease", ["job_seq"], unique=True, sqlite_where=sa.text("end_us IS NULL"))
