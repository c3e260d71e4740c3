"""Real parts, put up for tests."""
