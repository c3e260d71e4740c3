"""Alembic environment of both databases; each kind has its own line of revisions."""
