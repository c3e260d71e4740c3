"""Remember verified chains, for as long as verifying them again would give the same answer."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from pilotage_helper._native import ffi, lib
from pilotage_helper.verify import Identity, VerifyOptions, answer, c_options, seconds

ENTRIES = 4096
MAX_BYTES = 32 * 1024 * 1024


class CacheState(msgspec.Struct, frozen=True):
    """What a cache has done and holds.

    `kept` verifications were remembered; of them `changed` were forgotten because a file was another one, and `evicted`
    for want of room. `size` is bytes of memory: chains, trails, and what the identities take, roughly.
    """

    hits: int
    kept: int
    changed: int
    evicted: int
    entries: int
    size: int


class ChainCache:
    """Verified chains under one set of options; any thread may ask.

    A chain that is found would be verified with the same answer at this instant: the same bytes, and every file that
    the verification opened or missed still the same by stat(2), and no comparison of the time with another result.
    Nothing is remembered of refusals, of inputs with private keys, on file systems other than local ones, and for the
    first two seconds after a file changed. At most `entries` chains and `max_bytes` bytes are kept, those used last.
    """

    def __init__(self, options: VerifyOptions, entries: int = ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._options, self._strings = c_options(options)
        cache = lib.pil_cache_new(self._options, entries, max_bytes)
        if not cache:
            raise MemoryError("no memory for a cache of verified chains")
        self._cache = ffi.gc(cache, lib.pil_cache_free)
        self._entries = entries
        self._identities: dict[int, tuple[int, Identity]] = {}

    def find(self, chain: Sequence[bytes], at: datetime | None = None) -> Identity | None:
        """Return whose DER chain it is if that is remembered and still so; some microseconds, and no cryptography."""
        data = b"".join(chain)
        ticket = lib.pil_cache_find(self._cache, data, len(data), seconds(at))
        # The library never gives a ticket twice, so an identity under it is that of the very verification.
        known = self._identities.get(ticket % self._entries) if ticket else None
        return known[1] if known is not None and known[0] == ticket else None

    def verify(self, chain: Sequence[bytes], at: datetime | None = None) -> Identity:
        """Verify a DER chain anew, leaf first, and remember it; raise VerifyError with the reason."""
        data = b"".join(chain)
        who = ffi.new("struct pil_identity *")
        ticket = ffi.new("uint64_t *")
        number = lib.pil_cache_verify(self._cache, data, len(data), seconds(at), who, ticket)
        identity = answer(number, who)
        if ticket[0]:
            self._identities[ticket[0] % self._entries] = ticket[0], identity
        return identity

    @property
    def state(self) -> CacheState:
        """Count what happened, for operators and tests."""
        state = ffi.new("struct pil_cache_state *")
        lib.pil_cache_look(self._cache, state)
        return CacheState(state.hits, state.kept, state.changed, state.evicted, state.entries, state.bytes)
