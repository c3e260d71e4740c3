"""Try again while the server is away: capped back-off with full jitter."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pilotage.errors import PilotageError
from pilotage.reasons import Reason

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

FIRST_SECONDS = 0.5
CAP_SECONDS = 20.0
PASSING = frozenset(
    {
        Reason.UNAVAILABLE,
        Reason.DEADLINE_EXCEEDED,
        Reason.STORE_UNAVAILABLE,
        Reason.RATE_LIMITED,
        Reason.DISK_FULL,
        Reason.KEY_TOKEN_UNAVAILABLE,
        Reason.CHALLENGE_EXPIRED,
        Reason.CHALLENGE_INVALID,
        Reason.CHALLENGE_USED,
        Reason.SESSION_EXPIRED,
        Reason.SESSION_INVALID,
        Reason.SANDBOX_DIGEST_MISMATCH,
        Reason.SANDBOX_TRUNCATED,
    }
)
"""What passes by itself: the server restarts, a session ended, bytes were lost on the way."""


class Delays:
    """Waiting times that double up to a cap; each is drawn between half of its value and the whole."""

    def __init__(
        self, first: float = FIRST_SECONDS, cap: float = CAP_SECONDS, draw: Callable[[], float] = random.random
    ) -> None:
        self._first, self._cap, self._draw = first, cap, draw
        self._next = first

    def __next__(self) -> float:
        seconds = self._next
        self._next = min(self._cap, seconds * 2)
        return seconds * (0.5 + self._draw() / 2)

    def reset(self) -> None:
        """Begin anew after a success."""
        self._next = self._first


async def retry(
    what: str, call: Callable[[], Awaitable[Answer]], *, for_seconds: float, passing: frozenset[Reason] = PASSING
) -> Answer:
    """Call until it answers, fails for a reason that does not pass, or the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + for_seconds
    pauses = Delays()
    while True:
        try:
            return await call()
        except PilotageError as error:
            pause = next(pauses)
            if error.reason not in passing or loop.time() + pause > end:
                raise
            log.warning("%s: %s; next try in %.1f s", what, error, pause)
        await asyncio.sleep(pause)
