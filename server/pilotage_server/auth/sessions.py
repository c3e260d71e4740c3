"""Session tokens: what a login gives, so that the chain is verified once an hour and not at each call.

EdDSA JWTs (RFC 7519 and 8037), never longer than an hour and never longer than what they were made from.
"""

import collections
import contextlib
import datetime
import hashlib
from collections.abc import Sequence

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.principal import Principal, Proof
from pilotage_server.tokens import RetiredKey

ISSUER = "pilotage-auth"
LIFETIME = datetime.timedelta(hours=1)
AHEAD_SECONDS = 60
CACHE_SIZE = 4096


class SessionClaims(msgspec.Struct, frozen=True):
    """What a session token says of its bearer. `thumbprint` is lower-case hex."""

    dn: str
    vo: str
    fqans: tuple[str, ...]
    limited: bool
    thumbprint: str
    iat: int
    exp: int


class Sessions:
    """Sign session tokens and verify them."""

    def __init__(self, key: Ed25519PrivateKey, audience: str, retired: Sequence[RetiredKey] = ()) -> None:
        self._audience = audience
        self._seen: collections.OrderedDict[bytes, Principal] = collections.OrderedDict()
        self.replace(key, retired)

    def replace(self, key: Ed25519PrivateKey, retired: Sequence[RetiredKey]) -> None:
        """Sign with another key from now on; a key that is neither this one nor retired verifies nothing any more."""
        self._key = key
        self._public = key.public_key()
        self._retired = tuple(retired)
        self._seen.clear()

    def open(self, principal: Principal, now: datetime.datetime) -> tuple[Secret, datetime.datetime]:
        """Return a token for this principal and its end: an hour from now, or the principal's own end."""
        issued = int(now.timestamp())
        expires = min(issued + int(LIFETIME.total_seconds()), int(principal.expire_time.timestamp()))
        if expires <= issued:
            raise refuse(Reason.PROXY_EXPIRED)
        claims = SessionClaims(
            dn=principal.dn,
            vo=principal.vo,
            fqans=principal.fqans,
            limited=principal.limited,
            thumbprint=principal.thumbprint.hex(),
            iat=issued,
            exp=expires,
        )
        body = msgspec.to_builtins(claims) | {"iss": ISSUER, "aud": self._audience}
        token = Secret(jwt.encode(body, self._key, algorithm="EdDSA"))
        end = datetime.datetime.fromtimestamp(expires, datetime.UTC)
        # Its bearer is about to show it, and these bytes are ours without another look at the signature.
        self._keep(token, msgspec.structs.replace(principal, proof=Proof.SESSION, expire_time=end, peer=""))
        return token, end

    def _keep(self, token: Secret, principal: Principal) -> None:
        """Remember whose a genuine token is, by the digest of all its bytes."""
        self._seen[hashlib.sha256(token.reveal()).digest()] = principal
        while len(self._seen) > CACHE_SIZE:
            self._seen.popitem(last=False)

    def verify(self, token: Secret, now: datetime.datetime) -> Principal:
        """Return the bearer of a genuine token that is not over.

        Raises SESSION_INVALID, AUDIENCE_MISMATCH or SESSION_EXPIRED.
        """
        digest = hashlib.sha256(token.reveal()).digest()
        principal = self._seen.get(digest)
        if principal is None:
            principal = self._decode(token, now)
            self._keep(token, principal)
        if now >= principal.expire_time:
            self._seen.pop(digest, None)
            raise refuse(Reason.SESSION_EXPIRED)
        return principal

    def _decode(self, token: Secret, now: datetime.datetime) -> Principal:
        """Return the bearer of a token of the present key, or of a retired one while anything of it can be valid.

        Whoever has an old key can write any date into a token: it ends with what the key signed when it was in use.
        """
        try:
            return self._decode_with(self._public, token, now)
        except PilotageError as error:
            if not isinstance(error.__cause__, jwt.InvalidSignatureError):
                raise
            for retired in self._retired:
                end = retired.retire_time + LIFETIME
                if now < end:
                    with contextlib.suppress(PilotageError):
                        found = self._decode_with(retired.key, token, now)
                        return msgspec.structs.replace(found, expire_time=min(found.expire_time, end))
            raise

    def _decode_with(self, key: Ed25519PublicKey, token: Secret, now: datetime.datetime) -> Principal:
        try:
            body = jwt.decode(
                token.reveal_text(),
                key,
                algorithms=["EdDSA"],
                audience=self._audience,
                issuer=ISSUER,
                options={"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "iss", "aud"]},
            )
            claims = msgspec.convert(body, SessionClaims, strict=True)
            thumbprint = bytes.fromhex(claims.thumbprint)
            expire_time = datetime.datetime.fromtimestamp(claims.exp, datetime.UTC)
        except jwt.InvalidAudienceError as error:
            raise refuse(Reason.AUDIENCE_MISMATCH) from error
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, OverflowError, OSError) as error:
            raise refuse(Reason.SESSION_INVALID) from error
        lifetime = claims.exp - claims.iat
        if not 0 < lifetime <= LIFETIME.total_seconds() or claims.iat > now.timestamp() + AHEAD_SECONDS:
            raise refuse(Reason.SESSION_INVALID)
        return Principal(
            dn=claims.dn,
            vo=claims.vo,
            fqans=claims.fqans,
            limited=claims.limited,
            thumbprint=thumbprint,
            proof=Proof.SESSION,
            expire_time=expire_time,
        )
