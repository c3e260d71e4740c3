"""What opens a sealed key: a pass phrase stretched by scrypt, or for unattended credentials nothing but a salt.

Either is bound to the credential's names and policy, and the sealer adds the service's own key to it. Pass phrases are
in memory only, for the length of a request.
"""

import asyncio
import collections
import hashlib
import hmac
import os

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.processors import heavy_threads
from pilotage_server.store.myproxy import Entry, Seal

SALT_BYTES = 32
KEY_BYTES = 32
# RFC 7914: 128 * N * r = 32 MiB for about a tenth of a second. A guess needs the service's key as well.
COST_N, COST_R, COST_P = 2**15, 8, 1
MEMORY_BYTES = 128 * COST_N * COST_R + 1024 * 1024
THREADS = 1
MOST_WAITING = 64
MOST_WAITING_OF_A_PEER = 8


def new_salt() -> bytes:
    """Return a salt for one credential."""
    return os.urandom(SALT_BYTES)


class Stretcher:
    """Turn pass phrases into keys, one after the other in a thread, so that memory and CPU stay bounded."""

    def __init__(self) -> None:
        self._threads = heavy_threads("scrypt", THREADS)
        self._waiting: collections.Counter[str] = collections.Counter()

    async def retrieval_key(self, entry: Entry, passphrase: Secret, host: str) -> Secret:
        """Return the retrieval key of a credential; RATE_LIMITED when too many wait for theirs."""
        if entry.seal is not Seal.PASSPHRASE:
            return _bind(entry.salt, entry)
        return _bind(await self._stretch(passphrase, entry.salt, host), entry)

    async def waste(self, passphrase: Secret, host: str) -> None:
        """Take as long as a real one takes."""
        await self._stretch(passphrase, bytes(SALT_BYTES), host)

    def close(self) -> None:
        """Let the thread end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _stretch(self, passphrase: Secret, salt: bytes, host: str) -> bytes:
        if self._waiting.total() >= MOST_WAITING or self._waiting[host] >= MOST_WAITING_OF_A_PEER:
            raise refuse(Reason.RATE_LIMITED)
        self._waiting[host] += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _scrypt, passphrase, salt)
        finally:
            self._waiting[host] -= 1
            if not self._waiting[host]:
                del self._waiting[host]


def _scrypt(passphrase: Secret, salt: bytes) -> bytes:
    return hashlib.scrypt(
        passphrase.reveal(), salt=salt, n=COST_N, r=COST_R, p=COST_P, maxmem=MEMORY_BYTES, dklen=KEY_BYTES
    )


def _bind(key: bytes, entry: Entry) -> Secret:
    return Secret(hmac.digest(key, entry.bound, "sha256"))
