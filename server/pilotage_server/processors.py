"""Which processors the server's threads run on (sched_setaffinity(2)).

A call goes through five threads, of which one at a time holds the interpreter's lock. On one processor they
find its caches full of what the one before them used, and none has to wake another processor.
"""

import os
from concurrent.futures import ThreadPoolExecutor

from pilotage.errors import refuse
from pilotage.reasons import Reason

ALL = frozenset(os.sched_getaffinity(0))
"""What this process was given when it began."""


def check(processor: int | None) -> None:
    """Raise CONFIG_INVALID for a processor that this process may not use."""
    if processor is not None and processor not in ALL:
        text = f"server.processor: {processor} is not one of those this process may use: {sorted(ALL)}."
        raise refuse(Reason.CONFIG_INVALID, text)


def serve_on(processor: int | None) -> None:
    """Keep the calling thread, and those that it starts from now on, on one processor; None leaves them where they are.

    Raises CONFIG_INVALID as `check` does.
    """
    check(processor)
    if processor is not None:
        os.sched_setaffinity(0, {processor})


def work_anywhere() -> None:
    """Let the calling thread use every processor again: for one that computes for long and answers no calls."""
    os.sched_setaffinity(0, ALL)


def heavy_threads(name: str, threads: int | None = None) -> ThreadPoolExecutor:
    """Return threads for such work."""
    return ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=work_anywhere)
