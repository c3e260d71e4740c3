"""Make the tables of bans, strikes and rates."""

import sqlalchemy as sa
from alembic import op

revision = "c0004_abuse"
down_revision = "c0003_audit"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "bans",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("by_dn", sa.Text, nullable=False),
        sa.Column("time", sa.Integer, nullable=False),
    )
    op.create_table(
        "strikes",
        sa.Column("strike_id", sa.Integer, primary_key=True),
        sa.Column("dn", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("time", sa.Integer, nullable=False),
    )
    op.create_index("strikes_of_dn", "strikes", ["dn", "time"])
    op.create_index("strikes_by_time", "strikes", ["time"])
    op.create_table(
        "rates",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("whole", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Refuse: who is banned stays banned."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
