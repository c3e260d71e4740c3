"""The one verifier, off the event loop.

The native module decides; this module gives it the site's trust, the server's clock and a thread
(it releases the interpreter lock), and bounds how many callers may wait for it. A chain that would be
verified with the answer it had is told on the loop: that is some stat(2) of files on local disks.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import structlog

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper import CacheState, ChainCache, Identity, VerifyOptions
from pilotage_server.clock import Clock

log = structlog.get_logger(__name__)

MAX_CERTIFICATES = 12
MAX_CHAIN_BYTES = 256 * 1024
THREADS = 2
MAX_WAITING = 256
MAX_NOTED = 4096


class Verifier:
    """Verify chains against one CA directory and one VOMS directory."""

    def __init__(self, ca_dir: Path, voms_dir: Path | None, clock: Clock) -> None:
        self._any = ChainCache(VerifyOptions(ca_dir=ca_dir, voms_dir=voms_dir))
        self._proxies = ChainCache(VerifyOptions(ca_dir=ca_dir, voms_dir=voms_dir, require_proxy=True))
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="verify")
        self._waiting = 0
        self._noted: set[tuple[bytes, str]] = set()

    async def chain(self, chain: Sequence[bytes], *, require_proxy: bool = False) -> Identity:
        """Return who a DER chain, leaf first, belongs to; raise the verifier's reason otherwise."""
        if len(chain) > MAX_CERTIFICATES or sum(map(len, chain)) > MAX_CHAIN_BYTES:
            raise refuse(Reason.PROXY_TOO_LARGE)
        if not chain or not all(chain):
            raise refuse(Reason.PROXY_EMPTY)
        known = self._find(chain, require_proxy)
        if known is not None:
            return known
        if self._waiting >= MAX_WAITING:
            raise refuse(Reason.RATE_LIMITED)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._verify, tuple(chain), require_proxy)
        finally:
            self._waiting -= 1

    def chain_now(self, chain: Sequence[bytes], require_proxy: bool = False) -> Identity:
        """Verify in the calling thread."""
        known = self._find(chain, require_proxy)
        return known if known is not None else self._verify(chain, require_proxy)

    def _find(self, chain: Sequence[bytes], require_proxy: bool) -> Identity | None:
        cache = self._proxies if require_proxy else self._any
        identity = cache.find(chain, self._clock())
        if identity is not None:
            self._tell(identity)
        return identity

    def _verify(self, chain: Sequence[bytes], require_proxy: bool) -> Identity:
        cache = self._proxies if require_proxy else self._any
        identity = cache.verify(chain, self._clock())
        self._tell(identity)
        return identity

    def _tell(self, identity: Identity) -> None:
        """Log what was left out of an identity, once for a certificate: stored chains are verified again and again."""
        if not identity.note:
            return
        told = (identity.eec_digest, identity.note)
        if told in self._noted:
            return
        if len(self._noted) >= MAX_NOTED:
            self._noted.clear()
        self._noted.add(told)
        log.info("attributes left out", dn=identity.dn, note=identity.note)

    @property
    def remembered(self) -> tuple[CacheState, CacheState]:
        """Tell what is remembered of chains of any kind, and of those that have to be proxies."""
        return self._any.state, self._proxies.state

    def close(self) -> None:
        """Let the threads end, and say how often the memory of verified chains was of use."""
        for what, state in zip(("any", "proxies"), self.remembered, strict=True):
            log.info("chains remembered", of=what, **msgspec.structs.asdict(state))
        self._threads.shutdown(wait=False, cancel_futures=True)
