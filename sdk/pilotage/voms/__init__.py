"""VOMS: ask attribute authorities for group and role attributes, and put them into proxies.

Whether attributes are genuine is decided by the C verifier alone. This package finds a VO's servers,
asks them, checks that the answer is what was asked for, and makes the proxy; and it has a
development authority (`pilotage.voms.authority`) for one machine.
"""

from pilotage.voms.attribute import VomsAttributes, add_attributes, attributes_of, read_attributes
from pilotage.voms.client import VomsClient, VomsGrant
from pilotage.voms.requests import VomsRequest, make_request
from pilotage.voms.vomses import VomsServer, find_vomses, parse_vomses, read_vomses, servers_of

__all__ = [
    "VomsAttributes",
    "VomsClient",
    "VomsGrant",
    "VomsRequest",
    "VomsServer",
    "add_attributes",
    "attributes_of",
    "find_vomses",
    "make_request",
    "parse_vomses",
    "read_attributes",
    "read_vomses",
    "servers_of",
]
