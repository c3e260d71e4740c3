"""Login: a verified chain and a signature by its leaf's key over the server's challenge (DESIGN section 4)."""

import datetime
import enum
from collections.abc import Callable, Sequence

import msgspec
import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_helper import Identity
from pilotage_server.auth.challenge import LIFETIME, Challenges
from pilotage_server.auth.sessions import Sessions
from pilotage_server.clock import Clock
from pilotage_server.principal import Principal, Proof
from pilotage_server.verifier import Verifier

log = structlog.get_logger("pilotage.audit")

PURPOSE = b"pilotage login v1"
SALT_BYTES = 32
MAX_SIGNATURE_BYTES = 2048


class SignatureAlgorithm(enum.IntEnum):
    """How the leaf's key signed; numbers of `pilotage.v1.SignatureAlgorithm`."""

    RSA_PSS_SHA256 = 1
    ECDSA_SHA256 = 2


class Session(msgspec.Struct, frozen=True):
    """An opened session."""

    token: Secret
    expire_time: datetime.datetime
    principal: Principal


class LoginDesk:
    """Hand out challenges and open sessions."""

    def __init__(
        self,
        challenges: Challenges,
        sessions: Sessions,
        verifier: Verifier,
        audience: str,
        clock: Clock,
    ) -> None:
        self.audience = audience
        self._challenges = challenges
        self._sessions = sessions
        self._verifier = verifier
        self._clock = clock
        self._opened: Callable[[Principal, Sequence[bytes]], None] = lambda _principal, _chain: None

    def tell(self, opened: Callable[[Principal, Sequence[bytes]], None]) -> None:
        """Have somebody told, from now on, of who logged in with which chain."""
        self._opened = opened

    def begin(self) -> tuple[bytes, datetime.datetime]:
        """Return a fresh challenge and its end."""
        return self._challenges.make(), self._clock() + LIFETIME

    async def login(
        self, chain: Sequence[bytes], challenge: bytes, signature: bytes, algorithm: SignatureAlgorithm
    ) -> Session:
        """Open a session for the bearer of the chain's key.

        The challenge is spent last, and only by a signature that holds, so that nobody can spend another's.
        """
        genuine = self._challenges.check(challenge)
        identity = await self._verifier.chain(chain)
        check_signature(chain[0], self.signed_bytes(challenge), signature, algorithm)
        self._challenges.spend(genuine)
        principal = principal_of(identity, Proof.SESSION)
        token, end = self._sessions.open(principal, self._clock())
        principal = msgspec.structs.replace(principal, expire_time=end)
        self._opened(principal, chain)
        log.info("session opened", dn=principal.dn, fqans=principal.fqans, limited=principal.limited, until=str(end))
        return Session(token, end, principal)

    def signed_bytes(self, challenge: bytes) -> bytes:
        """Return what a caller signs."""
        return PURPOSE + b"\0" + self.audience.encode() + b"\0" + challenge


def principal_of(identity: Identity, proof: Proof) -> Principal:
    """Make a principal of what the verifier says; its attributes end with the attribute certificate."""
    ends = [identity.not_after] + ([identity.voms_not_after] if identity.voms_not_after else [])
    return Principal(
        dn=identity.dn,
        vo=identity.vo,
        fqans=identity.fqans,
        limited=identity.limited,
        thumbprint=identity.leaf_thumbprint,
        proof=proof,
        expire_time=min(ends),
    )


def check_signature(leaf: bytes, signed: bytes, signature: bytes, algorithm: SignatureAlgorithm) -> None:
    """Raise SIGNATURE_INVALID unless the key of this certificate made this signature."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise refuse(Reason.SIGNATURE_INVALID)
    try:
        key = x509.load_der_x509_certificate(leaf).public_key()
        if algorithm is SignatureAlgorithm.RSA_PSS_SHA256 and isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), SALT_BYTES)
            key.verify(signature, signed, pss, hashes.SHA256())
        elif algorithm is SignatureAlgorithm.ECDSA_SHA256 and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        else:
            raise refuse(Reason.SIGNATURE_INVALID, "The signature algorithm does not fit the leaf's key.")
    except InvalidSignature as error:
        raise refuse(Reason.SIGNATURE_INVALID) from error
    except ValueError as error:
        raise refuse(Reason.PROXY_MALFORMED) from error
