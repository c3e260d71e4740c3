"""Keep with each proxy the policy under which it was made."""

import sqlalchemy as sa
from alembic import op

revision = "c0007_vopolicy"
down_revision = "c0006_myproxy"
branch_labels = None
depends_on = None

COLUMNS = "issuance_id, credential_id, jti, job_id, lease_id, attempt, pilot_dn, serial, issue_time, expire_time, peer"


def upgrade() -> None:
    """Make the table anew: what SQLite adds to one stands behind its constraints."""
    op.drop_index("issuances_of_credential", "issuances")
    op.drop_index("issuances_of_lease", "issuances")
    op.rename_table("issuances", "issuances_before")
    op.create_table(
        "issuances",
        sa.Column("issuance_id", sa.Text, primary_key=True),
        sa.Column("credential_id", sa.Text, sa.ForeignKey("credentials.credential_id"), nullable=False),
        sa.Column("jti", sa.Text, nullable=False, unique=True),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("lease_id", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("pilot_dn", sa.Text, nullable=False),
        sa.Column("serial", sa.Text, nullable=False),
        sa.Column("issue_time", sa.Integer, nullable=False),
        sa.Column("expire_time", sa.Integer, nullable=False),
        sa.Column("peer", sa.Text, nullable=False),
        sa.Column("max_seconds", sa.Integer),
        sa.Column("limited", sa.Boolean, nullable=False),
        sa.Column("path_length", sa.Integer),
    )
    op.execute(f"INSERT INTO issuances ({COLUMNS}, limited) SELECT {COLUMNS}, 0 FROM issuances_before")  # noqa: S608
    op.drop_table("issuances_before")
    op.create_index("issuances_of_credential", "issuances", ["credential_id", "issue_time", "issuance_id"])
    op.create_index("issuances_of_lease", "issuances", ["lease_id"])


def downgrade() -> None:
    """Refuse: there is no way back."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
