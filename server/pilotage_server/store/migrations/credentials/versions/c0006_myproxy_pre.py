"""Make the tables of the MyProxy gateway: names of credentials, holders of user names, wrong guesses."""

import sqlalchemy as sa
from alembic import op

revision = "c0006_myproxy"
down_revision = "c0005_links"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "myproxy_entries",
        sa.Column("credential_id", sa.Text, sa.ForeignKey("credentials.credential_id"), primary_key=True),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("max_seconds", sa.Integer, nullable=False),
        sa.Column("retrievers", sa.Text),
        sa.Column("trusted_retrievers", sa.Text),
        sa.Column("renewers", sa.Text),
        sa.Column("key_retrievers", sa.Text),
        sa.Column("seal", sa.Integer, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("username", "name", name="myproxy_names"),
    )
    op.create_table(
        "myproxy_usernames",
        sa.Column("username", sa.Text, primary_key=True),
        sa.Column("owner_dn", sa.Text, nullable=False),
        sa.Column("claim_time", sa.Integer, nullable=False),
    )
    op.create_index("myproxy_usernames_of_owner", "myproxy_usernames", ["owner_dn"])
    op.create_table(
        "myproxy_guesses",
        sa.Column("target", sa.LargeBinary, primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("first_time", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Refuse: there is no way back."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
