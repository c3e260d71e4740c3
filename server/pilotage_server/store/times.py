"""Times as the databases hold them: whole microseconds since 1970, UTC."""

import datetime

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)


def to_us(moment: datetime.datetime) -> int:
    """Return an aware time as a number; exact, unlike `timestamp()`."""
    return (moment - EPOCH) // MICROSECOND


def from_us(number: int) -> datetime.datetime:
    """Return a number as an aware time in UTC."""
    return EPOCH + number * MICROSECOND


def from_us_or_none(number: int | None) -> datetime.datetime | None:
    """Return a number as an aware time in UTC, or nothing for nothing."""
    return None if number is None else from_us(number)
