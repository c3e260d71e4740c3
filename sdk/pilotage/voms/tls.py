"""A TLS connection to a VOMS server, with a proxy or certificate as the client's.

The server's certificate must come from the CA directory and name the host, or have exactly the
subject that the vomses file gives. One deadline bounds everything from the first packet on.
"""

import contextlib
import ipaddress
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography import x509

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.vomses import VomsServer
from pilotage.x509.files import LocalIdentity, proxy_pem
from pilotage.x509.names import slash_form

_CHUNK = 16 * 1024
# One attribute, two spellings in vomses files of different ages.
_SPELLINGS = {"/Email=": "/emailAddress=", "/E=": "/emailAddress=", "/USERID=": "/UID="}


class Deadline(msgspec.Struct, frozen=True):
    """A moment of the monotonic clock after which nothing is waited for."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    def earlier(self, seconds: float) -> "Deadline":
        """Return this deadline, or the one that many seconds from now if that comes first."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def left(self) -> float:
        """Return the seconds that are left, or raise TimeoutError."""
        remaining = self.at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return remaining


class Wire:
    """One connection: bytes out, bytes in, bounded in time and size."""

    def __init__(self, connection: ssl.SSLSocket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def send(self, content: bytes) -> None:
        """Send everything, or raise OSError."""
        self._connection.settimeout(self._deadline.left())
        try:
            self._connection.sendall(content)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            # What the peer said before it went, an alert perhaps, tells more than the broken pipe.
            self._connection.recv(1)
            raise

    def receive(self, limit: int, end: bytes = b"") -> bytes:
        """Return what comes until the peer closes, or until `end` has come; raise OSError.

        One byte more than `limit` is returned of an answer that is too long, for the caller to refuse.
        """
        content = bytearray()
        while len(content) <= limit:
            self._connection.settimeout(self._deadline.left())
            chunk = self._connection.recv(min(_CHUNK, limit + 1 - len(content)))
            if not chunk:
                break
            content += chunk
            if end and end in content[-len(chunk) - len(end) :]:
                break
        return bytes(content)


def client_context(identity: LocalIdentity | None, ca_dir: Path) -> ssl.SSLContext:
    """Make the TLS settings of a client that shows its chain, or nothing; TLS 1.2 is for old servers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The name is checked by `check_server`, which knows the vomses file's subject as well.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    source = str(ca_dir) if identity is None else identity.source
    try:
        context.load_verify_locations(capath=str(ca_dir))
        if identity is not None:
            with _private_file(proxy_pem(identity.chain, identity.key)) as path:
                context.load_cert_chain(path)
    except OSError as error:
        raise refuse(Reason.IDENTITY_FILE_UNUSABLE, f"{source} cannot be used for TLS ({_why(error)}).") from error
    return context


@contextlib.contextmanager
def connect(server: VomsServer, context: ssl.SSLContext, deadline: Deadline) -> Iterator[Wire]:
    """Connect to a VOMS server that proves to be the one meant."""
    where = f"{server.host}:{server.port}"
    try:
        plain = _dial(server, deadline)
    except OSError as error:
        raise refuse(Reason.VOMS_SERVER_UNREACHABLE, f"{where} cannot be reached ({_why(error)}).") from error
    with contextlib.ExitStack() as stack:
        stack.callback(plain.close)
        try:
            plain.settimeout(deadline.left())
            connection = context.wrap_socket(plain, server_hostname=server.host)
            stack.callback(connection.close)
        except ssl.SSLCertVerificationError as error:
            raise refuse(
                Reason.VOMS_SERVER_IDENTITY, f"The certificate of {where} is not trusted: {error.verify_message}."
            ) from error
        except OSError as error:
            raise refuse(Reason.VOMS_SERVER_UNREACHABLE, f"TLS with {where} failed ({_why(error)}).") from error
        check_server(server, connection.getpeercert(binary_form=True) or b"")
        yield Wire(connection, deadline)


def broken_off(server: VomsServer, error: OSError) -> PilotageError:
    """Return the error of a connection that failed after the handshake.

    In TLS 1.3 a server says only then that it does not accept the client's certificate.
    """
    where = f"{server.host}:{server.port}"
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return refuse(
            Reason.VOMS_SERVER_REFUSED, f"{where} does not accept the certificate or proxy shown to it ({_why(error)})."
        )
    return refuse(Reason.VOMS_SERVER_UNREACHABLE, f"The connection to {where} broke off ({_why(error)}).")


def check_server(server: VomsServer, der: bytes) -> None:
    """Raise VOMS_SERVER_IDENTITY unless a certificate names the server's host or has its subject."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject = slash_form(certificate.subject)
        if _canonical(subject) == _canonical(server.dn):
            return
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise _impostor(server, subject) from None
    except (ValueError, x509.DuplicateExtension) as error:
        raise refuse(
            Reason.VOMS_SERVER_IDENTITY, f"The certificate of {server.host}:{server.port} cannot be read."
        ) from error
    if not names_host(names, server.host):
        raise _impostor(server, subject)


def _dial(server: VomsServer, deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers; all of them share one deadline."""
    last: OSError = ConnectionError("the host has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(deadline.left())
            plain.connect(address)
        except OSError as error:
            plain.close()
            last = error
        else:
            return plain
    raise last


def names_host(names: x509.SubjectAlternativeName, host: str) -> bool:
    """Tell whether one of a certificate's names is a host's name or address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return any(_matches(pattern.lower(), host.lower()) for pattern in names.get_values_for_type(x509.DNSName))
    return address in names.get_values_for_type(x509.IPAddress)


def _matches(pattern: str, host: str) -> bool:
    """Compare as RFC 6125 section 6.4.3: a star stands for one whole label, the leftmost."""
    if pattern.startswith("*."):
        _, dot, rest = host.partition(".")
        return bool(dot) and "." in rest and rest == pattern[2:]
    return pattern == host


def _canonical(dn: str) -> str:
    for old, new in _SPELLINGS.items():
        dn = dn.replace(old, new)
    return dn


def _impostor(server: VomsServer, subject: str) -> PilotageError:
    return refuse(
        Reason.VOMS_SERVER_IDENTITY,
        f"{server.host}:{server.port} shows the certificate {subject}, which neither names that host"
        f" nor is {server.dn}.",
    )


@contextlib.contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """Give OpenSSL a path to bytes that must not lie on a disk; only Linux can."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("pilotage-voms", os.MFD_CLOEXEC), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(prefix="pilotage-voms-") as named:
            named.write(content)
            named.flush()
            yield named.name


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or type(error).__name__
