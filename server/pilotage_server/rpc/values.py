"""Plain values between messages and the domain: times, spans, pages."""

import base64
import binascii
import datetime

import msgspec
from google.protobuf import duration_pb2, timestamp_pb2

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.store.credentials import Place
from pilotage_server.store.times import microseconds

DEFAULT_PAGE = 50
LARGEST_PAGE = 1000
LONGEST_SPAN = datetime.timedelta(days=3650)


def timestamp(moment: datetime.datetime) -> timestamp_pb2.Timestamp:
    """Return a time as a message."""
    seconds, rest = divmod(microseconds(moment), 1_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=rest * 1000)


def moment(message: timestamp_pb2.Timestamp) -> datetime.datetime:
    """Return a message's time; raise INVALID_ARGUMENT for one that no calendar has."""
    try:
        return message.ToDatetime(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise refuse(Reason.INVALID_ARGUMENT, "A time in the request is out of range.") from error


def span(message: duration_pb2.Duration) -> datetime.timedelta:
    """Return a message's span of time; raise INVALID_ARGUMENT for one of many years."""
    if abs(message.seconds) > LONGEST_SPAN.total_seconds():
        raise refuse(Reason.INVALID_ARGUMENT, "A span of time in the request is too long.")
    return datetime.timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def page_size(wanted: int) -> int:
    """Return how many rows a page has."""
    if wanted < 0:
        raise refuse(Reason.INVALID_ARGUMENT, "page_size must not be negative.")
    return min(wanted or DEFAULT_PAGE, LARGEST_PAGE)


def page_token(place: Place) -> str:
    """Return the token of the page that begins after this place."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode()


def place(token: str) -> Place:
    """Return where a page begins; an empty token is the first page."""
    if not token:
        return Place()
    try:
        found = msgspec.msgpack.decode(base64.b64decode(token, altchars=b"-_", validate=True), type=Place)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise refuse(Reason.PAGE_TOKEN_INVALID) from error
    if not 0 <= found.microseconds < 2**63:
        raise refuse(Reason.PAGE_TOKEN_INVALID)
    return found
