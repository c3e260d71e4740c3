"""Times as the databases hold them: whole microseconds since 1970, UTC."""

import datetime

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)


def microseconds(moment: datetime.datetime) -> int:
    """Return an aware time as a number; exact, unlike `timestamp()`."""
    return (moment - EPOCH) // MICROSECOND


def from_microseconds(number: int) -> datetime.datetime:
    """Return a number as an aware time in UTC."""
    return EPOCH + number * MICROSECOND
