"""The verifier and the account map of the privileged helper, without any privilege."""

from pilotage_helper.maps import MapOptions, Mapping, map_identity, same_dn
from pilotage_helper.verify import Identity, VerifyOptions, verify_chain, verify_pem

__all__ = [
    "Identity",
    "MapOptions",
    "Mapping",
    "VerifyOptions",
    "map_identity",
    "same_dn",
    "verify_chain",
    "verify_pem",
]
