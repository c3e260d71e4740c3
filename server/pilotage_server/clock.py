"""Time is passed in, so that tests can turn the clock."""

import datetime
from collections.abc import Callable

Clock = Callable[[], datetime.datetime]
"""Returns the present as an aware UTC datetime."""


def utc_now() -> datetime.datetime:
    """Return the present, aware, in UTC."""
    return datetime.datetime.now(datetime.UTC)
