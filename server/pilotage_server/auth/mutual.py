"""Callers of the mutual-TLS port: the peer's certificate, verified again by the verifier.

gRPC's TLS library proves possession of the key and a path to a known authority. It knows nothing of
revocation lists and signing policies, so the verifier is asked as well; its answer is kept for at most a minute.
"""

import collections
import datetime
import hashlib

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.auth.login import principal_of
from pilotage_server.clock import Clock
from pilotage_server.principal import Principal, Proof
from pilotage_server.verifier import Verifier

KEEP = datetime.timedelta(seconds=60)
CACHE_SIZE = 4096


class Known(msgspec.Struct, frozen=True):
    """A principal verified lately."""

    principal: Principal
    since: datetime.datetime
    until: datetime.datetime


class Peers:
    """Tell principals by their TLS peer certificates."""

    def __init__(self, verifier: Verifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock
        self._known: collections.OrderedDict[bytes, Known] = collections.OrderedDict()

    async def principal(self, pem: bytes) -> Principal:
        """Return who the certificates of a TLS peer, leaf first, belong to."""
        digest = hashlib.sha256(pem).digest()
        known = self._known.get(digest)
        now = self._clock()
        # By a clock that has been put back since, nobody knows how long ago that was.
        if known is not None and known.since <= now < known.until:
            return known.principal
        self._known.pop(digest, None)
        principal = principal_of(await self._verifier.chain(der_chain(pem)), Proof.MUTUAL_TLS)
        if principal.expire_time <= now:
            # The verifier forgives skewed clocks a few minutes; a principal that has ended is none.
            raise refuse(Reason.CERTIFICATE_EXPIRED)
        self._known[digest] = Known(principal, now, min(now + KEEP, principal.expire_time))
        while len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)
        return principal


def der_chain(pem: bytes) -> list[bytes]:
    """Return the certificates of a TLS peer as DER, leaf first, without self-signed ones."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise refuse(Reason.PROXY_MALFORMED) from error
    # A TLS peer may send its trust anchor along; the verifier takes anchors from the CA directory alone.
    rest = [certificate for certificate in certificates[1:] if certificate.subject != certificate.issuer]
    return [certificate.public_bytes(Encoding.DER) for certificate in (certificates[0], *rest)]
