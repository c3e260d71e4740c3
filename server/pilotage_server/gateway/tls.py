"""The gateway's host certificate, read anew when it changes."""

import ssl
from pathlib import Path

import structlog

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server.gateway.wire import server_context
from pilotage_server.keys import read_private

log = structlog.get_logger("pilotage.tls")


class Context:
    """TLS settings for new connections."""

    def __init__(self, certificate: Path, key: Path, ca_dir: Path) -> None:
        self.ca_dir = ca_dir
        self._files = (certificate, key, ca_dir)
        self._stamp = self._look()
        self.present = self._make()

    def renew(self) -> None:
        """Read the files anew if they changed; what cannot be used leaves the present ones in force."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self.present = self._make()
                self._stamp = stamp
        except (OSError, PilotageError) as error:
            log.error("changed certificates cannot be used by the gateway; the old ones stay", why=str(error))

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        found = [file.stat() for file in self._files]
        return tuple((facts.st_ino, facts.st_mtime_ns, facts.st_size) for facts in found)

    def _make(self) -> ssl.SSLContext:
        certificate, key, ca_dir = self._files
        read_private(key)
        try:
            return server_context(certificate, key, ca_dir)
        except ssl.SSLError as error:
            raise refuse(
                Reason.CONFIG_INVALID, f"{certificate} and {key}: not a certificate and key that TLS takes."
            ) from error
