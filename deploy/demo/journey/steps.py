"""Tell the reader what happens, and how long it took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class DemoError(Exception):
    """The demo cannot go on, or did not show what it promises; the text says why and what to do."""


class Steps:
    """Numbered steps on standard output with the seconds each took."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._count = 0

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Announce a step, do it, and print its duration."""
        self._count += 1
        begun = time.monotonic()
        print(f"[{self._count}] {text}", flush=True)
        yield
        print(f"    done in {time.monotonic() - begun:.1f} s", flush=True)

    def total_seconds(self) -> float:
        """Return the seconds since the demo began."""
        return time.monotonic() - self._begun


def say(text: str) -> None:
    """Print one indented line."""
    print(f"    {text}", flush=True)


def complain(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr, flush=True)
