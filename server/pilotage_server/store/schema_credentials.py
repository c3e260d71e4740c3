"""Tables of credentials.sqlite: sealed credentials, who got a proxy of them, and spent challenges.

Times are microseconds since 1970, UTC. No column of any table holds a key in the clear or a retrieval key.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

credentials = sa.Table(
    "credentials",
    metadata,
    sa.Column("credential_id", sa.Text, primary_key=True),
    sa.Column("owner_dn", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("vo", sa.Text, nullable=False),
    sa.Column("fqans", sa.Text, nullable=False, comment="JSON array"),
    sa.Column("key_kind", sa.Integer, nullable=False),
    sa.Column("limited", sa.Boolean, nullable=False),
    sa.Column("chain", sa.LargeBinary, nullable=False, comment="MessagePack array of DER, leaf first"),
    sa.Column("sealed", sa.LargeBinary, comment="the private key, sealed; NULL once erased"),
    sa.Column("create_time", sa.Integer, nullable=False),
    sa.Column("expire_time", sa.Integer, nullable=False),
    sa.Column("destroy_time", sa.Integer),
    sa.Index("credentials_of_owner", "owner_dn", "create_time", "credential_id"),
    sa.Index("credentials_by_end", "expire_time", sqlite_where=sa.text("sealed IS NOT NULL")),
)

revocations = sa.Table(
    "revocations",
    metadata,
    sa.Column("credential_id", sa.Text, sa.ForeignKey("credentials.credential_id"), primary_key=True),
    # When this service saw it, which is later than when the authority did it.
    sa.Column("revoke_time", sa.Integer, nullable=False),
)

issuances = sa.Table(
    "issuances",
    metadata,
    sa.Column("issuance_id", sa.Text, primary_key=True),
    sa.Column("credential_id", sa.Text, sa.ForeignKey("credentials.credential_id"), nullable=False),
    # One row per token that was honoured: this is what makes a token good once.
    sa.Column("jti", sa.Text, nullable=False, unique=True),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("lease_id", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("pilot_dn", sa.Text, nullable=False),
    sa.Column("serial", sa.Text, nullable=False),
    sa.Column("issue_time", sa.Integer, nullable=False),
    sa.Column("expire_time", sa.Integer, nullable=False),
    sa.Column("peer", sa.Text, nullable=False),
    sa.Index("issuances_of_credential", "credential_id", "issue_time", "issuance_id"),
    sa.Index("issuances_of_lease", "lease_id"),
)

used_challenges = sa.Table(
    "used_challenges",
    metadata,
    sa.Column("nonce", sa.LargeBinary, primary_key=True),
    sa.Column("expire_time", sa.Integer, nullable=False),
    sa.Index("used_challenges_by_end", "expire_time"),
)
