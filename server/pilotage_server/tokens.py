"""Credential tokens: what lets one pilot retrieve one credential once, for one lease (DESIGN section 6).

JobService signs them (EdDSA JWT, RFC 7519 and 8037), CredentialService verifies them and keeps the
`jti` of every one it has honoured.
"""

import datetime

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

ISSUER = "pilotage-jobs"
AUDIENCE = "pilotage-credentials"
MAX_SECONDS = 300


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
    if not 0 < expires - issued <= MAX_SECONDS or issued > now.timestamp() + 60:
        raise refuse(Reason.TOKEN_INVALID)
    if now.timestamp() >= expires:
        raise refuse(Reason.TOKEN_EXPIRED)
    return claims
