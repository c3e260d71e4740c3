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

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

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

    def __init__(self, key: Secret, audience: str) -> None:
        self._key = key
        self._audience = hashlib.sha256(audience.encode()).digest()

    def make(self, now: datetime.datetime) -> tuple[bytes, datetime.datetime]:
        """Return a fresh challenge and when it stops being accepted."""
        body = LAYOUT.pack(VERSION, os.urandom(16), _milliseconds(now), self._audience)
        return body + self._mac(body), now + LIFETIME

    def check(self, challenge: bytes, now: datetime.datetime) -> Challenge:
        """Return what a genuine and fresh challenge says.

        Raises CHALLENGE_INVALID, AUDIENCE_MISMATCH (a replica's for another name) or CHALLENGE_EXPIRED.
        Whether it was used before only the store can tell.
        """
        if len(challenge) != SIZE:
            raise refuse(Reason.CHALLENGE_INVALID)
        body, mac = challenge[: LAYOUT.size], challenge[LAYOUT.size :]
        if not hmac.compare_digest(mac, self._mac(body)):
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

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key.reveal(), PURPOSE + body, "sha256")


def _milliseconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp() * 1000)
