"""The next proxy of a payload that runs: fetched for a new key, verified, and handed to the helper.

The server says when. What fails is told to the server, which shows it to the owner and gives the order again.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_pilot.lease import Lease
from pilotage_pilot.proxies import ProxyRefused, fetch_proxy
from pilotage_pilot.tools import Tools

log = logging.getLogger(__name__)


class Renewal:
    """The renewals of one attempt, one at a time, from the start of its payload to the end.

    `proxy_end` is that of the proxy the payload began with. `seconds_left` says how long the attempt may still take,
    `failed` is called when there is a failure to tell.
    """

    def __init__(
        self,
        lease: Lease,
        tools: Tools,
        folder: Path,
        run_id: str,
        *,
        proxy_end: datetime,
        seconds_left: Callable[[], float],
        failed: Callable[[], None],
    ) -> None:
        self._lease = lease
        self._tools = tools
        self._path = folder / "renewed"
        self._run_id = run_id
        self._seconds_left = seconds_left
        self._failed = failed
        self.proxy_end = proxy_end
        """When the proxy ends that the payload has."""
        self._task: asyncio.Task[None] | None = None
        self.failure: PilotageError | None = None
        """The failure that the server has not heard of yet."""

    def begin(self) -> None:
        """Renew now, unless that is being done: the order is repeated until it has been."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew())

    async def end(self) -> None:
        """Leave a renewal that is under way: the payload is over."""
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
        end = await fetch_proxy(
            self._path,
            lambda request: session.renew_credential(lease.lease_id, request, lifetime),
            self._tools.keys,
            lease.owner_dn,
            self._tools.config,
        )
        await self._tools.helper.renew(self._run_id, self._path)
        self.failure, self.proxy_end = None, end
        log.info("lease %s: the payload has a new proxy", lease.lease_id)

    def _tell(self, error: PilotageError) -> None:
        log.warning("lease %s: the proxy was not renewed: %s", self._lease.lease_id, error)
        self.failure = error
        self._failed()
