"""What JobService knows of credentials: what CredentialService tells it, and never the credential."""

import datetime
from collections.abc import Sequence
from typing import Protocol

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server.jobs.limits import JobLimits


class CredentialFacts(Protocol):
    """What a job has to know of its credential; `owner_dn` is whom it makes of a payload, and so whose the job is."""

    @property
    def owner_dn(self) -> str: ...
    @property
    def vo(self) -> str: ...
    @property
    def vos(self) -> tuple[str, ...]:
        """All VOs of which it has attributes, sorted; `vo` is that of the first attribute."""
        ...

    @property
    def fqan(self) -> str: ...
    @property
    def expire_time(self) -> datetime.datetime: ...
    @property
    def reason(self) -> str:
        """Why it cannot be used now; empty when it can."""
        ...

    @property
    def message(self) -> str: ...


class CredentialDirectory(Protocol):
    """Knows what credentials are worth; CredentialService's side."""

    async def describe(self, credential_id: str, owner_dn: str, *, fresh: bool = False) -> CredentialFacts:
        """Return the facts of an owner's credential, or raise CREDENTIAL_NOT_FOUND; `fresh` verifies its chain now."""
        ...

    def names(self, dn: str) -> Sequence[str]:
        """Return a DN and those that are linked to it, itself first."""
        ...


def too_short(
    expire_time: datetime.datetime, wall_seconds: int, limits: JobLimits, now: datetime.datetime
) -> PilotageError | None:
    """Return why a credential would end before a job, even if that began at once; None when it would not."""
    left = (expire_time - now).total_seconds()
    if left <= 0:
        return refuse(Reason.CREDENTIAL_EXPIRED)
    needed = wall_seconds + limits.credential_margin_seconds
    if left >= needed:
        return None
    return refuse(
        Reason.CREDENTIAL_TOO_SHORT,
        f"The credential lives {int(left)} s more and the job needs {needed} s; delegate a longer one.",
    )
