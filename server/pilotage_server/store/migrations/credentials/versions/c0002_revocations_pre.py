"""Make the table of credentials found revoked, and let the proxies of a lease be found."""

import sqlalchemy as sa
from alembic import op

revision = "c0002"
down_revision = "c0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the index."""
    op.create_table(
        "revocations",
        sa.Column("credential_id", sa.Text, sa.ForeignKey("credentials.credential_id"), primary_key=True),
        sa.Column("revoke_time", sa.Integer, nullable=False),
    )
    op.create_index("issuances_of_lease", "issuances", ["lease_id"])


def downgrade() -> None:
    """Refuse: there is no way back."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
