"""Channels to a server: TLS, login, deadlines, and errors in our own terms.

`open_channel` is all a caller of the synchronous stubs needs; `pilotage.aio.open_channel` is its
asyncio twin. Each call has a deadline; a session that the server refuses is replaced once.
"""

from pathlib import Path
from typing import NamedTuple

import grpc
from cryptography.hazmat.primitives import serialization

from pilotage.errors import refuse
from pilotage.interceptors import with_deadlines
from pilotage.login import Bearer, IdentitySource, Login
from pilotage.reasons import Reason
from pilotage.trust import ca_bundle
from pilotage.wire_errors import error_from
from pilotage.x509.files import LocalIdentity

__all__ = [
    "DEFAULT_PORT",
    "Target",
    "error_from",
    "open_channel",
    "open_mutual_channel",
    "parse_target",
]

DEFAULT_PORT = 7643
LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024

OPTIONS: list[tuple[str, int]] = [
    # Worker nodes often have http_proxy set, for a web cache that tunnels nothing.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
    # A server that comes back is found within seconds; gRPC's own default waits two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 5000),
]


class Target(NamedTuple):
    """Where a server is."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """Return `host:port` as gRPC takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(text: str) -> Target:
    """Read `host`, `host:port`, `[v6]:port` or `pilotage://host:port`; raise CONFIG_INVALID."""
    rest = text.strip().removeprefix("pilotage://").rstrip("/")
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port = tail.removeprefix(":")
    else:
        host, _, port = rest.partition(":")
    if not host or "/" in rest or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise refuse(Reason.CONFIG_INVALID, f"{text!r} is no server address; write host:port.")
    return Target(host, int(port) if port else DEFAULT_PORT)


def open_channel(
    target: str,
    *,
    ca_dir: Path,
    identity: IdentitySource | None,
    audience: str | None = None,
) -> grpc.Channel:
    """Open a channel whose every call shows a session of this identity; None calls without any."""
    place = parse_target(target)
    roots = grpc.ssl_channel_credentials(ca_bundle(ca_dir))
    if identity is None:
        return with_deadlines(grpc.secure_channel(place.address, roots, OPTIONS), None)
    channel = grpc.secure_channel(place.address, roots, OPTIONS)
    # The login goes over the channel itself: a second one would be a second TLS handshake.
    login = Login(Bearer(identity, host=place.host, audience=audience), channel)
    return with_deadlines(channel, login)


def open_mutual_channel(target: str, *, ca_dir: Path, identity: LocalIdentity) -> grpc.Channel:
    """Open a channel to a mutual-TLS port with an end-entity certificate; no login."""
    return with_deadlines(
        grpc.secure_channel(parse_target(target).address, mutual_credentials(ca_dir, identity), OPTIONS), None
    )


def mutual_credentials(ca_dir: Path, identity: LocalIdentity) -> grpc.ChannelCredentials:
    """Return TLS credentials that show an end-entity certificate."""
    pem = serialization.Encoding.PEM
    chain = b"".join(certificate.public_bytes(pem) for certificate in identity.chain)
    key = identity.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return grpc.ssl_channel_credentials(ca_bundle(ca_dir), key, chain)
