"""Records as CSV (RFC 4180) and as JSON lines."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from enum import Enum

import msgspec

from pilotage_helper.accounting.record import Record

COLUMNS = Record.__struct_fields__


def csv_lines(records: Iterable[Record]) -> Iterator[bytes]:
    """Yield the header and one line a record, ended by CRLF, in UTF-8; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for record in records:
        yield _taken(text)
        writer.writerow([_cell(getattr(record, name)) for name in COLUMNS])
    yield _taken(text)


def json_lines(records: Iterable[Record]) -> Iterator[bytes]:
    """Yield one JSON object a record, in UTF-8; what is not known is null."""
    encoder = msgspec.json.Encoder()
    for record in records:
        yield encoder.encode(record) + b"\n"


def _taken(text: io.StringIO) -> bytes:
    line = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return line


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:.6f}" if isinstance(value, float) else str(value)
