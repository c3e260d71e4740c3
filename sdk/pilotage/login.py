"""Login: prove possession of a proxy's key once, then show a session token.

gRPC's TLS refuses proxies as client certificates, so the leaf's key signs a challenge of the server
instead. The token lives in memory only, is renewed before it ends, and leaves this process over
TLS alone: gRPC sends call credentials on no other kind of channel.
"""

import datetime
import threading
import time
import urllib.parse
from collections.abc import Callable

import grpc
import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.v1 import auth_pb2, auth_pb2_grpc
from pilotage.wire_errors import error_from
from pilotage.x509.files import LocalIdentity
from pilotage.x509.keys import PrivateKey

PURPOSE = b"pilotage login v1"
SCHEME = "pilotage"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
LOGIN_SECONDS = 20.0
LONGEST_SESSION_SECONDS = 3600.0
SHORTEST_CACHE_SECONDS = 20.0
REFRESH_AFTER = 0.8
"""The part of a session's life after which the next call logs in anew."""
LOST = (Reason.CHALLENGE_INVALID, Reason.CHALLENGE_EXPIRED, Reason.CHALLENGE_USED)
"""Refusals after which a login is begun anew, once: the server was started anew since it was begun, perhaps."""

IdentitySource = LocalIdentity | Callable[[], LocalIdentity]
"""An identity, or what loads the present one: a pilot's proxy is renewed on disk while it runs."""


def login_text(audience: str, challenge: bytes) -> bytes:
    """Return the bytes that a login signs."""
    return b"\0".join((PURPOSE, audience.encode(), challenge))


def sign_challenge(
    key: PrivateKey, audience: str, challenge: bytes
) -> tuple[bytes, "auth_pb2.SignatureAlgorithm.ValueType"]:
    """Sign a challenge with a leaf's key; return the signature and the number of its algorithm."""
    text = login_text(audience, challenge)
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
        return key.sign(text, pss, hashes.SHA256()), auth_pb2.SIGNATURE_ALGORITHM_RSA_PSS_SHA256
    return key.sign(text, ec.ECDSA(hashes.SHA256())), auth_pb2.SIGNATURE_ALGORITHM_ECDSA_SHA256


def check_audience(audience: str, host: str, expected: str | None = None) -> None:
    """Refuse to sign for an audience that is not the server called: `pilotage://<host>[:port]`."""
    if expected is not None:
        if audience == expected:
            return
        wanted = expected
    else:
        try:
            parts = urllib.parse.urlsplit(audience)
            named = parts.hostname if parts.scheme == SCHEME else None
        except ValueError:
            named = None
        if named is not None and _canonical(named) == _canonical(host):
            return
        wanted = f"{SCHEME}://{host}"
    raise refuse(
        Reason.AUDIENCE_MISMATCH,
        f"The server wants a login for {audience!r}, this client called {wanted!r}; "
        "call it by its own name, or set `audience` if both are the same service.",
    )


def _canonical(host: str) -> str:
    host = host.lower().rstrip(".")
    return "localhost" if host in LOOPBACK else host


class Session(msgspec.Struct, frozen=True):
    """A session token and until when (monotonic clock) it is used."""

    token: Secret
    use_until: float
    number: int


class Bearer:
    """An identity at one server, and the session that it has there.

    What is signed names its audience, and that must be the server this client meant to call: else any
    server it ever logs in to could pass another's challenge on and be this caller there. `audience`
    overrides the rule that the audience names `host`.
    """

    def __init__(
        self,
        identity: IdentitySource,
        *,
        host: str,
        audience: str | None = None,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._host = host
        self._audience = audience
        self._wall_clock = wall_clock
        self._clock = clock
        self._session: Session | None = None
        self._count = 0

    @property
    def present(self) -> Session | None:
        """Return the session that will do for now, if there is one."""
        return self._session if self._session is not None and self._clock() < self._session.use_until else None

    def forget(self, number: int) -> None:
        """Drop a session that the server refused, unless a newer one has taken its place."""
        if self._session is not None and self._session.number <= number:
            self._session = None

    def identity(self) -> LocalIdentity:
        """Return the identity as it is now."""
        return self._identity if isinstance(self._identity, LocalIdentity) else self._identity()

    def request(self, identity: LocalIdentity, begun: auth_pb2.BeginLoginResponse) -> auth_pb2.LoginRequest:
        """Sign a challenge; raise AUDIENCE_MISMATCH for one of another server than was called."""
        check_audience(begun.audience, self._host, self._audience)
        signature, algorithm = sign_challenge(identity.key, begun.audience, begun.challenge)
        return auth_pb2.LoginRequest(
            chain=identity.chain_der, challenge=begun.challenge, signature=signature, algorithm=algorithm
        )

    def keep(self, answer: auth_pb2.LoginResponse) -> Session:
        """Keep the session that a login gave."""
        self._count += 1
        self._session = Session(
            token=Secret(answer.session_token),
            use_until=self._clock() + self._cache_seconds(answer.expire_time.ToDatetime(datetime.UTC)),
            number=self._count,
        )
        return self._session

    def _cache_seconds(self, expire_time: datetime.datetime) -> float:
        """Return for how long to use a session.

        The server's clock is not ours, so what the difference says is kept within sane bounds; a
        session that ends earlier than we think is refused and replaced once.
        """
        left = expire_time.timestamp() - self._wall_clock()
        return max(SHORTEST_CACHE_SECONDS, min(left, LONGEST_SESSION_SECONDS) * REFRESH_AFTER)


class Login:
    """Log a bearer in over a channel whose calls show no session; safe for any number of threads."""

    def __init__(self, bearer: Bearer, plain: grpc.Channel) -> None:
        self._bearer = bearer
        self._stub = auth_pb2_grpc.AuthServiceStub(plain)
        self._lock = threading.Lock()
        self._number = 0

    @property
    def number(self) -> int:
        """Return the number of the newest session; 0 before the first."""
        return self._number

    def token(self) -> Secret:
        """Return a session token that will do for now, after a login if need be."""
        with self._lock:
            session = self._bearer.present or self._log_in()
            self._number = session.number
            return session.token

    def forget(self, number: int) -> None:
        """Drop a session that the server refused, unless a newer one has taken its place."""
        with self._lock:
            self._bearer.forget(number)

    def _log_in(self) -> Session:
        identity = self._bearer.identity()
        try:
            return self._bearer.keep(self._prove(identity))
        except PilotageError as error:
            if error.reason not in LOST:
                raise
            return self._bearer.keep(self._prove(identity))

    def _prove(self, identity: LocalIdentity) -> auth_pb2.LoginResponse:
        try:
            begun = self._stub.BeginLogin(auth_pb2.BeginLoginRequest(), timeout=LOGIN_SECONDS)
            return self._stub.Login(self._bearer.request(identity, begun), timeout=LOGIN_SECONDS)
        except grpc.RpcError as error:
            raise error_from(error) from None


class LoginPlugin(grpc.AuthMetadataPlugin):
    """Give gRPC the session token for each call; it calls this from threads of its own."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            token = self._login.token()
        except PilotageError as error:
            callback((), error)
        except Exception as error:
            # gRPC shows this text to the caller; a foreign error's own words could hold anything.
            callback((), refuse(Reason.INTERNAL, f"The login failed in this client ({type(error).__name__})."))
        else:
            callback((("authorization", f"Bearer {token.reveal_text()}"),), None)
