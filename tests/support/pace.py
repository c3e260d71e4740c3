"""How long something may take, on a machine whose speed and load nobody knows.

What is slow by its nature is slow each time; what was slow because the machine had something else to do is soon not.
So the bound stays what was promised, and one of several tries has to keep it.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TRIES = 6


def soon(measured: Callable[[], float], seconds: float) -> float:
    """Do something that tells how many seconds it took, until it took fewer than these; return them."""
    took: list[float] = []
    while len(took) < TRIES:
        took.append(measured())
        if took[-1] < seconds:
            return took[-1]
    raise AssertionError(f"every time it took {seconds} s or more: {took}")


def at_once(work: Callable[[], T], seconds: float = 1) -> T:
    """Do something until it took fewer than these seconds; return what it gave the last time."""
    made: list[T] = []

    def measured() -> float:
        begun = time.monotonic()
        made.append(work())
        return time.monotonic() - begun

    soon(measured, seconds)
    return made[-1]


WORK = "import asyncio, hashlib, json, ssl; hashlib.pbkdf2_hmac('sha256', b'', b'', 100_000)"
WORK_SECONDS = 1.0
"""What four times this work takes on a machine of two ordinary cores that has nothing else to do."""


def slowness() -> float:
    """How many times as long as on an ordinary machine things take here and now; 1 where they take less."""
    begun = time.monotonic()
    for _ in range(4):
        subprocess.run([sys.executable, "-I", "-c", WORK], check=True)
    return max(1.0, (time.monotonic() - begun) / WORK_SECONDS)
