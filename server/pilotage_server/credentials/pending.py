"""Keys of delegations that were begun: in memory only, few, and not for long."""

import collections
import contextlib
import datetime
import uuid
from collections.abc import Iterator

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.x509.keys import KeyKind, PrivateKey

LIFETIME = datetime.timedelta(minutes=5)
MOST = 1000
MOST_PER_OWNER = 8


class Pending(msgspec.Struct, frozen=True):
    """A key whose proxy is awaited."""

    delegation_id: str
    owner_dn: str
    kind: KeyKind
    key: PrivateKey
    expire_time: datetime.datetime

    def __repr__(self) -> str:
        return f"Pending({self.delegation_id!r})"


class PendingKeys:
    """Hold keys between the request and the signed proxy. A restart forgets them, and the client begins anew."""

    def __init__(self, most: int = MOST, most_per_owner: int = MOST_PER_OWNER) -> None:
        self._most = most
        self._most_per_owner = most_per_owner
        self._pending: dict[str, Pending] = {}
        self._being_made: collections.Counter[str] = collections.Counter()

    def check_room(self, owner_dn: str, now: datetime.datetime) -> None:
        """Raise RATE_LIMITED when this owner, or all together, have too many."""
        self.prune(now)
        owned = sum(1 for pending in self._pending.values() if pending.owner_dn == owner_dn)
        owned += self._being_made[owner_dn]
        if owned >= self._most_per_owner or len(self._pending) + self._being_made.total() >= self._most:
            raise refuse(Reason.RATE_LIMITED, "Too many delegations were begun and not completed; wait and try again.")

    @contextlib.contextmanager
    def making(self, owner_dn: str, now: datetime.datetime) -> Iterator[None]:
        """Keep a place for a key while it is being made; raises as `check_room`."""
        self.check_room(owner_dn, now)
        self._being_made[owner_dn] += 1
        try:
            yield
        finally:
            self._being_made[owner_dn] -= 1
            if not self._being_made[owner_dn]:
                del self._being_made[owner_dn]

    def add(self, owner_dn: str, kind: KeyKind, key: PrivateKey, now: datetime.datetime) -> Pending:
        """Keep a key for its owner."""
        self.check_room(owner_dn, now)
        pending = Pending(str(uuid.uuid4()), owner_dn, kind, key, now + LIFETIME)
        self._pending[pending.delegation_id] = pending
        return pending

    def take(self, delegation_id: str, owner_dn: str, now: datetime.datetime) -> Pending:
        """Return the key and forget it: a delegation completes once. Another's is not told from none."""
        pending = self._pending.get(delegation_id)
        if pending is None or pending.owner_dn != owner_dn:
            raise refuse(Reason.DELEGATION_NOT_FOUND)
        del self._pending[delegation_id]
        if now >= pending.expire_time:
            raise refuse(Reason.DELEGATION_NOT_FOUND)
        return pending

    def prune(self, now: datetime.datetime) -> None:
        """Forget what is too old."""
        self._pending = {name: pending for name, pending in self._pending.items() if now < pending.expire_time}

    def __len__(self) -> int:
        return len(self._pending)
