"""Tables of credentials.sqlite: sealed credentials, who got a proxy of them, audit, bans, MyProxy.

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
    # The policy that held; a renewal never goes beyond the narrowest of its lease.
    sa.Column("max_seconds", sa.Integer, comment="NULL where it is not known any more"),
    sa.Column("limited", sa.Boolean, nullable=False),
    sa.Column("path_length", sa.Integer, comment="NULL for any number of further proxies"),
    sa.Index("issuances_of_credential", "credential_id", "issue_time", "issuance_id"),
    sa.Index("issuances_of_lease", "lease_id"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False, comment="1, 2, 3, ... without a gap"),
    sa.Column("time", sa.Integer, nullable=False),
    sa.Column("act", sa.Text, nullable=False),
    sa.Column("actor_dn", sa.Text, nullable=False, comment="empty for the service itself"),
    sa.Column("actor_key", sa.Text, nullable=False, comment="thumbprint, hex"),
    sa.Column("peer", sa.Text, nullable=False),
    sa.Column("owner_dn", sa.Text, nullable=False),
    sa.Column("credential_id", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("lease_id", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, comment="why it was refused; empty for what was done"),
    sa.Column("facts", sa.Text, nullable=False, comment="JSON object of strings"),
    sa.Column("previous", sa.LargeBinary, nullable=False, comment="digest of the row before; zeros for the first"),
    sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 over all of the row before this column"),
    sa.Index("audit_of_credential", "credential_id", "seq"),
    sa.Index("audit_of_actor", "actor_dn", "seq"),
)

# An honest program's mistake is stopped here; a dishonest one drops the triggers, and the chain tells.
AUDIT_TRIGGERS = (
    "CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END",
    "CREATE TRIGGER audit_keeps BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are never deleted'); END",
    "CREATE TRIGGER audit_grows BEFORE INSERT ON audit WHEN NEW.seq IS NOT (SELECT ifnull(max(seq), 0) + 1 FROM audit)"
    " OR NEW.previous IS NOT ifnull((SELECT digest FROM audit ORDER BY seq DESC LIMIT 1), zeroblob(32))"
    " BEGIN SELECT RAISE(ABORT, 'the audit grows at its end alone'); END",
)
for _trigger in AUDIT_TRIGGERS:
    sa.event.listen(audit, "after_create", sa.DDL(_trigger))  # type: ignore[no-untyped-call]

bans = sa.Table(
    "bans",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True, comment="DN or FQAN"),
    sa.Column("key", sa.Text, primary_key=True, comment="thumbprint, hex; empty for whatever key"),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("by_dn", sa.Text, nullable=False, comment="empty for the service itself"),
    sa.Column("time", sa.Integer, nullable=False),
)

strikes = sa.Table(
    "strikes",
    metadata,
    sa.Column("strike_id", sa.Integer, primary_key=True),
    sa.Column("dn", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("time", sa.Integer, nullable=False),
    sa.Index("strikes_of_dn", "dn", "time"),
    sa.Index("strikes_by_time", "time"),
)

links = sa.Table(
    "links",
    metadata,
    sa.Column("dn", sa.Text, primary_key=True),
    sa.Column("other_dn", sa.Text, primary_key=True),
    sa.Column("ask_time", sa.Integer, nullable=False),
    sa.Column("link_time", sa.Integer, comment="NULL until the other has asked as well"),
    sa.CheckConstraint("dn <> other_dn", name="two"),
    sa.Index("links_of_other", "other_dn"),
)

rates = sa.Table(
    "rates",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("whole", sa.Integer, nullable=False, comment="when the allowance is whole again"),
)

myproxy_entries = sa.Table(
    "myproxy_entries",
    metadata,
    sa.Column("credential_id", sa.Text, sa.ForeignKey("credentials.credential_id"), primary_key=True),
    sa.Column("username", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("max_seconds", sa.Integer, nullable=False, comment="of proxies; 0 leaves it to the server"),
    # A policy that is NULL was not given, and the server's default holds.
    sa.Column("retrievers", sa.Text),
    sa.Column("trusted_retrievers", sa.Text),
    sa.Column("renewers", sa.Text),
    sa.Column("key_retrievers", sa.Text),
    sa.Column("seal", sa.Integer, nullable=False, comment="what opens the key besides the service's own"),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("username", "name", name="myproxy_names"),
)

myproxy_usernames = sa.Table(
    "myproxy_usernames",
    metadata,
    sa.Column("username", sa.Text, primary_key=True),
    sa.Column("owner_dn", sa.Text, nullable=False),
    sa.Column("claim_time", sa.Integer, nullable=False),
    sa.Index("myproxy_usernames_of_owner", "owner_dn"),
)

myproxy_guesses = sa.Table(
    "myproxy_guesses",
    metadata,
    # A digest of user name and credential name, whether or not there is such a credential.
    sa.Column("target", sa.LargeBinary, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("first_time", sa.Integer, nullable=False),
)
