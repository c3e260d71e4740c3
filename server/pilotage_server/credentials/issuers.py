"""Chains that proxies were made from lately, parsed: a credential is retrieved again and again, for job after job."""

import collections
import hashlib
import threading
from collections.abc import Sequence

from cryptography import x509

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.x509.proxies import Issuer

SIZE = 512


class Issuers:
    """Keep parsed chains by the digest of all their bytes. Public parts alone, never a key; any thread may ask.

    It says nothing of whether a chain is still good: that is asked of the verifier for each proxy.
    """

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._known: collections.OrderedDict[bytes, Issuer] = collections.OrderedDict()

    def of(self, chain: Sequence[bytes]) -> Issuer:
        """Return what signs proxies below a DER chain, leaf first; raises as `Issuer`, and nothing is kept then."""
        digest = _digest(chain)
        with self._lock:
            known = self._known.get(digest)
            if known is not None:
                self._known.move_to_end(digest)
                return known
        try:
            issuer = Issuer([x509.load_der_x509_certificate(certificate) for certificate in chain])
        except ValueError as error:
            raise refuse(Reason.PROXY_MALFORMED) from error
        with self._lock:
            self._known[digest] = issuer
            while len(self._known) > self._size:
                self._known.popitem(last=False)
        return issuer


def _digest(chain: Sequence[bytes]) -> bytes:
    """Return a digest that two chains share only if they are the same certificates in the same order."""
    digest = hashlib.sha256()
    for certificate in chain:
        digest.update(len(certificate).to_bytes(4, "big"))
        digest.update(certificate)
    return digest.digest()
