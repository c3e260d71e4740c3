"""TLS 1.3 for both ports, with certificates that can be renewed while the server runs.

The version is set for the whole process, by `pilotage.tls13` in the first line of the program; the guard checks
it again on each call, for a program that forgot.
"""

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.trust import ca_bundle
from pilotage_server.config import ServerSection
from pilotage_server.keys import read_private

log = structlog.get_logger("pilotage.tls")


class Certificates:
    """Read the host certificate, its key and the trust anchors, and notice when they change."""

    def __init__(self, config: ServerSection) -> None:
        self._config = config
        self._stamp = self._look()
        self._present = self._read()

    def login_port(self) -> grpc.ServerCredentials:
        """Return credentials of a port that asks for no client certificate."""
        return grpc.dynamic_ssl_server_credentials(self._present, Fetch(self), require_client_authentication=False)

    def mutual_port(self) -> grpc.ServerCredentials:
        """Return credentials of a port that wants a client certificate of a known authority."""
        return grpc.dynamic_ssl_server_credentials(self._present, Fetch(self), require_client_authentication=True)

    def renew(self) -> None:
        """Read the files anew if they changed; what cannot be used leaves the present ones in force."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._present = self._read()
                self._stamp = stamp
                log.info("host certificate and trust anchors read anew")
        except (PilotageError, OSError) as error:
            log.error("changed certificates cannot be used; the old ones stay", why=str(error))

    @property
    def present(self) -> grpc.ServerCertificateConfiguration:
        """Return what handshakes use now."""
        return self._present

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        files = (self._config.host_cert, self._config.host_key, self._config.ca_dir)
        found = [file.stat() for file in files]
        return tuple((facts.st_ino, facts.st_mtime_ns, facts.st_size) for facts in found)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        key = read_private(self._config.host_key)
        try:
            chain = self._config.host_cert.read_bytes()
            leaf = x509.load_pem_x509_certificates(chain)[0]
            pair = load_pem_private_key(key.reveal(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            files = f"{self._config.host_cert} and {self._config.host_key}"
            raise refuse(Reason.CONFIG_INVALID, f"{files}: not a readable PEM certificate and key.") from error
        if leaf.public_key() != pair.public_key():
            raise refuse(Reason.CONFIG_INVALID, f"{self._config.host_key}: not the key of {self._config.host_cert}.")
        roots = ca_bundle(self._config.ca_dir)
        return grpc.ssl_server_certificate_configuration([(key.reveal(), chain)], root_certificates=roots)


class Fetch:
    """What gRPC asks before each handshake, from a thread of its own: a new configuration, or None for no change."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._given = certificates.present

    def __call__(self) -> grpc.ServerCertificateConfiguration:
        present = self._certificates.present
        if present is self._given:
            return None  # type: ignore[return-value]  # gRPC's own word for no change, which its stubs forget
        self._given = present
        return present
