"""VOMS attributes for proxies that come without any, where the site wants them.

The owner's proxy itself asks the VO's server; what comes back goes into one more proxy below it, with a key of its own.
The client takes only what was asked for, and the pilot verifies the new proxy like one that the service sent.
"""

import datetime
from collections.abc import Sequence

from cryptography import x509

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms import VomsClient, add_attributes, servers_of
from pilotage.voms.asn1 import VOMS_EXTENSION
from pilotage.x509.files import LocalIdentity
from pilotage.x509.keys import PrivateKey
from pilotage.x509.proxies import Issuer, chain_end
from pilotage_pilot.config import PilotConfig, VomsConfig

Chain = Sequence[x509.Certificate]

TRY_SECONDS = 60.0
"""How long one try of all servers may take."""


def has_attributes(chain: Chain) -> bool:
    """Tell whether a certificate of a chain carries VOMS attributes, of whatever VO."""
    return any(extension.oid == VOMS_EXTENSION for certificate in chain for extension in certificate.extensions)


def check_servers(voms: VomsConfig) -> None:
    """Raise VOMSES_NOT_FOUND or VOMSES_MALFORMED unless the site's file names servers of the VO."""
    servers_of(voms.vo, [voms.vomses])


def _check_room(chain: Chain) -> None:
    try:
        Issuer(chain)
    except PilotageError as error:
        if error.reason is not Reason.PROXY_PATH_LENGTH:
            raise
        text = (
            "The owner's proxy allows no further one below it, which would carry the attributes that this site wants: "
            "delegate a proxy that has attributes, or one that allows another below it; and the service's policy "
            "(path_length) must allow it, too."
        )
        raise refuse(Reason.PROXY_PATH_LENGTH, text) from error


def with_attributes(
    chain: Chain, key: PrivateKey, new_key: PrivateKey, config: PilotConfig, voms: VomsConfig
) -> tuple[x509.Certificate, ...]:
    """Return the chain of a proxy for `new_key` below the one given, with the attributes that the site wants.

    It ends with the proxy above it. Blocks until a server has answered. Raises what `VomsClient.ask` does; and before
    any server is asked, PROXY_PATH_LENGTH or CHAIN_TOO_DEEP when there may be no proxy below the one given.
    """
    _check_room(chain)
    identity = LocalIdentity(tuple(chain), key, "the owner's proxy")
    now = datetime.datetime.now(datetime.UTC)
    life = max(chain_end(chain) - now, datetime.timedelta(seconds=1))
    client = VomsClient(config.ca_dir, servers_of(voms.vo, [voms.vomses]), deadline_seconds=TRY_SECONDS)
    grant = client.ask(identity, voms.request(life))
    return add_attributes(identity, [grant.attributes.der], lifetime=life, now=now, key=new_key).chain
