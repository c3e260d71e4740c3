"""Let a job's class name the VO of its credential, so that a match knows which pilots get it."""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "jobs_0003_vopolicy"
down_revision = "jobs_0002"
branch_labels = None
depends_on = None

QUEUE = (
    "INSERT INTO queue (class_id, owner_id, queued)"
    " SELECT class_id, owner_id, COUNT(*) FROM job WHERE state = 3 GROUP BY class_id, owner_id"
)


def upgrade() -> None:
    """Give jobs with VO attributes the class that a job submitted now would get, and count what waits anew."""
    connection = op.get_bind()
    kinds = connection.execute(
        sa.text("SELECT DISTINCT class_id, vo, requirements FROM job JOIN job_class USING (class_id) WHERE vo <> ''")
    ).fetchall()
    for before, vo, requirements in kinds:
        body = json.dumps(json.loads(requirements) | {"vos": [vo]}, separators=(",", ":"), ensure_ascii=False).encode()
        after = int.from_bytes(hashlib.sha256(body).digest()[:8]) >> 1
        connection.execute(
            sa.text("INSERT INTO job_class (class_id, requirements) VALUES (:after, :body) ON CONFLICT DO NOTHING"),
            {"after": after, "body": body},
        )
        connection.execute(
            sa.text("UPDATE job SET class_id = :after WHERE class_id = :before AND vo = :vo"),
            {"after": after, "before": before, "vo": vo},
        )
    op.execute("DELETE FROM queue")
    op.execute(QUEUE)
    op.execute("DELETE FROM job_class WHERE class_id NOT IN (SELECT class_id FROM job)")


def downgrade() -> None:
    """Refuse: there is no way back."""
    raise NotImplementedError("there is no way back; restore the backup made before the upgrade")
