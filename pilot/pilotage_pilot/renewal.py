"""The next proxy of a payload that runs: fetched for a new key, verified, and handed to the helper.

The server says when. What fails is told to the server, which shows it to the owner and gives the order again.
It knows nothing of attributes that were added here; where these end before the proxy, the pilot renews by itself.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_pilot.lease import Lease
from pilotage_pilot.proxies import Fetched, ProxyRefused, fetch_proxy
from pilotage_pilot.tools import Tools

log = logging.getLogger(__name__)

EARLIEST, SPREAD = 0.6, 2 / 15
"""The renewal for attributes falls between 0.6 and 0.733 of the time that they are still good, as the server's does."""
AT_ONCE = timedelta(seconds=5)
SOONEST = timedelta(minutes=1)
LATEST = timedelta(minutes=10)
"""What lies between two tries of which the first failed, as for the server's own orders."""


def attributes_due(
    fetched: Fetched, now: datetime, *, needed_until: datetime, draw: Callable[[], float] = random.random
) -> timedelta | None:
    """Return how long to wait until the attributes are renewed, or None when they last as long as they are needed."""
    end = fetched.attributes_end
    if end is None or end >= min(needed_until, fetched.proxy_end - SOONEST):
        return None
    return max(AT_ONCE, (end - now) * (EARLIEST + SPREAD * draw()))


def next_try(fetched: Fetched, now: datetime) -> timedelta | None:
    """Return how long to wait after a failure; None when the proxy itself is over by then.

    Attributes that have ended are tried for as well: the proxy is still worth having them.
    """
    left = fetched.end - now
    wait = LATEST if left <= timedelta(0) else min(LATEST, max(SOONEST, left / 4))
    return wait if now + wait < fetched.proxy_end else None


class Renewal:
    """The renewals of one attempt, one at a time, from the start of its payload to the end.

    `fetched` is the proxy the payload began with. `seconds_left` says how long the attempt may still take,
    `failed` is called when there is a failure to tell.
    """

    def __init__(
        self,
        lease: Lease,
        tools: Tools,
        folder: Path,
        run_id: str,
        *,
        fetched: Fetched,
        seconds_left: Callable[[], float],
        failed: Callable[[], None],
    ) -> None:
        self._lease = lease
        self._tools = tools
        self._path = folder / "renewed"
        self._run_id = run_id
        self._seconds_left = seconds_left
        self._failed = failed
        self.fetched = fetched
        """The proxy that the payload has."""
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.failure: PilotageError | None = None
        """The failure that the server has not heard of yet."""
        self._plan(failed=False)

    def _plan(self, *, failed: bool) -> None:
        """Begin by ourselves in time, if the attributes end before the proxy and before the attempt."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = datetime.now(UTC)
        wait = attributes_due(self.fetched, now, needed_until=now + timedelta(seconds=self._seconds_left()))
        if wait is not None and failed:
            wait = next_try(self.fetched, now)
        if wait is not None:
            self._timer = asyncio.get_running_loop().call_later(wait.total_seconds(), self.begin)

    def begin(self) -> None:
        """Renew now, unless that is being done: the order is repeated until it has been."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew())

    async def end(self) -> None:
        """Leave a renewal that is under way: the payload is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _renew(self) -> None:
        try:
            await self._replace()
        except ProxyRefused as refused:
            self._tell(refused.error)
        except PilotageError as error:
            self._tell(error)
        except OSError as error:
            self._tell(refuse(Reason.WORKSPACE_UNUSABLE, f"The pilot's files cannot be used: {error}"))
        except Exception as error:
            # A fault of ours must not end the payload, which has a proxy still.
            log.exception("lease %s: the pilot has a fault", self._lease.lease_id)
            self._tell(refuse(Reason.INTERNAL, f"The pilot has a fault: {type(error).__name__}."))
        finally:
            self._path.unlink(missing_ok=True)

    async def _replace(self) -> None:
        session, lease = self._tools.session, self._lease
        lifetime = timedelta(seconds=self._seconds_left())
        fetched = await fetch_proxy(
            self._path,
            lambda request: session.renew_credential(lease.lease_id, request, lifetime),
            self._tools.keys,
            lease.owner_dn,
            self._tools.config,
            lease.fqans,
        )
        await self._tools.helper.renew(self._run_id, self._path)
        before, self.failure, self.fetched = self.fetched, None, fetched
        # A server that gives attributes to one same end, whenever it is asked, is not asked faster and faster.
        self._plan(failed=fetched.end <= before.end + AT_ONCE)
        log.info("lease %s: the payload has a new proxy", lease.lease_id)

    def _tell(self, error: PilotageError) -> None:
        log.warning("lease %s: the proxy was not renewed: %s", self._lease.lease_id, error)
        self.failure = error
        self._plan(failed=True)
        self._failed()
