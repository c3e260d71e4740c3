"""Make the table of links between DNs of one person."""

import sqlalchemy as sa
from alembic import op

revision = "c0005_links"
down_revision = "c0004_abuse"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "links",
        sa.Column("dn", sa.Text, primary_key=True),
        sa.Column("other_dn", sa.Text, primary_key=True),
        sa.Column("ask_time", sa.Integer, nullable=False),
        sa.Column("link_time", sa.Integer),
        sa.CheckConstraint("dn <> other_dn", name="two"),
    )
    op.create_index("links_of_other", "links", ["other_dn"])


def downgrade() -> None:
    """Refuse: there is no way back."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
