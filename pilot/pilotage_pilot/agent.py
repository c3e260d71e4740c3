"""The pilot's life: register, ask for work while there are free slots, report, leave in good order."""

import asyncio
import datetime
import logging
import random
import signal

import msgspec

from pilotage.errors import AuthenticationError, AuthorizationError, PilotageError
from pilotage.reasons import Reason
from pilotage_pilot.heartbeat import Heart
from pilotage_pilot.identity import PilotIdentity
from pilotage_pilot.lease import Lease, Offer
from pilotage_pilot.outcomes import Cause
from pilotage_pilot.payload import Attempt
from pilotage_pilot.retry import PASSING, Delays
from pilotage_pilot.tools import Tools

log = logging.getLogger(__name__)

OK, GENERAL, NO_PROXY, NO_SERVER, PROXY_TOO_SHORT, NO_JOBS, TERMINATED = 0, 65, 68, 79, 80, 82, 143
"""Exit codes, with the numbers of PanDA's pilot."""

REGISTER_SECONDS = 300.0
SHORTEST_PROXY_SECONDS = 600.0
RELEASE_SECONDS = 20.0
LAST_SECONDS = 120.0
"""How long the reports of payloads that were ended may take."""


class Leaving(msgspec.Struct, frozen=True):
    """Why the pilot takes no more work, and the exit code it ends with."""

    code: int
    why: str


class Agent:
    """One pilot."""

    def __init__(self, tools: Tools, offer: Offer, identity: PilotIdentity) -> None:
        self._tools = tools
        self._config = tools.config
        self._end_time = asyncio.get_running_loop().time() + offer.wall_seconds
        self._identity = identity
        self._offer = self._offer_now(offer)
        self._attempts: dict[str, Attempt] = {}
        self._leaving: Leaving | None = None
        self._left = asyncio.Event()
        self._freed = asyncio.Event()
        self._heart = Heart(tools.session, self._attempts, register=self._register_again, drain=self._drained)
        self._taken = 0
        self._failures = 0
        self._signals = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy_until = 0.0

    def leave(self, code: int, why: str) -> None:
        """Take no more work; what runs goes on. The first reason counts."""
        if self._leaving is None:
            log.info("leaving: %s", why)
            self._leaving = Leaving(code, why)
            self._left.set()

    def _offer_now(self, offer: Offer) -> Offer:
        """Return the offer for the time that both the slots and the pilot's proxy are still there."""
        proxy_left = self._identity.seconds_left(datetime.datetime.now(datetime.UTC))
        left = min(self._end_time - asyncio.get_running_loop().time(), proxy_left)
        return msgspec.structs.replace(offer, wall_seconds=max(1, int(left)))

    def _drained(self) -> None:
        self.leave(OK, "the server asked for it")

    async def run(self) -> int:
        """Live until there is a reason to leave and all payloads are over; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, signal.Signals(number).name)
        try:
            interval = await self._register()
        except PilotageError as error:
            log.error("registration: %s", error)
            return NO_PROXY if _identity_refused(error) else NO_SERVER if error.reason in PASSING else GENERAL
        async with asyncio.TaskGroup() as group:
            heart = group.create_task(self._heart.beat(interval))
            await self._work(group)
            while self._attempts:
                self._freed.clear()
                await self._freed.wait()
            heart.cancel()
        try:
            await self._tools.session.deregister()
        except PilotageError as error:
            log.warning("good-bye was not heard: %s", error)
        return self._leaving.code if self._leaving else GENERAL

    def _signalled(self, name: str) -> None:
        self._signals += 1
        self.leave(OK, name)
        wait = self._config.drain_seconds if self._signals == 1 else 0
        asyncio.get_running_loop().call_later(wait, self._end_all)

    def _end_all(self) -> None:
        """End the payloads that still run: the site wants the node back."""
        for attempt in self._attempts.values():
            attempt.stop(Cause.DRAINING)
        if self._attempts and self._leaving:
            self._leaving = Leaving(TERMINATED, self._leaving.why)
        asyncio.get_running_loop().call_later(LAST_SECONDS, self._abandon)

    def _abandon(self) -> None:
        """Give up what could not be brought to its end: the server finds out when the leases expire."""
        for task in self._tasks:
            task.cancel()

    async def _register(self) -> float:
        registration = await self._tools.session.register(self._offer, for_seconds=REGISTER_SECONDS)
        log.info("registered as %s: %d slots of %d cores", registration.pilot_id, self._offer.slots, self._offer.cores)
        return registration.heartbeat_seconds

    async def _register_again(self) -> None:
        """Register after the server forgot us, or leave."""
        try:
            await self._register()
        except PilotageError as error:
            self.leave(NO_PROXY if _identity_refused(error) else NO_SERVER, f"registration: {error}")

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """Fill free slots until it is time to leave."""
        loop = asyncio.get_running_loop()
        pauses = Delays(first=1, cap=60)
        self._busy_until = loop.time()
        while not self._leaving:
            free = self._free_slots()
            if not free:
                await self._wait_for_slot()
                continue
            await self._check_identity()
            if self._failures:
                await self._pause(min(60.0, 2.0**self._failures))
            leases, pause = await self._acquire(free)
            for lease in leases:
                await self._take(group, lease)
            if leases:
                pauses.reset()
            elif not self._idle_too_long(loop.time()):
                await self._pause(pause * random.uniform(0.5, 1) if pause else next(pauses))

    def _free_slots(self) -> int:
        free = self._config.slots - len(self._attempts)
        if self._config.max_jobs:
            left = self._config.max_jobs - self._taken
            if left <= 0:
                self.leave(OK, f"ran the {self._taken} payloads it was made for")
            free = min(free, left)
        return max(0, free)

    async def _wait_for_slot(self) -> None:
        self._freed.clear()
        waits = {asyncio.create_task(self._freed.wait()), asyncio.create_task(self._left.wait())}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _check_identity(self) -> None:
        """Take up a renewed proxy while no lease is bound to the old one; leave before there is none."""
        if not self._attempts and self._identity.reload():
            log.info("the pilot's proxy is new; registering anew")
            await self._tools.session.reconnect()
            self._offer = self._offer_now(self._offer)
            await self._register_again()
        if asyncio.get_running_loop().time() > self._end_time:
            self.leave(OK, "the time of its slots is over")
        left = self._identity.seconds_left(datetime.datetime.now(datetime.UTC))
        if left < SHORTEST_PROXY_SECONDS:
            self.leave(PROXY_TOO_SHORT, f"the pilot's proxy {self._identity.path} ends in {left:.0f} s")

    async def _acquire(self, free: int) -> tuple[tuple[Lease, ...], float]:
        """Ask for work, unless it is time to leave; return leases and how long to wait when there are none."""
        if self._leaving:
            return (), 0.0
        call = asyncio.create_task(self._tools.session.acquire(free, self._config.poll_seconds))
        left = asyncio.create_task(self._left.wait())
        try:
            await asyncio.wait({call, left}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                return (), 0.0
            acquired = await call
        except PilotageError as error:
            await self._explain(error)
            return (), 1.0
        finally:
            left.cancel()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        if acquired.drain:
            self._drained()
        return acquired.leases, acquired.retry_seconds

    async def _explain(self, error: PilotageError) -> None:
        """Deal with a refused call for work: what passes is waited for, what does not is a reason to leave."""
        log.warning("asking for work: %s", error)
        if error.reason is Reason.PILOT_NOT_REGISTERED:
            await self._register_again()
        elif _identity_refused(error):
            self.leave(NO_PROXY, str(error))
        elif error.reason not in PASSING and error.reason is not Reason.TOO_MANY_LEASES:
            self.leave(GENERAL, str(error))

    async def _take(self, group: asyncio.TaskGroup, lease: Lease) -> None:
        if self._leaving:
            try:
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._tools.session.release(lease.lease_id, Reason.PILOT_DRAINING, "The pilot is leaving.")
            except (PilotageError, TimeoutError) as error:
                log.warning("lease %s could not be given back: %s", lease.lease_id, error)
            return
        self._taken += 1
        attempt = Attempt(lease, self._tools, self._heart.moved)
        self._attempts[lease.lease_id] = attempt
        self._heart.moved()
        task = group.create_task(self._see_through(attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _see_through(self, attempt: Attempt) -> None:
        try:
            verdict = await attempt.run()
        finally:
            del self._attempts[attempt.lease.lease_id]
            self._busy_until = asyncio.get_running_loop().time()
            self._freed.set()
        self._failures = self._failures + 1 if verdict.blames_node else 0
        if self._failures >= self._config.max_node_failures:
            self.leave(GENERAL, f"{self._failures} attempts in a row failed through this node's fault")

    def _idle_too_long(self, now: float) -> bool:
        limit = self._config.max_idle_seconds
        if not limit or self._attempts or now - self._busy_until < limit:
            return False
        self.leave(OK if self._taken else NO_JOBS, f"no work for {limit} s")
        return True

    async def _pause(self, seconds: float) -> None:
        """Wait before asking again, but not beyond the time to leave."""
        try:
            async with asyncio.timeout(seconds):
                await self._left.wait()
        except TimeoutError:
            pass


def _identity_refused(error: PilotageError) -> bool:
    return isinstance(error, AuthenticationError | AuthorizationError) and error.reason not in PASSING
