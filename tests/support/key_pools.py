"""A pool of ready keys that is full, and nobody who could make another."""

import contextlib
import threading
import time
from collections.abc import Iterator
from types import ModuleType

import pytest

from pilotage.x509 import keys
from pilotage.x509.keys import KeyKind, KeyPool, PrivateKey, make_key


@contextlib.contextmanager
def no_more_keys(monkeypatch: pytest.MonkeyPatch, pool: KeyPool, *modules: ModuleType) -> Iterator[None]:
    """Wait until the pool is full; then whoever makes a key fails, and the pool's own threads wait for the end.

    `modules` are those that have `make_key` by name.
    """
    end = time.monotonic() + 30
    while pool.ready < pool.size:
        assert time.monotonic() < end
        time.sleep(0.01)
    over = threading.Event()

    def make(kind: KeyKind = KeyKind.RSA_2048) -> PrivateKey:
        if not threading.current_thread().name.startswith("pilotage-keys"):
            raise AssertionError("a key was made while somebody waited")
        over.wait(30)
        return make_key(kind)

    with monkeypatch.context() as patched:
        for module in (keys, *modules):
            patched.setattr(module, "make_key", make)
        try:
            yield
        finally:
            over.set()
