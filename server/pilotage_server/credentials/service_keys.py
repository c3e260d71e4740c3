"""Where the service's sealing keys are: in files, or in a PKCS#11 token with files only for what they sealed before."""

import datetime
from collections.abc import Sequence

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.credentials.hsm import KeyToken, TokenPlace
from pilotage_server.credentials.sealing import FileKey, ServiceKey
from pilotage_server.keys import Keys


class ServiceKeys:
    """Tell the keys, the present one first."""

    def __init__(self, place: TokenPlace | None) -> None:
        self.token = KeyToken(place) if place is not None else None

    def close(self) -> None:
        """Let go of the token."""
        if self.token is not None:
            self.token.close()

    def make_first(self, now: datetime.datetime) -> bool:
        """Make a key in the token unless there is one; tell whether one was made."""
        if self.token is None or self.token.held():
            return False
        self.token.make(now)
        return True

    def all(self, files: Keys) -> Sequence[ServiceKey]:
        """Return every key; raise CONFIG_INVALID where the token should have one and has none."""
        old = [FileKey(key) for key in (files.service, *files.old_services) if key is not None]
        if self.token is None:
            return old
        held = self.token.held()
        if not held:
            raise refuse(
                Reason.CONFIG_INVALID,
                "[pkcs11]: the token has no key of this label. Was another one meant? Else `pilotage-server keys rotate"
                " service` makes one.",
            )
        return [*held, *old]
