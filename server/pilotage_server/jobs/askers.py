"""Which pilots ask for work, what they offer and of whose credentials they get any: a job can say why it waits.

Kept in memory and for hints alone: what a pilot is offered is decided anew each time.
"""

import datetime

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server.clock import Clock
from pilotage_server.jobs.job_class import fits
from pilotage_server.principal import Principal
from pilotage_server.retrieval import Admitted, RetrievalPolicy
from pilotage_server.workload import Offer, Requirements

LATELY = datetime.timedelta(hours=1)
MOST = 1000
NO_TARGET = "The policy lets no pilot that asked for work in the last hour have this credential; the job waits for one."
NO_OFFER = (
    "No pilot that asked for work in the last hour offers what the job wants (cores, memory, disk, wall time, tags);"
    " it waits for one."
)
Name = tuple[str, tuple[str, ...], Offer]


class Askers:
    """Remember who asked lately, by DN, attributes and offer; the nodes of one kind are one."""

    def __init__(self, policy: RetrievalPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._asked: dict[Name, tuple[datetime.datetime, Admitted]] = {}
        self._forgot: datetime.datetime | None = None
        """When somebody who may have asked lately was forgotten."""

    def admitted(self, caller: Principal, offer: Offer) -> Admitted:
        """Return of which VOs a pilot that asks for work gets credentials."""
        name, found = (caller.dn, caller.fqans, _kind(offer)), self._policy.admitted(caller)
        # The newest stand at the end.
        self._asked.pop(name, None)
        self._asked[name] = (self._clock(), found)
        if len(self._asked) > MOST:
            del self._asked[next(iter(self._asked))]
            self._forgot = self._clock()
        return found

    def why_not(self, wanted: Requirements) -> PilotageError | None:
        """Return why no pilot that asked lately may have or fits such a job; None when one does, or none is known."""
        since = self._clock() - LATELY
        if self._forgot is not None and self._forgot > since:
            return None
        lately = [(name[2], admitted) for name, (time, admitted) in self._asked.items() if time > since]
        if not lately or any(fits(wanted, offer, offer.wall_seconds, admitted) for offer, admitted in lately):
            return None
        served = [offer for offer, admitted in lately if admitted.refused(wanted.vos) is None]
        if not served:
            return refuse(Reason.TARGET_REFUSED, NO_TARGET)
        if wanted.site and wanted.site not in {offer.site for offer in served}:
            text = f"No pilot of the site {wanted.site} has asked for work in the last hour."
            return refuse(Reason.NO_PILOT_FITS, text)
        return refuse(Reason.NO_PILOT_FITS, NO_OFFER)


def _kind(offer: Offer) -> Offer:
    """Return the offer of all nodes like this one; sizes are never less than the node's, or a hint could be wrong."""
    sizes = {"memory_bytes": _up(offer.memory_bytes), "disk_bytes": _up(offer.disk_bytes)}
    return msgspec.structs.replace(offer, worker_node="", slots=0, version="", **sizes)


def _up(number: int) -> int:
    """Return the next power of two: what is free on a disk is never the same twice."""
    return 1 << max(number - 1, 0).bit_length()
