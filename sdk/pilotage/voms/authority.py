"""The development attribute authority: VOMS for a VO of toys, on loopback.

    python -m pilotage.voms.authority authority.toml

It speaks both protocols of voms-server on one port, well enough for the stock clients
(`voms-proxy-init` in C++ and in Java) and for ours. Revocation lists are not looked at, and it
serves only the machine it runs on: it is a tool for tests and demos.
"""

import contextlib
import datetime
import logging
import re
import socket
import socketserver
import ssl
import sys
import threading
from pathlib import Path
from types import TracebackType

from cryptography import x509

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.dialects import Answer, read_legacy, read_rest, write_legacy, write_rest
from pilotage.voms.issue import Authority, issue_attributes
from pilotage.voms.members import (
    AuthorityConfig,
    Denied,
    Remark,
    Wish,
    check_config,
    decide,
    listen_address,
    load_config,
)
from pilotage.x509.files import load_identity
from pilotage.x509.names import slash_form
from pilotage.x509.proxies import end_entity

LARGEST_REQUEST_BYTES = 64 * 1024
CLIENT_SECONDS = 15
_END = re.compile(rb"\r?\n\r?\n|</voms>")

log = logging.getLogger("pilotage.voms.authority")


class VomsAuthority:
    """Serve until closed: `with VomsAuthority(config) as authority: ... authority.port`."""

    def __init__(self, config: AuthorityConfig) -> None:
        self._config = check_config(config)
        self._identity = load_identity(config.certificate, config.key)
        _server_context(config)
        host, port = listen_address(config)
        self._server = _Server((host, port), self)
        self.port: int = self._server.server_address[1]
        self._authority = Authority(
            identity=self._identity,
            vo=config.vo,
            host=config.host,
            port=config.port or self.port,
            holder_form=config.holder,
            fqan_form=config.fqans,
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="voms-authority", daemon=True
        )

    def __enter__(self) -> "VomsAuthority":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve_forever(self) -> None:
        """Serve in the caller's thread until interrupted."""
        with self._server:
            self._server.serve_forever()

    def handle(self, plain: socket.socket) -> None:
        """Serve one connection; whatever goes wrong with it concerns nobody else."""
        plain.settimeout(CLIENT_SECONDS)
        try:
            # A context of its own: a client that resumed a session would show no chain.
            with _server_context(self._config).wrap_socket(plain, server_side=True) as connection:
                self._serve(connection)
        except (OSError, PilotageError) as error:
            log.info("connection failed: %s", error)

    def _serve(self, connection: ssl.SSLSocket) -> None:
        chain = verified_chain(connection)
        request = _receive(connection)
        try:
            person = end_entity(chain)
            rest = request.startswith(b"GET ")
            if ("rest" if rest else "legacy") not in self._config.protocols:
                return
            answer = self._answer(person, read_rest(request) if rest else read_legacy(request))
        except Denied as denied:
            answer = Answer(remarks=(denied.remark,))
        except PilotageError as error:
            log.warning("request refused: %s", error)
            answer = Answer(remarks=(Remark(1005, error.message, "BadRequest"),))
        connection.sendall(write_rest(answer) if request.startswith(b"GET ") else write_legacy(answer))

    def _answer(self, person: x509.Certificate, wish: Wish | None) -> Answer:
        dn = slash_form(person.subject)
        if wish is None:
            return Answer(listing=self._config.members.get(dn, ()))
        decision = decide(self._config, dn, wish)
        log.info("%s gets %s", dn, ", ".join(decision.fqans))
        certificate = issue_attributes(
            self._authority,
            person,
            decision.fqans,
            lifetime=datetime.timedelta(seconds=decision.lifetime_seconds),
            now=datetime.datetime.now(datetime.UTC),
            targets=wish.targets,
            generic=[(name, value, self._config.vo) for name, value in self._config.generic.items()],
        )
        return Answer(certificate=certificate, remarks=decision.remarks)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.authority.handle(self.request)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], authority: VomsAuthority) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.authority = authority
        super().__init__(address, _Handler)


def verified_chain(connection: ssl.SSLSocket) -> list[x509.Certificate]:
    """Return the peer's chain as OpenSSL verified it, leaf first.

    `ssl` made this public in Python 3.13; before, it is there under a private name.
    """
    public = getattr(connection, "get_verified_chain", None)
    if public is not None:
        return [x509.load_der_x509_certificate(der) for der in public()]
    # The private object has no type; what it gives is a list of certificates with `public_bytes`.
    held = connection._sslobj.get_verified_chain()  # type: ignore[attr-defined]
    if held is None:
        raise OSError("the client resumed a session")
    return [x509.load_pem_x509_certificate(certificate.public_bytes().encode()) for certificate in held]


def _server_context(config: AuthorityConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
    try:
        context.load_verify_locations(capath=str(config.ca_dir))
        context.load_cert_chain(config.certificate, config.key)
    except OSError as error:
        raise refuse(
            Reason.CONFIG_INVALID, f"The host certificate or CA directory cannot be used ({error})."
        ) from error
    return context


def _receive(connection: ssl.SSLSocket) -> bytes:
    """Return one request without the byte that older clients send before it."""
    content = b""
    while len(content) <= LARGEST_REQUEST_BYTES:
        chunk = connection.recv(4096)
        content += chunk
        request = content.removeprefix(b"0")
        if not chunk or _END.search(request):
            return request
    raise OSError("the request is too long")


def main(arguments: list[str]) -> int:
    """Run the authority of a configuration file until it is interrupted."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m pilotage.voms.authority CONFIG.toml\n")
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        authority = VomsAuthority(load_config(Path(arguments[0])))
    except PilotageError as error:
        sys.stderr.write(f"pilotage.voms.authority: {error}\n")
        return error.exit_code
    sys.stdout.write(f"serving on port {authority.port}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        authority.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
