"""APEL's individual job message, version 0.3: what a site sends to the accounting repository.

Fields, their order and their units are those of EGI's page "Grid Accounting: record and message formats" and of the
APEL server's own reader (apel/apel, `apel/db/records/job.py`). A value there is what follows the first colon, without
the blanks around it; a line ends where Python's `splitlines` ends one; `%%` anywhere ends a record; and the server's
columns take 255 characters. Whatever a certificate says, a record here is one record there.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from pilotage_helper.accounting.record import Record, State

HEADER = "APEL-individual-job-message: v0.3\n"
RECORDS_MAX = 1000
VALUE_MAX = 255
BENCHMARKS = {"si2k": "Si2k", "hepspec": "HEPSPEC", "hepscore23": "HEPscore23"}
INFRASTRUCTURE = "PILOTAGE-PILOT-FORK"


class Place(msgspec.Struct, frozen=True):
    """Where the payloads ran: what the audit file does not say."""

    site: str
    node: str
    benchmark: tuple[str, float]
    processors: int | None = None


class Message(msgspec.Struct, frozen=True):
    """One message, and the end of its last payload."""

    text: bytes
    last_end: int
    records: int


def benchmark(text: str) -> tuple[str, float]:
    """Read TYPE:VALUE, a type that APEL knows and a number above 0; raises ValueError."""
    kind, _, number = text.partition(":")
    if kind.lower() not in BENCHMARKS:
        raise ValueError(f"the type is none of {', '.join(BENCHMARKS.values())}")
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,3})?", number) or float(number) == 0:
        raise ValueError("the value is no number above 0 with at most 7 digits before the point and 3 after")
    return BENCHMARKS[kind.lower()], float(number)


def messages(records: Iterable[Record], place: Place) -> Iterator[Message]:
    """Yield messages of at most 1000 records each, of payloads that ran and ended; others are not APEL's."""
    batch: list[str] = []
    last = 0
    for record in records:
        if record.state is not State.ENDED or record.end is None:
            continue
        batch.append(_record(record, record.end, place))
        last = max(last, _epoch(record.end))
        if len(batch) == RECORDS_MAX:
            yield _message(batch, last)
            batch, last = [], 0
    if batch:
        yield _message(batch, last)


def safe(value: str) -> str:
    r"""Return a value as it can stand in a message.

    What is not printable ASCII becomes `\xHH` for each byte of its UTF-8, as OpenSSL writes names; so do blanks at
    the ends and a percent sign after another one. A longer value than the server keeps ends in a mark and a hash, so
    that two owners never become one.
    """
    text = "".join(c if " " <= c <= "~" else _escaped(c) for c in value)
    text = re.sub(r"^ +| +$", lambda blanks: r"\x20" * len(blanks[0]), text)
    text = re.sub(r"(?<=%)%", lambda _: r"\x25", text)
    if len(text) <= VALUE_MAX:
        return text
    mark = "~" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return text[: VALUE_MAX - len(mark)].rstrip(" ") + mark


def _escaped(char: str) -> str:
    return "".join(f"\\x{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())


def _record(record: Record, end: datetime, place: Place) -> str:
    kind, level = place.benchmark
    processors = place.processors or max(1, -(-record.cpu_percent // 100))
    fields = (
        ("Site", place.site),
        ("SubmitHost", f"{place.node}/pilotage-{record.caller}"),
        ("MachineName", place.node),
        ("Queue", record.caller),
        ("LocalJobId", record.run_id),
        ("LocalUserId", record.caller if record.mode == "log-only" else record.account),
        ("GlobalUserName", record.owner_dn),
        ("FQAN", record.fqan),
        ("WallDuration", round(record.wall_seconds)),
        ("CpuDuration", round(record.cpu_user_seconds + record.cpu_system_seconds)),
        ("Processors", processors),
        ("NodeCount", 1),
        ("StartTime", _epoch(record.start)),
        ("EndTime", _epoch(end)),
        ("InfrastructureDescription", INFRASTRUCTURE),
        ("InfrastructureType", "grid"),
        ("MemoryReal", -(-record.peak_memory_bytes // 1024)),
        ("ServiceLevelType", kind),
        ("ServiceLevel", f"{level:.3f}".rstrip("0").rstrip(".")),
    )
    return "".join(f"{name}: {safe(str(value))}\n" for name, value in fields if value != "") + "%%\n"


def _message(batch: list[str], last: int) -> Message:
    return Message((HEADER + "".join(batch)).encode("ascii"), last, len(batch))
