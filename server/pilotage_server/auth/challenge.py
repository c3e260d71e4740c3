"""Challenges for login: nothing is stored when one is made, and each is good for one login, here and nowhere else.

A challenge is a nonce, the time at which it was made, and a MAC over both by a key that this process drew at its
start, tells nobody and takes with it. So a challenge is good only where it was made, and the one memory that has to
know which were used is this process's own (docs/adr/0012). Time is that of a steady clock, which nobody can set.
"""

import datetime
import hashlib
import hmac
import secrets
import struct
import time
from collections.abc import Callable

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason

LIFETIME = datetime.timedelta(seconds=120)
LIFETIME_SECONDS = LIFETIME.total_seconds()
MOST_USED = 65_536
"""How many used challenges are remembered, at about 200 bytes: 500 logins a second, more than a processor can do."""

KEY_BYTES = 32
NONCE_BYTES = 16
LAYOUT = struct.Struct(f">{NONCE_BYTES}sd")
MAC_BYTES = 32
SIZE = LAYOUT.size + MAC_BYTES


class Challenge(msgspec.Struct, frozen=True):
    """A challenge that this process made, and until when (steady seconds) it is good."""

    nonce: bytes
    end: float


class Challenges:
    """Make, check and spend challenges, on one thread. A process that forks makes this afterwards."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        # A challenge tells the time since this one, so that nobody learns how long the machine has been up.
        self._began = steady()
        self._key = secrets.token_bytes(KEY_BYTES)
        self._used: dict[bytes, float] = {}
        """Nonces in the order of their use, and until when each is remembered: not before its challenge has ended."""

    def __len__(self) -> int:
        return len(self._used)

    def make(self) -> bytes:
        """Return a fresh challenge, good for `LIFETIME`."""
        body = LAYOUT.pack(secrets.token_bytes(NONCE_BYTES), self._now())
        return body + self._mac(body)

    def check(self, challenge: bytes) -> Challenge:
        """Return what a genuine and fresh challenge says; raise CHALLENGE_INVALID or CHALLENGE_EXPIRED otherwise.

        Whether it was used before, `spend` tells.
        """
        body, mac = challenge[: LAYOUT.size], challenge[LAYOUT.size :]
        if len(challenge) != SIZE or not hmac.compare_digest(mac, self._mac(body)):
            raise refuse(Reason.CHALLENGE_INVALID)
        nonce, made = LAYOUT.unpack(body)
        found = Challenge(nonce, made + LIFETIME_SECONDS)
        _check_end(found, self._now())
        return found

    def spend(self, challenge: Challenge) -> None:
        """Use a challenge up; raise CHALLENGE_EXPIRED, CHALLENGE_USED, or RATE_LIMITED when the memory is full.

        That it has not ended is asked again: it may have since it was checked, and its use be forgotten.
        """
        now = self._now()
        _check_end(challenge, now)
        if challenge.nonce in self._used:
            raise refuse(Reason.CHALLENGE_USED)
        self._forget(now)
        if len(self._used) >= MOST_USED:
            raise refuse(Reason.RATE_LIMITED, "Too many logins at once; wait two minutes and try again.")
        self._used[challenge.nonce] = now + LIFETIME_SECONDS

    def _forget(self, now: float) -> None:
        """Forget what was used so long ago that it has ended whenever it was made."""
        over = []
        for nonce, until in self._used.items():
            if until > now:
                break
            over.append(nonce)
        for nonce in over:
            del self._used[nonce]

    def _now(self) -> float:
        return self._steady() - self._began

    def _mac(self, body: bytes) -> bytes:
        # Keyed BLAKE2 (RFC 7693) is a MAC by itself, in a third of the time of an HMAC by OpenSSL.
        return hashlib.blake2b(body, key=self._key, digest_size=MAC_BYTES).digest()


def _check_end(challenge: Challenge, now: float) -> None:
    if now >= challenge.end:
        raise refuse(Reason.CHALLENGE_EXPIRED)
