"""One thing that was looked at."""

import enum
from collections.abc import Iterable

import msgspec


class State(enum.Enum):
    """How much of what the helper can do is there."""

    OK = "ok"
    WEAKER = "weaker"
    BROKEN = "broken"


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, what was found, and what that means when it is not as it should be."""

    subject: str
    state: State
    found: str
    means: str = ""


def ok(subject: str, found: str) -> Finding:
    """Say that a thing is as it should be."""
    return Finding(subject, State.OK, found)


def weaker(subject: str, found: str, means: str) -> Finding:
    """Say that payloads run, with less protection or fewer figures."""
    return Finding(subject, State.WEAKER, found, means)


def broken(subject: str, found: str, means: str) -> Finding:
    """Say that payloads, all or some, are refused."""
    return Finding(subject, State.BROKEN, found, means)


def worst(findings: Iterable[Finding]) -> State:
    """Return the worst state of all."""
    order = [State.OK, State.WEAKER, State.BROKEN]
    return max((finding.state for finding in findings), key=order.index, default=State.OK)
