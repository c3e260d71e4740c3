"""Credential tokens: what lets one pilot retrieve one credential once, for one lease (DESIGN section 6).

JobService signs them (EdDSA JWT, RFC 7519 and 8037), CredentialService verifies them and keeps the
`jti` of every one it has honoured.
"""

import collections
import datetime
import hashlib
from collections.abc import Sequence

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

ISSUER = "pilotage-jobs"
AUDIENCE = "pilotage-credentials"
MAX_SECONDS = 300
SIGNED = 4096
"""How many tokens that nobody has shown yet are known again without a look at their signature."""


class CredentialClaims(msgspec.Struct, frozen=True):
    """The claims of one token. `pilot_thumbprint` is lower-case hex of a SHA-256."""

    jti: str
    lease_id: str
    job_id: str
    attempt: int
    owner_dn: str
    credential_id: str
    pilot_dn: str
    pilot_thumbprint: str


def public_id(key: Ed25519PublicKey) -> str:
    """Name a key, for people and the audit; hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


class RetiredKey(msgspec.Struct, frozen=True):
    """A key that signs no more; what it signed before it was retired is good to its end."""

    key: Ed25519PublicKey
    retire_time: datetime.datetime


class _Signed(msgspec.Struct, frozen=True):
    """What a token of ours says, kept until it is shown."""

    claims: CredentialClaims
    issued: int


class TokenKeys:
    """The key that signs and those that still verify. They may be replaced while the service runs.

    Where one process signs and verifies, a token that is shown for the first time is known by the SHA-256 of all its
    bytes; whatever differs in a bit, was signed elsewhere or comes again is verified by its signature.
    """

    def __init__(self, key: Ed25519PrivateKey, retired: Sequence[RetiredKey] = ()) -> None:
        self.private = key
        self._retired = tuple(retired)
        self._signed: collections.OrderedDict[bytes, _Signed] = collections.OrderedDict()

    def replace(self, key: Ed25519PrivateKey, retired: Sequence[RetiredKey]) -> None:
        """Sign with another key from now on."""
        self.private, self._retired = key, tuple(retired)
        self._signed.clear()

    @property
    def publics(self) -> list[Ed25519PublicKey]:
        """Return every key by which something that was signed here can be known, the present one first."""
        return [self.private.public_key(), *(one.key for one in self._retired)]

    def sign(self, claims: CredentialClaims, now: datetime.datetime) -> Secret:
        """Make the token of these claims with the present key."""
        token = sign(claims, self.private, now)
        self._signed[hashlib.sha256(token.reveal()).digest()] = _Signed(claims, int(now.timestamp()))
        while len(self._signed) > SIGNED:
            self._signed.popitem(last=False)
        return token

    def verify(self, token: str, now: datetime.datetime) -> CredentialClaims:
        """Return the claims of a token of the present key, or of one retired so lately that the token may still live.

        Raises TOKEN_INVALID or TOKEN_EXPIRED.
        """
        signed = self._signed.pop(hashlib.sha256(token.encode()).digest(), None)
        if signed is not None:
            check_times(signed.issued, signed.issued + MAX_SECONDS, now)
            return signed.claims
        try:
            return verify(token, self.private.public_key(), now)
        except PilotageError as error:
            if error.reason is not Reason.TOKEN_INVALID:
                raise
            for retired in self._retired:
                # Whoever has an old key can write any date into a token, but not turn our clock.
                if now < retired.retire_time + datetime.timedelta(seconds=MAX_SECONDS):
                    try:
                        return verify(token, retired.key, now)
                    except PilotageError as again:
                        if again.reason is not Reason.TOKEN_INVALID:
                            raise
            raise


def sign(claims: CredentialClaims, key: Ed25519PrivateKey, now: datetime.datetime) -> Secret:
    """Make the token of these claims, good for 300 seconds from `now`."""
    issued = int(now.timestamp())
    body = msgspec.to_builtins(claims) | {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": issued,
        "exp": issued + MAX_SECONDS,
    }
    return Secret(jwt.encode(body, key, algorithm="EdDSA"))


def verify(token: str, key: Ed25519PublicKey, now: datetime.datetime) -> CredentialClaims:
    """Return the claims of a genuine, fresh token.

    Raises TOKEN_INVALID (not ours, altered, claims missing, life longer than 300 s) or TOKEN_EXPIRED.
    The clock is the caller's, so the library's own time checks are off.
    """
    try:
        body = jwt.decode(
            token,
            key,
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "jti"]},
        )
        claims = msgspec.convert(body, CredentialClaims, strict=True)
        issued, expires = int(body["iat"]), int(body["exp"])
    except (jwt.PyJWTError, msgspec.ValidationError, TypeError, ValueError) as error:
        raise refuse(Reason.TOKEN_INVALID) from error
    check_times(issued, expires, now)
    return claims


def check_times(issued: int, expires: int, now: datetime.datetime) -> None:
    """Raise TOKEN_INVALID for a life that no token of ours has, TOKEN_EXPIRED for one that is over."""
    if not 0 < expires - issued <= MAX_SECONDS or issued > now.timestamp() + 60:
        raise refuse(Reason.TOKEN_INVALID)
    if now.timestamp() >= expires:
        raise refuse(Reason.TOKEN_EXPIRED)
