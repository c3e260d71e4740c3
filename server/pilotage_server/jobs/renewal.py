"""When the proxy of a payload that runs is renewed: two thirds into its life, each lease at a time of its own.

The time is spread by a hash of the lease, so that a thousand jobs that began together do not renew together and a
restart changes nothing.
"""

import datetime
import hashlib

SHARE = 2 / 3
SPREAD = 1 / 15
"""The renewal falls between 0.6 and 0.733 of the proxy's life."""
WORTHWHILE = datetime.timedelta(minutes=10)
"""By how much the next proxy must outlive this one."""
SOONEST = datetime.timedelta(minutes=1)
LATEST = datetime.timedelta(minutes=10)


def renewal_time(
    lease_id: str, issued: datetime.datetime, expires: datetime.datetime, credential_ends: datetime.datetime
) -> datetime.datetime | None:
    """Return when to renew a proxy, or None when the next one would live no longer."""
    if credential_ends - expires < WORTHWHILE:
        return None
    digest = hashlib.sha256(f"{lease_id} {expires.isoformat()}".encode()).digest()
    place = int.from_bytes(digest[:4]) / 2**31 - 1
    return issued + (expires - issued) * (SHARE + SPREAD * place)


def next_try(now: datetime.datetime, expires: datetime.datetime) -> datetime.datetime | None:
    """Return when to try again after a refused renewal; None when the proxy is over by then."""
    again = now + min(LATEST, max(SOONEST, (expires - now) / 4))
    return again if again < expires else None
