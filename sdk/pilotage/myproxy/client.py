"""Fetch a proxy from a MyProxy server: by pass phrase, as a trusted retriever, or by an older proxy.

The key is made here and stays here; the server signs a proxy for it.
"""

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from pilotage.errors import PilotageError, refuse
from pilotage.myproxy.messages import (
    LARGEST_DER,
    LARGEST_TEXT,
    METHODS,
    MOST_CERTIFICATES,
    Answer,
    Command,
    Kind,
    Request,
    challenge_reply,
    der_length,
    format_request,
    parse_answer,
)
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.voms.tls import Deadline, client_context, names_host
from pilotage.x509.files import LocalIdentity
from pilotage.x509.keys import KeyKind, make_key
from pilotage.x509.proxies import same_key
from pilotage.x509.requests import make_request

DEFAULT_PORT = 7512
HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}", re.ASCII)
CHALLENGE = re.compile(r"[0-9A-Fa-f]{32,128}", re.ASCII)
"""Sixteen random bytes, or some more: whoever signs what a server sends must not sign anything it may want signed."""
SECONDS = 60.0
CHUNK = 16 * 1024
GSI_HELLO = b"0"
HASHES: dict[str, hashes.HashAlgorithm] = {
    "X509_certificate_SHA256": hashes.SHA256(),
    # Servers before 2022 know nothing else; they chose the 32 characters that are signed.
    "X509_certificate": hashes.SHA1(),  # noqa: S303
}


class MyProxyServer(msgspec.Struct, frozen=True):
    """Where a server is."""

    host: str
    port: int = DEFAULT_PORT

    @classmethod
    def parse(cls, text: str) -> "MyProxyServer":
        """Read HOST or HOST:PORT, with an IPv6 address in brackets; raise INVALID_ARGUMENT."""
        host, colon, port = text.rpartition(":")
        if not colon or text.endswith("]"):
            host, port = text, str(DEFAULT_PORT)
        host = host.removeprefix("[").removesuffix("]")
        if not HOST.fullmatch(host) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise refuse(Reason.INVALID_ARGUMENT, f"{text!r} is not HOST[:PORT].")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which credential, for how long, and what is shown for it.

    `identity` is who this client is (nobody, where a pass phrase is enough), `older` the proxy that is to be renewed.
    """

    username: str
    name: str = ""
    lifetime_seconds: int
    passphrase: Secret = Secret(b"")
    identity: LocalIdentity | None = None
    older: LocalIdentity | None = None


def fetch(server: MyProxyServer, ca_dir: Path, wanted: Wanted, *, seconds: float = SECONDS) -> LocalIdentity:
    """Return a proxy for a key that was made here.

    Raises MYPROXY_SERVER_UNREACHABLE, MYPROXY_SERVER_IDENTITY, MYPROXY_SERVER_REFUSED with the server's own words, or
    MYPROXY_ANSWER_INVALID. It has no side effect at the server.
    """
    key = make_key(KeyKind.RSA_2048)
    request = Request(
        command=Command.GET,
        username=wanted.username,
        name=wanted.name,
        passphrase=wanted.passphrase,
        lifetime_seconds=wanted.lifetime_seconds,
    )
    with connect(server, client_context(wanted.identity, ca_dir), Deadline.after(seconds)) as line:
        line.send(format_request(request))
        answer = line.read_answer()
        if answer.kind is Kind.CHALLENGE:
            line.send(_prove(answer, wanted.older))
            answer = line.read_answer()
        if answer.kind is not Kind.OK:
            raise _refused(server, answer)
        line.send(make_request(key))
        count = line.read(1)
        if count == b"V":
            raise _refused(server, line.read_answer(count))
        chain = _certificates(line, count[0])
        if (last := line.read_answer()).kind is not Kind.OK:
            raise _refused(server, last)
    if not same_key(chain[0], key.public_key()):
        raise refuse(Reason.MYPROXY_ANSWER_INVALID, f"{server} sent a proxy for another key.")
    return LocalIdentity(chain=chain, key=key, source=f"MyProxy server {server}")


class Line:
    """A connection to a server, bounded in time and in what is read."""

    def __init__(self, connection: ssl.SSLSocket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._buffer = bytearray()

    def send(self, content: bytes) -> None:
        """Send one message."""
        self._connection.settimeout(self._deadline.left())
        self._connection.sendall(content)

    def read(self, count: int) -> bytes:
        """Return so many bytes."""
        while len(self._buffer) < count:
            self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def read_answer(self, begun: bytes = b"") -> Answer:
        """Return a text answer, of which something may have been read."""
        while (end := self._buffer.find(b"\0")) < 0:
            if len(self._buffer) > LARGEST_TEXT:
                raise refuse(Reason.MYPROXY_ANSWER_INVALID)
            self._more()
        return parse_answer(begun + self.read(end + 1)[:-1])

    def read_der(self) -> bytes:
        """Return one DER value."""
        try:
            while (length := der_length(bytes(self._buffer[:4]))) is None:
                self._more()
        except PilotageError as error:
            raise refuse(Reason.MYPROXY_ANSWER_INVALID) from error
        if length > LARGEST_DER:
            raise refuse(Reason.MYPROXY_ANSWER_INVALID)
        return self.read(length)

    def _more(self) -> None:
        self._connection.settimeout(self._deadline.left())
        content = self._connection.recv(CHUNK)
        if not content:
            raise ConnectionError("the server closed the connection")
        self._buffer += content


@contextlib.contextmanager
def connect(server: MyProxyServer, context: ssl.SSLContext, deadline: Deadline) -> Iterator[Line]:
    """Connect to a server that proves to be the one meant; failures of the network have our reason."""
    try:
        with socket.create_connection((server.host, server.port), timeout=deadline.left()) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain, server_hostname=server.host) as connection:
                check_server(server, connection.getpeercert(binary_form=True) or b"")
                line = Line(connection, deadline)
                if connection.version() == "TLSv1.3":
                    line.read(1)
                # A TLS record of its own, for the real server takes each record for one message.
                line.send(GSI_HELLO)
                yield line
    except ssl.SSLCertVerificationError as error:
        raise refuse(
            Reason.MYPROXY_SERVER_IDENTITY, f"The certificate of {server} is not trusted: {error.verify_message}."
        ) from error
    except OSError as error:
        why = "it did not answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise refuse(Reason.MYPROXY_SERVER_UNREACHABLE, f"{server} cannot be reached, or broke off ({why}).") from error


def check_server(server: MyProxyServer, der: bytes) -> None:
    """Raise MYPROXY_SERVER_IDENTITY unless a certificate names the host.

    Names are those of the extension; only where it is absent, the common name: `HOST`, `host/HOST`, `myproxy/HOST`.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = names_host(names, server.host)
    except x509.ExtensionNotFound:
        common = [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        host = server.host.lower()
        named = any(name.lower() in (host, f"host/{host}", f"myproxy/{host}") for name in common)
    except (ValueError, x509.DuplicateExtension) as error:
        raise refuse(Reason.MYPROXY_SERVER_IDENTITY, f"The certificate of {server} cannot be read.") from error
    if not named:
        raise refuse(Reason.MYPROXY_SERVER_IDENTITY, f"The certificate that {server} shows does not name that host.")


def _prove(answer: Answer, older: LocalIdentity | None) -> bytes:
    """Return the answer to a challenge, signed with the older proxy."""
    offered = dict(answer.challenges)
    method = next((name for name in HASHES if name in offered), None)
    if older is None or method is None:
        raise refuse(
            Reason.MYPROXY_SERVER_REFUSED, "The server wants an older proxy of the owner to be shown (--renew FILE)."
        )
    if not isinstance(older.key, rsa.RSAPrivateKey):
        raise refuse(Reason.KEY_KIND_REFUSED, f"{older.source}: MyProxy takes a proof by an RSA key only.")
    if not CHALLENGE.fullmatch(offered[method]):
        raise refuse(
            Reason.MYPROXY_ANSWER_INVALID, "The server's challenge is not the random number that is signed here."
        )
    signature = older.key.sign(offered[method].encode(), padding.PKCS1v15(), HASHES[method])
    return challenge_reply(METHODS[method], signature, older.chain_der)


def _certificates(line: Line, count: int) -> tuple[x509.Certificate, ...]:
    if not 1 <= count <= MOST_CERTIFICATES:
        raise refuse(Reason.MYPROXY_ANSWER_INVALID)
    try:
        chain = [x509.load_der_x509_certificate(line.read_der()) for _ in range(count)]
        for certificate in chain:
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refuse(Reason.MYPROXY_ANSWER_INVALID) from error
    return tuple(one for number, one in enumerate(chain) if number == 0 or one.subject != one.issuer)


def _refused(server: MyProxyServer, answer: Answer) -> PilotageError:
    words = " ".join(text.strip() for text in answer.errors if text.strip())
    said = "".join(character if character.isprintable() else " " for character in words)[:500]
    return refuse(Reason.MYPROXY_SERVER_REFUSED, f"{server} says: {said or 'no, and not why'}")
