"""Generated protocol stubs (made at build time, never committed)."""
