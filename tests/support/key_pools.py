"""A pool of ready keys that is full, and nobody who could make another."""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from pilotage.x509 import pool as pools
from pilotage.x509.keys import KeyKind, PrivateKey, make_key
from pilotage.x509.pool import KeyPool


@contextlib.contextmanager
def no_more_keys(monkeypatch: pytest.MonkeyPatch, pool: KeyPool) -> Iterator[None]:
    """Wait until the pool is full; then whoever makes a key fails, and the pool's own threads wait for the end."""
    end = time.monotonic() + 120
    while pool.ready < pool.size:
        assert time.monotonic() < end
        time.sleep(0.01)
    over = threading.Event()

    def make(kind: KeyKind = KeyKind.RSA_2048) -> PrivateKey:
        if not threading.current_thread().name.startswith("pilotage-keys"):
            raise AssertionError("a key was made while somebody waited")
        over.wait(300)
        return make_key(kind)

    with monkeypatch.context() as patched:
        patched.setattr(pools, "make_key", make)
        try:
            yield
        finally:
            over.set()
