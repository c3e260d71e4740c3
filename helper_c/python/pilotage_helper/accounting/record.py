"""One payload's use of the machine, and the lines of the audit file that say it."""

import enum
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

Text = Annotated[str, msgspec.Meta(max_length=8192)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Line(msgspec.Struct, frozen=True):
    """A line of the audit file, as far as accounting reads it; times are UTC, sizes bytes.

    Everything but the time and the event may be missing: a line that was too long for the log has lost fields.
    """

    time: Moment
    event: Text
    run_id: Text = ""
    caller: Text = ""
    job_id: Text = ""
    dn: Text = ""
    vo: Text = ""
    fqan: Text = ""
    account: Text = ""
    mode: Text = "switch"
    cpu_percent: Count = 0
    exit_code: Annotated[int, msgspec.Meta(ge=-1, le=255)] | None = None
    signal: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    wall_seconds: Seconds | None = None
    cpu_user_seconds: Seconds = 0.0
    cpu_system_seconds: Seconds = 0.0
    max_rss_bytes: Count = 0
    peak_memory_bytes: Count = 0
    reason: Text = ""

    def __post_init__(self) -> None:
        """Refuse a time from which no wall time can be taken away."""
        if self.time.year < 1970:
            raise ValueError("the time is before 1970")


class State(enum.Enum):
    """How far a run got."""

    ENDED = "ended"
    FAILED = "failed"
    """START is in the log, and then the payload could not be executed."""
    UNFINISHED = "unfinished"
    """No END: it runs, or its monitor died, or the END is in a file that was not read."""
    LOST = "lost"
    """No END, and a clean-up found the run dead."""


class Record(msgspec.Struct, frozen=True):
    """One payload. Seconds are seconds, memory is bytes, times are UTC.

    `exit_code` is None when a signal ended the payload or it never ran; `end` is None when there is no END.
    `memory_from` says what `peak_memory_bytes` is: the `group` (all processes at once) or the largest single `process`.
    """

    run_id: str
    job_id: str
    caller: str
    owner_dn: str
    fqan: str
    vo: str
    account: str
    mode: str
    state: State
    start: datetime
    end: datetime | None
    wall_seconds: float
    cpu_user_seconds: float
    cpu_system_seconds: float
    peak_memory_bytes: int
    memory_from: str
    exit_code: int | None
    signal: int
    reason: str
    cpu_percent: int


def finished(end: Line, start: Line | None) -> Record:
    """Make the record of a run from its END; its START gives only what END does not have.

    The start is reckoned back from the end by the wall time, which a clock that was set meanwhile does not touch. So
    it is the same whether or not the file with START is at hand.
    """
    whole = start or end
    wall = end.wall_seconds
    ran = wall is not None
    if wall is None:
        wall = max(0.0, (end.time - whole.time).total_seconds())
    return Record(
        run_id=end.run_id,
        job_id=end.job_id or whole.job_id,
        caller=end.caller or whole.caller,
        owner_dn=end.dn or whole.dn,
        fqan=end.fqan or whole.fqan,
        vo=end.vo or whole.vo,
        account=end.account or whole.account,
        mode=end.mode,
        state=State.ENDED if ran else State.FAILED,
        start=end.time - timedelta(seconds=wall),
        end=end.time,
        wall_seconds=wall if ran else 0.0,
        cpu_user_seconds=end.cpu_user_seconds,
        cpu_system_seconds=end.cpu_system_seconds,
        peak_memory_bytes=end.peak_memory_bytes or end.max_rss_bytes,
        memory_from="group" if end.peak_memory_bytes else "process" if end.max_rss_bytes else "",
        exit_code=None if end.exit_code is None or end.exit_code < 0 else end.exit_code,
        signal=end.signal,
        reason=end.reason,
        cpu_percent=end.cpu_percent or whole.cpu_percent,
    )


def unfinished(start: Line, *, lost: bool) -> Record:
    """Make the record of a run of which only the START is known; nothing is known of its use."""
    return Record(
        run_id=start.run_id,
        job_id=start.job_id,
        caller=start.caller,
        owner_dn=start.dn,
        fqan=start.fqan,
        vo=start.vo,
        account=start.account,
        mode=start.mode,
        state=State.LOST if lost else State.UNFINISHED,
        start=start.time,
        end=None,
        wall_seconds=0.0,
        cpu_user_seconds=0.0,
        cpu_system_seconds=0.0,
        peak_memory_bytes=0,
        memory_from="",
        exit_code=None,
        signal=0,
        reason="",
        cpu_percent=start.cpu_percent,
    )
