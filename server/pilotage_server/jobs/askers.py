"""Which pilots ask for work, and of whose credentials they get any: so that a job can say why it waits.

Kept in memory and for hints alone: what a pilot is offered is decided anew each time.
"""

import datetime
from collections.abc import Sequence

from pilotage_server.clock import Clock
from pilotage_server.principal import Principal
from pilotage_server.retrieval import Admitted, RetrievalPolicy

LATELY = datetime.timedelta(hours=1)
MOST = 1000
Name = tuple[str, tuple[str, ...]]


class Askers:
    """Remember who asked lately, by DN and attributes."""

    def __init__(self, policy: RetrievalPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._asked: dict[Name, tuple[datetime.datetime, Admitted]] = {}

    def admitted(self, caller: Principal) -> Admitted:
        """Return of which VOs a pilot that asks for work gets credentials."""
        name, found = (caller.dn, caller.fqans), self._policy.admitted(caller)
        # The newest stand at the end.
        self._asked.pop(name, None)
        self._asked[name] = (self._clock(), found)
        if len(self._asked) > MOST:
            del self._asked[next(iter(self._asked))]
        return found

    def refused_by_all(self, vos: Sequence[str]) -> bool:
        """Tell whether pilots asked lately, and none of them gets a credential of these VOs."""
        since = self._clock() - LATELY
        lately = [admitted for time, admitted in self._asked.values() if time > since]
        return bool(lately) and all(admitted.refused(vos) is not None for admitted in lately)
