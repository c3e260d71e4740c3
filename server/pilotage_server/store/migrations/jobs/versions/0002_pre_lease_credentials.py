"""Keep what a lease has to do with its credential, and let events note what happens between moves."""

import sqlalchemy as sa
from alembic import op

revision = "jobs_0002"
down_revision = "jobs_0001"
branch_labels = None
depends_on = None

COLUMNS = "event_seq, job_seq, time_us, from_state, to_state, attempt, actor, reason, message"


def upgrade() -> None:
    """Make the table, and the events' anew: SQLite cannot change a check in place."""
    op.create_table(
        "lease_credential",
        sa.Column("lease_id", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("stop_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("issue_us", sa.Integer(), nullable=True),
        sa.Column("expire_us", sa.Integer(), nullable=True),
        sa.Column("issued", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("renew_us", sa.Integer(), nullable=True),
        sa.Column("error_us", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("message", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint("(expire_us IS NULL) = (issued = 0)", name=op.f("ck_lease_credential_issued")),
        sa.ForeignKeyConstraint(["lease_id"], ["lease.lease_id"], name=op.f("fk_lease_credential_lease_id")),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_lease_credential")),
    )
    op.create_index("ix_lease_credential_credential", "lease_credential", ["credential_id"], unique=False)
    op.execute(
        "INSERT INTO lease_credential (lease_id, credential_id)"
        " SELECT lease.lease_id, credential_id FROM lease JOIN job USING (job_seq)"
    )
    op.create_index("ix_job_held", "job", ["owner_id", "job_seq"], unique=False, sqlite_where=sa.text("state = 4"))
    op.create_index(
        "ix_job_credential",
        "job",
        ["credential_id", "owner_id", "state"],
        unique=False,
        sqlite_where=sa.text("end_us IS NULL"),
    )
    op.drop_index("ix_event_job", table_name="event")
    op.rename_table("event", "event_before")
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
            "OR (from_state = 8 AND to_state IN (3, 4, 9, 10, 11)) "
            "OR (from_state = to_state AND reason <> '')",
            name=op.f("ck_event_move"),
        ),
        sa.ForeignKeyConstraint(["job_seq"], ["job.job_seq"], name=op.f("fk_event_job_seq")),
        sa.PrimaryKeyConstraint("event_seq", name=op.f("pk_event")),
    )
    op.execute(f"INSERT INTO event ({COLUMNS}) SELECT {COLUMNS} FROM event_before")  # noqa: S608
    op.drop_table("event_before")
    op.create_index("ix_event_job", "event", ["job_seq", "event_seq"], unique=False)


def downgrade() -> None:
    """Refuse: there is no way back."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
