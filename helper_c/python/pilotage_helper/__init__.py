"""The verifier and the account map of the privileged helper, without any privilege."""

from pilotage_helper.cache import CacheState, ChainCache
from pilotage_helper.maps import MapOptions, Mapping, check_maps, map_identity, same_dn
from pilotage_helper.site import Caller, Site, read_site
from pilotage_helper.verify import Identity, VerifyOptions, verify_chain, verify_pem

__all__ = [
    "CacheState",
    "Caller",
    "ChainCache",
    "Identity",
    "MapOptions",
    "Mapping",
    "Site",
    "VerifyOptions",
    "check_maps",
    "map_identity",
    "read_site",
    "same_dn",
    "verify_chain",
    "verify_pem",
]
