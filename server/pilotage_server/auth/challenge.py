"""Challenges for login: nothing is stored when one is made, and each is good for one login.

A challenge is version, nonce, time of issue, audience and a MAC over them, so that any replica
that has the key can check it. The nonce of a used one is written down for as long as the
challenge would be accepted; that write, in one transaction, is what makes two uses one.
"""

import datetime
import hashlib
import hmac
import os
import struct
from collections.abc import Sequence

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.keys import RetiredSecret

LIFETIME = datetime.timedelta(seconds=120)
AHEAD = datetime.timedelta(seconds=30)
"""How far the clock of another replica may run ahead of ours."""

VERSION = 1
LAYOUT = struct.Struct(">B16sQ32s")
MAC_BYTES = 32
SIZE = LAYOUT.size + MAC_BYTES
PURPOSE = b"pilotage challenge v1\0"


class Challenge(msgspec.Struct, frozen=True):
    """A challenge that this server, or a replica with the same key, made."""

    nonce: bytes
    expire_time: datetime.datetime


class Challenges:
    """Make and check challenges for one audience."""

    def __init__(self, key: Secret, audience: str, retired: Sequence[RetiredSecret] = ()) -> None:
        self._audience = hashlib.sha256(audience.encode()).digest()
        self.replace(key, retired)

    def replace(self, key: Secret, retired: Sequence[RetiredSecret]) -> None:
        """Make challenges with another key from now on; those of retired ones are good to their end."""
        self._key, self._retired = key, tuple(retired)

    def make(self, now: datetime.datetime) -> tuple[bytes, datetime.datetime]:
        """Return a fresh challenge and when it stops being accepted."""
        body = LAYOUT.pack(VERSION, os.urandom(16), _milliseconds(now), self._audience)
        return body + _mac(self._key, body), now + LIFETIME

    def check(self, challenge: bytes, now: datetime.datetime) -> Challenge:
        """Return what a genuine and fresh challenge says.

        Raises CHALLENGE_INVALID, AUDIENCE_MISMATCH (a replica's for another name) or CHALLENGE_EXPIRED.
        Whether it was used before only the store can tell.
        """
        if len(challenge) != SIZE:
            raise refuse(Reason.CHALLENGE_INVALID)
        body, mac = challenge[: LAYOUT.size], challenge[LAYOUT.size :]
        keys = [self._key, *(old.key for old in self._retired if now < old.retire_time + LIFETIME)]
        if not any(hmac.compare_digest(mac, _mac(key, body)) for key in keys):
            raise refuse(Reason.CHALLENGE_INVALID)
        version, nonce, issued, audience = LAYOUT.unpack(body)
        if version != VERSION:
            raise refuse(Reason.CHALLENGE_INVALID)
        if audience != self._audience:
            raise refuse(Reason.AUDIENCE_MISMATCH)
        made = datetime.datetime.fromtimestamp(issued / 1000, datetime.UTC)
        if made > now + AHEAD:
            raise refuse(Reason.CHALLENGE_INVALID)
        if now >= made + LIFETIME:
            raise refuse(Reason.CHALLENGE_EXPIRED)
        return Challenge(nonce, made + LIFETIME)


def _mac(key: Secret, body: bytes) -> bytes:
    return hmac.digest(key.reveal(), PURPOSE + body, "sha256")


def _milliseconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp() * 1000)
