"""A pool of ready key pairs, each with its certificate request.

An RSA-2048 key costs tens of milliseconds of CPU, and the first signature by a key twice what later ones do. So whoever
needs keys while somebody waits takes them from a `KeyPool` that threads refill in spare time (the generator releases
the GIL).
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable

import msgspec

from pilotage.x509.keys import KeyKind, PrivateKey, make_key
from pilotage.x509.requests import make_request


class KeyPair(msgspec.Struct, frozen=True):
    """A key pair that nobody else has, and the request (PKCS#10, DER) that asks for its proxy."""

    key: PrivateKey
    request: bytes


def make_pair(kind: KeyKind) -> KeyPair:
    """Make a key pair and its request; tens of milliseconds."""
    key = make_key(kind)
    return KeyPair(key, make_request(key))


class KeyPool:
    """Keep up to `size` fresh key pairs ready; none is ever given twice.

    An empty pool makes the pair in the thread that calls `take`, so that is bounded by the cost of one; an event loop
    calls `fetch`. `size` 0 starts no thread. Each thread calls `begin` first.
    """

    def __init__(
        self,
        kind: KeyKind = KeyKind.RSA_2048,
        size: int = 4,
        *,
        threads: int = 1,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.kind = kind
        self.size = size
        self._pairs: deque[KeyPair] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._begin = begin
        self._threads = [
            threading.Thread(target=self._refill, name=f"pilotage-keys-{number}", daemon=True)
            for number in range(threads if size > 0 else 0)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def ready(self) -> int:
        """Return how many pairs wait."""
        return len(self._pairs)

    def take_ready(self) -> KeyPair | None:
        """Return a pair that is ready, or None at once."""
        with self._changed:
            pair = self._pairs.popleft() if self._pairs else None
            self._changed.notify()
        return pair

    def take(self) -> KeyPair:
        """Return a pair that is ready, or make one."""
        return self.take_ready() or make_pair(self.kind)

    async def fetch(self) -> KeyPair:
        """Return a pair that is ready, or one that a thread makes meanwhile: `take` for an event loop."""
        pair = self.take_ready()
        return pair if pair is not None else await asyncio.to_thread(self.take)

    def close(self) -> None:
        """Stop the threads and drop the keys; `take` still works, without a pool."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._pairs.clear()

    def __enter__(self) -> "KeyPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refill(self) -> None:
        self._begin()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._pairs) < self.size)
                if self._closed:
                    return
            pair = make_pair(self.kind)
            with self._changed:
                if not self._closed and len(self._pairs) < self.size:
                    self._pairs.append(pair)
