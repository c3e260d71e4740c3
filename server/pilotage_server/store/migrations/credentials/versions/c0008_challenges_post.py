"""Let go of the spent challenges: which were used, the process that made them knows."""

from alembic import op

revision = "c0008_challenges"
down_revision = "c0007_vopolicy"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the table."""
    op.drop_index("used_challenges_by_end", "used_challenges")
    op.drop_table("used_challenges")


def downgrade() -> None:
    """Refuse: there is no way back."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
