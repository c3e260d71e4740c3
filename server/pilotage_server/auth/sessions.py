"""Session tokens: what a login gives, so that the chain is verified once an hour and not at each call.

EdDSA JWTs (RFC 7519 and 8037), never longer than an hour and never longer than what they were made from.
"""

import collections
import datetime
import hashlib

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.principal import Principal, Proof

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

    def __init__(self, key: Ed25519PrivateKey, audience: str) -> None:
        self._key = key
        self._public = key.public_key()
        self._audience = audience
        self._seen: collections.OrderedDict[bytes, Principal] = collections.OrderedDict()

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
        try:
            body = jwt.decode(
                token.reveal_text(),
                self._public,
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
