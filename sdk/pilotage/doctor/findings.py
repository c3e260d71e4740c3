"""What an examination finds."""

import datetime
import enum
from collections.abc import Iterator

import msgspec


class Level(enum.Enum):
    """How bad a finding is: an error stops jobs now, a warning will or may."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: of which kind, which one, how it is, and what to type when it is not well."""

    subject: str
    name: str
    level: Level
    text: str
    next: str = ""


Findings = Iterator[Finding]


def well(subject: str, name: object, text: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(subject, str(name), Level.OK, text)


def warning(subject: str, name: object, text: str, what_next: str) -> Finding:
    """Say that something will or may become a hindrance."""
    return Finding(subject, str(name), Level.WARNING, text, what_next)


def error(subject: str, name: object, text: str, what_next: str) -> Finding:
    """Say that with this no job will be run."""
    return Finding(subject, str(name), Level.ERROR, text, what_next)


def until(moment: datetime.datetime, now: datetime.datetime) -> str:
    """Return a moment for people, with how far it is away."""
    left = moment - now
    hours = abs(left) // datetime.timedelta(hours=1)
    minutes = abs(left) // datetime.timedelta(minutes=1) % 60
    span = f"{hours // 24} days" if hours >= 48 else f"{hours} h {minutes} min"
    return f"{moment:%Y-%m-%d %H:%M} UTC ({f'in {span}' if left > datetime.timedelta(0) else f'{span} ago'})"
