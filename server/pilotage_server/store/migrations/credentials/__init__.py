"""Revisions of the credentials database."""
