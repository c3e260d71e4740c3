"""Make the audit chain: a table that only grows, at its end."""

import sqlalchemy as sa
from alembic import op

revision = "c0003_audit"
down_revision = "c0002"
branch_labels = None
depends_on = None

NAMES = ("act", "actor_dn", "actor_key", "peer", "owner_dn", "credential_id", "job_id", "lease_id", "reason", "facts")
TRIGGERS = (
    "CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END",
    "CREATE TRIGGER audit_keeps BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are never deleted'); END",
    "CREATE TRIGGER audit_grows BEFORE INSERT ON audit WHEN NEW.seq IS NOT (SELECT ifnull(max(seq), 0) + 1 FROM audit)"
    " OR NEW.previous IS NOT ifnull((SELECT digest FROM audit ORDER BY seq DESC LIMIT 1), zeroblob(32))"
    " BEGIN SELECT RAISE(ABORT, 'the audit grows at its end alone'); END",
)


def upgrade() -> None:
    """Make the table and what keeps it as it is."""
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in NAMES),
        sa.Column("previous", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
    )
    op.create_index("audit_of_credential", "audit", ["credential_id", "seq"])
    op.create_index("audit_of_actor", "audit", ["actor_dn", "seq"])
    for trigger in TRIGGERS:
        op.execute(trigger)


def downgrade() -> None:
    """Refuse: the record of what was done is not thrown away."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
