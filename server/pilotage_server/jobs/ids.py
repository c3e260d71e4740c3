"""Ids of jobs, leases, pilots and tokens.

They are UUIDs of version 7 (RFC 9562), so that neighbours in time are neighbours in an index.
"""

import os
import time
import uuid
from collections.abc import Callable

NewId = Callable[[], str]


def new_id() -> str:
    """Return 48 bits of milliseconds and 74 random bits, in the usual text form."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
