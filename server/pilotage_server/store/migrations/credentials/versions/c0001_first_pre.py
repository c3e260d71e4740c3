"""Make the tables of credentials, issuances and spent challenges."""

import sqlalchemy as sa
from alembic import op

revision = "c0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "credentials",
        sa.Column("credential_id", sa.Text, primary_key=True),
        sa.Column("owner_dn", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("vo", sa.Text, nullable=False),
        sa.Column("fqans", sa.Text, nullable=False),
        sa.Column("key_kind", sa.Integer, nullable=False),
        sa.Column("limited", sa.Boolean, nullable=False),
        sa.Column("chain", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("create_time", sa.Integer, nullable=False),
        sa.Column("expire_time", sa.Integer, nullable=False),
        sa.Column("destroy_time", sa.Integer),
    )
    op.create_index("credentials_of_owner", "credentials", ["owner_dn", "create_time", "credential_id"])
    op.create_index("credentials_by_end", "credentials", ["expire_time"], sqlite_where=sa.text("sealed IS NOT NULL"))
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
    )
    op.create_index("issuances_of_credential", "issuances", ["credential_id", "issue_time", "issuance_id"])
    op.create_table(
        "used_challenges",
        sa.Column("nonce", sa.LargeBinary, primary_key=True),
        sa.Column("expire_time", sa.Integer, nullable=False),
    )
    op.create_index("used_challenges_by_end", "used_challenges", ["expire_time"])


def downgrade() -> None:
    """Refuse: a step back would forget which tokens and challenges were spent."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
