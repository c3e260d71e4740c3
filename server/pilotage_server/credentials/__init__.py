"""Delegated credentials: sealed at rest, released one proxy at a time."""
