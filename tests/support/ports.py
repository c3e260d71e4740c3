"""Ports that a program is to be given by number, before it binds them or after it has given them up."""

import os
import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Return a port of loopback that nobody has now.

    It is not one of those that the kernel gives to connections: one of these may be gone before it is used, and whoever
    knocks at such a port while nobody listens there may be given it as their own, and be connected to themselves.
    """
    first, last = (int(word) for word in RANGE.read_text().split())
    outside = [port for port in range(10_000, 65_000) if not first <= port <= last]
    # Of this process, for `random` may be seeded by what ran before.
    chance = random.Random(f"{os.getpid()} {os.urandom(8).hex()}")
    for _ in range(1000):
        port = chance.choice(outside or range(first, last))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("no port of loopback is free")
