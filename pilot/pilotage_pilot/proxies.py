"""Whether a proxy that arrived is the one that was wanted.

The service is believed to know where the job's credential lies, and no more: a payload gets only a chain that this
pilot verified itself, against the site's own authorities and revocation lists.
"""

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.fqans import difference
from pilotage.x509.files import write_proxy
from pilotage.x509.keys import PrivateKey, thumbprint
from pilotage.x509.pool import KeyPool
from pilotage_helper import Identity, VerifyOptions, verify_chain
from pilotage_pilot.attributes import has_attributes, with_attributes
from pilotage_pilot.config import PilotConfig, VomsConfig
from pilotage_pilot.retry import retry

SERVERS_AWAY = frozenset({Reason.VOMS_SERVER_UNREACHABLE, Reason.VOMS_SERVER_FAILED})
"""What passes by itself."""


class Fetched(msgspec.Struct, frozen=True):
    """A proxy that was written: when it ends, and when the attributes end that were added here."""

    proxy_end: datetime.datetime
    attributes_end: datetime.datetime | None = None

    @property
    def end(self) -> datetime.datetime:
        """Return until when it is of full use."""
        return min(self.proxy_end, self.attributes_end or self.proxy_end)


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
    wanted: Sequence[str] = (),
) -> Fetched:
    """Get a proxy of the owner's for a new key pair of our own, and verify it before it is written to `path`, 0600.

    `ask` gets the certificate request and returns the chain, leaf first. A proxy without attributes gets those that the
    job wants, or the site; one that has some must have those that the job wants. Returns when it ends.
    """
    attributes_end = None
    pair = await keys.fetch()
    chain, key = await ask(pair.request), pair.key
    identity = await asyncio.to_thread(check_proxy, chain, key, owner_dn, config)
    own = has_attributes(chain)
    voms = None if own else _voms_for(config, wanted)
    if own:
        _check_wish(identity, wanted, config)
    if voms is not None:
        new_key = (await keys.fetch()).key
        chain, key = await _add(chain, key, new_key, config, voms), new_key
        identity = await asyncio.to_thread(check_proxy, chain, key, owner_dn, config)
        if not identity.fqans:
            text = f"The VO {voms.vo} is not known in {config.voms_dir}, so that its attributes count for nothing."
            raise ProxyRefused(refuse(Reason.VOMS_LSC_UNUSABLE, text))
        attributes_end = identity.voms_not_after
    await asyncio.to_thread(write_proxy, path, chain, key)
    return Fetched(identity.not_after, attributes_end)


def _voms_for(config: PilotConfig, wanted: Sequence[str]) -> VomsConfig | None:
    try:
        return config.voms_for(wanted)
    except PilotageError as error:
        raise ProxyRefused(error) from error


def _check_wish(identity: Identity, wanted: Sequence[str], config: PilotConfig) -> None:
    """Refuse a proxy whose own attributes are not those that the job wants; a site that knows no VO cannot tell."""
    lacking = difference(wanted, identity.fqans)
    if lacking and config.voms_dir is not None:
        text = f"The credential has attributes of its own, which are not those that the job wants: {lacking}."
        raise ProxyRefused(refuse(Reason.VOMS_SUBSET, text))


async def _add(
    chain: Sequence[x509.Certificate], key: PrivateKey, new_key: PrivateKey, config: PilotConfig, voms: VomsConfig
) -> Sequence[x509.Certificate]:
    async def call() -> Sequence[x509.Certificate]:
        return await asyncio.to_thread(with_attributes, chain, key, new_key, config, voms)

    try:
        return await retry("add attributes", call, for_seconds=voms.wait_seconds, passing=SERVERS_AWAY)
    except PilotageError as error:
        raise ProxyRefused(error) from error


def check_proxy(chain: Sequence[x509.Certificate], key: PrivateKey, owner_dn: str, config: PilotConfig) -> Identity:
    """Return what the verifier says of a chain, leaf first.

    Raises ProxyRefused unless it is genuine, for this key, and the job owner's.
    """
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
    return identity
