"""The keys in use: what each of them is for, and how all are exchanged under a server that runs."""

import asyncio

import structlog

from pilotage_server import keys as key_files
from pilotage_server.auth.sessions import Sessions
from pilotage_server.clock import Clock
from pilotage_server.config import Config
from pilotage_server.credentials.sealing import Sealer
from pilotage_server.credentials.service_keys import ServiceKeys
from pilotage_server.jobs.rewrapping import rewrap
from pilotage_server.jobs.wrapping import KeyWrap, key_id
from pilotage_server.store.database import Database
from pilotage_server.tokens import public_id

log = structlog.get_logger("pilotage.server")


class KeyRing:
    """Hold what signs, verifies, seals and wraps; its members stay the same when the keys behind them change.

    Raises CONFIG_INVALID for keys that cannot be used. `close` lets go of a PKCS#11 token.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._folder = config.server.state_dir / "keys"
        self._taking_up = asyncio.Lock()
        self._seen = key_files.seen(self._folder)
        keys = self._keys = self._load()
        self._services = ServiceKeys(config.pkcs11)
        try:
            self._sealing = self._services.all(keys)
        except BaseException:
            self._services.close()
            raise
        self.sealer = Sealer(self._sealing[0], self._sealing[1:])
        self.tokens = keys.token_keys()
        self.sessions = Sessions(keys.session, config.server.audience, keys.old_sessions)
        self.wrapping = KeyWrap(keys.wrap, [old.key for old in keys.old_wraps])

    def _load(self) -> key_files.Keys:
        return key_files.load(self._folder, service=self._config.pkcs11 is None)

    def close(self) -> None:
        """Let go of the token."""
        self._services.close()

    def ids(self) -> dict[str, str]:
        """Name the keys in use, for the audit."""
        return {
            "service": self._sealing[0].key_id.hex(),
            "signing": public_id(self._keys.token.public_key()),
            "session": public_id(self._keys.session.public_key()),
            "wrap": key_id(self._keys.wrap).hex(),
        }

    async def take_up(self) -> bool:
        """Use the keys that are in the folder now; tell whether they are others.

        Raises CONFIG_INVALID for keys that are unusable, and leaves all as it was.
        """
        async with self._taking_up:
            return await self._take_up()

    async def _take_up(self) -> bool:
        found = key_files.seen(self._folder)
        keys, sealing = self._keys, self._sealing
        if found != self._seen:
            keys = self._load()
            if key_files.retire_late(self._folder, self._keys, self._clock()):
                found, keys = key_files.seen(self._folder), self._load()
        if self._config.pkcs11 is not None or found != self._seen:
            sealing = await asyncio.to_thread(self._services.all, keys)
        if found == self._seen and [key.key_id for key in sealing] == [key.key_id for key in self._sealing]:
            return False
        self.sealer.replace(sealing[0], sealing[1:])
        self.tokens.replace(keys.token, keys.old_tokens)
        self.sessions.replace(keys.session, keys.old_sessions)
        self.wrapping.replace(keys.wrap, [old.key for old in keys.old_wraps])
        self._keys, self._seen, self._sealing = keys, found, sealing
        return True

    @property
    def has_old_wraps(self) -> bool:
        """Tell whether retrieval keys may be wrapped with a key that is not the present one."""
        return bool(self._keys.old_wraps)

    async def rewrap(self, database: Database) -> None:
        """Wrap every retrieval key with the present key, then destroy the keys before, which open nothing any more."""
        old = self._keys.old_wraps
        found = await rewrap(database, self.wrapping)
        # A key that was taken up meanwhile, or rotated away and not seen yet, is none of these.
        for wrap in old:
            key_files.destroy(self._folder / wrap.name)
        log.info("retrieval keys wrapped anew", count=found.done, lost=found.lost, old_keys=len(old))

    def forget_retired(self) -> None:
        """Destroy keys that signed nothing that is still valid; only right after a `take_up`."""
        key_files.forget_retired(self._folder, self._clock())
