"""Sizes, times and variables as people write them on a command line."""

import re
from collections.abc import Callable
from typing import TypeVar

import click

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE | re.ASCII)
FACTORS = {"": 1024**2, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.IGNORECASE | re.ASCII)
SECONDS = {"": 60, "s": 1, "m": 60, "h": 3600, "d": 86400}
CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", re.ASCII)

MOST_HOURS = 10 * 366 * 24
"""No certificate of a person lives so long."""

Number = TypeVar("Number", int, float)


def parse_size(text: str) -> int:
    """Return bytes for `4G`, `500M`, or a bare number of megabytes as batch systems take it."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; write 4G or 500M")
    return int(float(match[1]) * FACTORS[match[2].lower()])


def parse_span(text: str) -> float:
    """Return seconds for `90s`, `30m`, `2h`, `1d`, `H:MM:SS`, `D-HH:MM`, or a bare number of minutes."""
    text = text.strip()
    if match := SPAN.fullmatch(text):
        return float(match[1]) * SECONDS[match[2].lower()]
    if match := CLOCK.fullmatch(text):
        days, first, second, third = (int(part or 0) for part in match.groups())
        # Slurm reads 1:30 as minutes and seconds, but 1-01:30 as hours and minutes.
        hours, minutes, seconds = (first, second, third) if match[4] or match[1] else (0, first, second)
        return days * 86400.0 + hours * 3600 + minutes * 60 + seconds
    raise ValueError(f"{text!r} is no time; write 90s, 30m, 2h or 1:30:00")


def parse_hours(text: str) -> float:
    """Return a number of hours that a life can have."""
    number = float(text)
    if not 0 < number <= MOST_HOURS:
        raise ValueError(f"{text!r} is no number of hours above 0")
    return number


def size(text: str) -> int:
    """Read an option that is a size."""
    return _told(parse_size, text)


def span(text: str) -> float:
    """Read an option that is a time span; a bare number means minutes."""
    return _told(parse_span, text)


def timeout(text: str) -> float:
    """Read an option that is a time span; a bare number means seconds, as in timeout(1)."""
    return span(f"{text}s" if text.replace(".", "", 1).isdigit() else text)


def hours(text: str) -> float:
    """Read an option that is a number of hours."""
    return _told(parse_hours, text)


def variable(text: str) -> tuple[str, str]:
    """Read an option of the form NAME=VALUE."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value


def _told(parse: Callable[[str], Number], text: str) -> Number:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
