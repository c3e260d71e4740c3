"""Results for people and for machines."""

import datetime
import enum
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from pilotage.cli.session import one_line

if TYPE_CHECKING:
    from pilotage.jobs import Credential, Job, JobEvent

Document = str | int | float | bool | None | list["Document"] | dict[str, "Document"]
MEBIBYTE = 1024**2


def document(value: object) -> Document:
    """Return a value in JSON's terms: states as lower-case words, times in ISO 8601."""
    if isinstance(value, msgspec.Struct):
        return {name: document(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, dict):
        return {str(key): document(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [document(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def emit_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(document(value), indent=2, ensure_ascii=False))


def emit_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, as wide as they need to be."""
    cells = [list(headers), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def emit_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values; what is empty is left out."""
    filled = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in filled), default=0)
    for name, value in filled:
        click.echo(f"{name.ljust(width)}  {one_line(value)}")


def when(moment: datetime.datetime | None) -> str:
    """Return a time for people, UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment is not None else ""


def span(seconds: float) -> str:
    """Return a number of seconds for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def job_rows(jobs: "Sequence[Job]") -> list[list[str]]:
    """Return the rows of `pilotage ls`."""
    return [
        [
            job.job_id,
            job.state.label,
            job.spec.name or " ".join(job.spec.command)[:40],
            f"{job.create_time:%m-%d %H:%M}",
            span(job.result.usage.wall_seconds) if job.result else "",
            _exit_code(job),
            job.result.worker_node if job.result else job.spec.site,
            job.reason,
        ]
        for job in jobs
    ]


JOB_HEADERS = ("JOB", "STATE", "NAME", "SUBMITTED", "WALL", "EXIT", "WHERE", "REASON")


def job_pairs(job: "Job") -> list[tuple[str, str]]:
    """Return what `pilotage show` tells."""
    pairs = [
        ("job", job.job_id),
        ("name", job.spec.name),
        ("state", job.state.label + (" (cancel requested)" if job.cancel_requested and not job.final else "")),
        ("why", ": ".join(filter(None, (job.reason, job.message)))),
        ("command", " ".join(job.spec.command)),
        ("owner", job.owner_dn),
        ("attribute", job.fqan or job.vo),
        ("wants", _wants(job)),
        ("submitted", when(job.create_time)),
        ("started", when(job.start_time)),
        ("ended", when(job.end_time)),
        ("attempt", str(job.attempt) if job.attempt else ""),
        ("credential", job.credential_id),
    ]
    if job.proxy is not None:
        proxy = job.proxy
        pairs += [
            ("proxy until", when(proxy.expire_time)),
            ("renewal", when(proxy.next_renewal_time) or "not planned: it lasts for the job, or cannot be renewed"),
            ("not renewed", f"{when(proxy.error_time)}, {proxy.reason}: {proxy.message}" if proxy.reason else ""),
        ]
    if job.result is not None:
        result, usage = job.result, job.result.usage
        pairs += [
            ("outcome", result.outcome.name.lower() + (f", signal {result.signal}" if result.signal else "")),
            ("exit code", _exit_code(job)),
            (
                "ran as",
                f"{result.account} (uid {result.uid}; the pilot's uid is {result.pilot_uid})" if result.account else "",
            ),
            ("ran on", result.worker_node),
            ("wall time", span(usage.wall_seconds)),
            ("CPU time", span(usage.cpu_user_seconds + usage.cpu_system_seconds)),
            ("memory", f"{usage.max_rss_bytes / MEBIBYTE:.0f} MiB" if usage.max_rss_bytes else ""),
            ("outputs", f"pilotage fetch {job.job_id}" if result.output_sandbox else ""),
            ("", ""),
        ]
        if result.reason and result.reason != job.reason:
            pairs.append(("last attempt", ": ".join(filter(None, (result.reason, result.message)))))
    return pairs


def _exit_code(job: "Job") -> str:
    """Return the payload's exit code, if it began."""
    return str(job.result.exit_code) if job.result is not None and job.start_time is not None else ""


def _wants(job: "Job") -> str:
    spec = job.spec
    parts = [f"{spec.cores or 1} core{'s' if spec.cores > 1 else ''}"]
    parts += [f"{spec.memory_bytes // MEBIBYTE} MiB memory"] if spec.memory_bytes else []
    parts += [f"{spec.disk_bytes // MEBIBYTE} MiB disk"] if spec.disk_bytes else []
    parts += [span(spec.wall_seconds)] if spec.wall_seconds else []
    parts += [f"at {spec.site}"] if spec.site else []
    parts += [", ".join(spec.tags)] if spec.tags else []
    parts += [", ".join(spec.fqans)] if spec.fqans else []
    return ", ".join(parts)


EVENT_HEADERS = ("TIME", "FROM", "TO", "ATTEMPT", "BY", "WHY")


def event_rows(events: "Sequence[JobEvent]") -> list[list[str]]:
    """Return the rows of `pilotage events`."""
    return [
        [
            when(event.event_time),
            event.from_state.label if event.from_state else "",
            event.to_state.label,
            str(event.attempt) if event.attempt else "",
            event.actor,
            ": ".join(filter(None, (event.reason, event.message))),
        ]
        for event in events
    ]


CREDENTIAL_HEADERS = ("CREDENTIAL", "NAME", "VO", "ATTRIBUTE", "ENDS", "STATE")


def credential_rows(credentials: "Sequence[Credential]", now: datetime.datetime) -> list[list[str]]:
    """Return the rows of `pilotage credential list`."""
    return [
        [
            credential.credential_id,
            credential.name,
            credential.vo,
            credential.fqans[0] if credential.fqans else "",
            when(credential.expire_time),
            credential_state(credential, now),
        ]
        for credential in credentials
    ]


def credential_state(credential: "Credential", now: datetime.datetime) -> str:
    """Return in a word whether a credential can be used."""
    if credential.destroy_time is not None:
        return "destroyed"
    if credential.revoke_time is not None:
        return "revoked"
    return "usable" if credential.expire_time > now else "expired"
