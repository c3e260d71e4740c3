"""The pilot's own proxy: who it is to the server. Never a payload's."""

import datetime
import os
from pathlib import Path

from pilotage.errors import PilotageError
from pilotage.x509.files import LocalIdentity, load_identity


class PilotIdentity:
    """The proxy as it was last loaded.

    Leases are bound to its key, so a new file on disk is taken up only when the pilot holds no lease.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = self._look()
        self._held = load_identity(path)

    def __call__(self) -> LocalIdentity:
        """Return the identity to log in with."""
        return self._held

    def seconds_left(self, now: datetime.datetime) -> float:
        """Return how long the shortest-lived certificate of the chain is still good."""
        return min((certificate.not_valid_after_utc - now).total_seconds() for certificate in self._held.chain)

    def reload(self) -> bool:
        """Take up a new file and return whether there was one; an unusable one is left alone."""
        stamp = self._look()
        if stamp in (self._stamp, None):
            return False
        self._stamp = stamp
        try:
            self._held = load_identity(self.path)
        except PilotageError:
            return False
        return True

    def _look(self) -> tuple[int, int] | None:
        try:
            facts = os.stat(self.path)
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_ino
