"""Whether a proxy that arrived is the one that was wanted.

The service is believed to know where the job's credential lies, and no more: a payload gets only a chain that this
pilot verified itself, against the site's own authorities and revocation lists.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.x509.files import write_proxy
from pilotage.x509.keys import PrivateKey, thumbprint
from pilotage.x509.pool import KeyPool
from pilotage_helper import VerifyOptions, verify_chain
from pilotage_pilot.config import PilotConfig


class ProxyRefused(Exception):
    """The proxy is not used; `error` says why. It is our own judgement, not the server's."""

    def __init__(self, error: PilotageError) -> None:
        super().__init__(str(error))
        self.error = error


async def fetch_proxy(
    path: Path,
    ask: Callable[[bytes], Awaitable[Sequence[x509.Certificate]]],
    keys: KeyPool,
    owner_dn: str,
    config: PilotConfig,
) -> None:
    """Get a proxy of the owner's for a new key pair of our own, and verify it before it is written to `path`, 0600.

    `ask` gets the certificate request and returns the chain, leaf first.
    """
    pair = await keys.fetch()
    chain = await ask(pair.request)
    await asyncio.to_thread(check_proxy, chain, pair.key, owner_dn, config)
    await asyncio.to_thread(write_proxy, path, chain, pair.key)


def check_proxy(chain: Sequence[x509.Certificate], key: PrivateKey, owner_dn: str, config: PilotConfig) -> None:
    """Raise ProxyRefused unless the chain, leaf first, is genuine, for this key, and the job owner's."""
    options = VerifyOptions(ca_dir=config.ca_dir, voms_dir=config.voms_dir, require_proxy=True)
    try:
        identity = verify_chain([certificate.public_bytes(Encoding.DER) for certificate in chain], options)
    except PilotageError as error:
        raise ProxyRefused(error) from error
    if identity.leaf_thumbprint != thumbprint(key.public_key()):
        raise ProxyRefused(refuse(Reason.KEY_MISMATCH, "The service sent a proxy for another key."))
    if identity.dn != owner_dn:
        text = f"The service sent a proxy of {identity.dn} for a job of {owner_dn}; it was not used."
        raise ProxyRefused(refuse(Reason.DELEGATION_WRONG_OWNER, text))
