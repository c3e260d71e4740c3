"""Count the pilots that are registered by DN and key, so that there can be a limit."""

import sqlalchemy as sa
from alembic import op

revision = "jobs_0004_live_pilots"
down_revision = "jobs_0003_vopolicy"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take every pilot that has not said good-bye for one that is there; those that are not are found to be silent."""
    op.create_table(
        "live_pilot",
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["pilot_id"], ["pilot.pilot_id"], name=op.f("fk_live_pilot_pilot_id")),
        sa.PrimaryKeyConstraint("pilot_id", name=op.f("pk_live_pilot")),
    )
    op.create_table(
        "pilot_count",
        sa.Column("dn", sa.Text(), nullable=False),
        sa.Column("thumbprint", sa.LargeBinary(), nullable=False),
        sa.Column("live", sa.Integer(), nullable=False),
        sa.CheckConstraint("live > 0", name=op.f("ck_pilot_count_live")),
        sa.PrimaryKeyConstraint("dn", "thumbprint", name=op.f("pk_pilot_count")),
    )
    op.execute("INSERT INTO live_pilot (pilot_id) SELECT pilot_id FROM pilot WHERE end_us IS NULL")
    op.execute(
        "INSERT INTO pilot_count (dn, thumbprint, live)"
        " SELECT dn, thumbprint, COUNT(*) FROM pilot WHERE end_us IS NULL GROUP BY dn, thumbprint"
    )


def downgrade() -> None:
    """Refuse: there is no way back."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
