"""Classes of jobs: equal requirements, one class, so that a match looks at kinds and not at jobs."""

import hashlib

import msgspec

from pilotage_server.retrieval import Admitted
from pilotage_server.workload import Offer, Requirements


def class_id(requirements: Requirements) -> int:
    """Return the number of a class: 63 bits of a hash, the same in every process and for ever."""
    digest = hashlib.sha256(msgspec.json.encode(requirements)).digest()
    return int.from_bytes(digest[:8]) >> 1


def fits(requirements: Requirements, offer: Offer, wall_left: float, admitted: Admitted) -> bool:
    """Return whether a slot of this offer, there for `wall_left` more seconds, can take such a job.

    `admitted` says of which VOs its pilot gets credentials.
    """
    return (
        requirements.site in ("", offer.site)
        and requirements.cores <= offer.cores
        and requirements.memory_bytes <= offer.memory_bytes
        and requirements.disk_bytes <= offer.disk_bytes
        and requirements.wall_seconds <= wall_left
        and set(requirements.tags) <= set(offer.tags)
        and admitted.refused(requirements.vos) is None
    )
