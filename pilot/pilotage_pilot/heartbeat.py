"""One call for all leases: what happens here goes out, what the server wants done comes back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_pilot.lease import Answer, Order
from pilotage_pilot.outcomes import Cause
from pilotage_pilot.payload import Attempt
from pilotage_pilot.retry import Delays
from pilotage_pilot.session import Session

log = logging.getLogger(__name__)

SHORTEST_SECONDS = 0.2


class Heart:
    """Beats at the server's interval, and at once when an attempt has moved on."""

    def __init__(
        self,
        session: Session,
        attempts: Mapping[str, Attempt],
        *,
        register: Callable[[], Awaitable[None]],
        drain: Callable[[], None],
    ) -> None:
        self._session = session
        self._attempts = attempts
        self._register = register
        self._drain = drain
        self._moved = asyncio.Event()

    def moved(self) -> None:
        """Beat at the next opportunity."""
        self._moved.set()

    async def beat(self, interval_seconds: float) -> None:
        """Beat for ever. A server that is away changes nothing: leases are kept until it says otherwise."""
        pauses = Delays(cap=interval_seconds)
        wait = interval_seconds
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self._moved.wait()
            except TimeoutError:
                pass
            self._moved.clear()
            try:
                await self._once()
                wait = interval_seconds
                pauses.reset()
            except PilotageError as error:
                log.warning("heartbeat: %s", error)
                if error.reason is Reason.PILOT_NOT_REGISTERED:
                    await self._register()
                wait = next(pauses)
            await asyncio.sleep(SHORTEST_SECONDS)

    async def _once(self) -> None:
        reports = await asyncio.to_thread(lambda: [attempt.report() for attempt in list(self._attempts.values())])
        heard = await self._session.heartbeat(reports)
        told = {report.lease_id: report.renewal_failure for report in reports}
        for answer in heard.answers:
            attempt = self._attempts.get(answer.lease_id)
            if attempt is not None:
                attempt.heard(told.get(answer.lease_id))
                self._obey(attempt, answer)
        if heard.drain:
            self._drain()

    def _obey(self, attempt: Attempt, answer: Answer) -> None:
        if answer.order is Order.KILL:
            log.info("lease %s: the server wants it ended: %s", answer.lease_id, answer.reason)
            attempt.stop(Cause.KILLED)
        elif answer.order is Order.LOST:
            log.warning("lease %s is lost: %s", answer.lease_id, answer.reason)
            attempt.stop(Cause.LOST)
        elif answer.order is Order.RENEW:
            attempt.renew()
