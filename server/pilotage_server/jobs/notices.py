"""Who waits for what: owners for changes of their jobs, pilots for work that fits them."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.states import JobState, Outcome
from pilotage_server import metrics
from pilotage_server.workload import Requirements

KEEP_SECONDS = 3600.0


class Changes(msgspec.Struct):
    """What a transaction changed; told once it is durable."""

    jobs: set[str] = msgspec.field(default_factory=set)
    offered: list[Requirements] = msgspec.field(default_factory=list)
    moves: list[tuple[JobState, str]] = msgspec.field(default_factory=list)
    """States that jobs went to, each with the reason."""
    ended: list[tuple[Outcome, str]] = msgspec.field(default_factory=list)
    then: list[Callable[[], object]] = msgspec.field(default_factory=list)
    """What else is to be done then: a line of the log, say, which must not tell of what was undone."""


class Bell:
    """Rings for one waiter; what rang before the wait counts."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._closed = False

    def ring(self) -> None:
        """Wake the waiter now or at its next wait."""
        self._event.set()

    def close(self) -> None:
        """Wake the waiter for the last time: the server stops."""
        self._closed = True
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Return True when rung, False when the time is over or the server stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return not self._closed


class Watch(Bell):
    """An owner's watch over jobs; `changed` is for the watcher to empty."""

    def __init__(self, job_ids: Iterable[str]) -> None:
        super().__init__()
        self.changed = set(job_ids)

    async def next(self) -> None:
        """Wait for a change, or raise UNAVAILABLE when the server stops."""
        while not self._closed:
            if await self.wait(KEEP_SECONDS):
                return
        raise refuse(Reason.UNAVAILABLE, "The server is stopping; ask again in a moment.")


class Place(Bell):
    """A pilot's place among those that wait for work."""

    def __init__(self, takes: Callable[[Requirements], bool], slots: int) -> None:
        super().__init__()
        self.takes = takes
        self._slots = slots
        self.called_for: list[Requirements] = []

    @property
    def free(self) -> bool:
        """Return whether it could take more than it was called for."""
        return len(self.called_for) < self._slots

    def call(self, requirements: Requirements) -> None:
        """Wake it for a job of this kind."""
        self.called_for.append(requirements)
        self.ring()

    def served(self) -> None:
        """Say that the calls so far were answered by looking at what waits."""
        self.called_for.clear()


class Notices:
    """Pass on what committed transactions changed. One event loop, one server process."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[Watch]] = {}
        self._places: deque[Place] = deque()
        self._closed = False

    def tell(self, changes: Changes) -> None:
        """Wake those whom these changes concern, every watcher and one waiting pilot per offered job; and count."""
        for job_id in changes.jobs:
            self.job_changed(job_id)
        for requirements in changes.offered:
            self._call_one(requirements)
        for state, reason in changes.moves:
            metrics.JOB_MOVES.labels(state.label, reason).inc()
        for outcome, reason in changes.ended:
            metrics.ATTEMPTS_ENDED.labels(outcome.name.lower(), reason).inc()
        for action in changes.then:
            action()

    def job_changed(self, job_id: str) -> None:
        """Wake the watchers of a job."""
        for watch in self._watchers.get(job_id, ()):
            watch.changed.add(job_id)
            watch.ring()

    def _call_one(self, requirements: Requirements) -> None:
        for place in self._places:
            if place.free and place.takes(requirements):
                place.call(requirements)
                return

    @contextlib.contextmanager
    def watching(self, job_ids: Iterable[str]) -> Iterator[Watch]:
        """Give a watch that rings at any change of these jobs; at first all of them count as changed."""
        watched = set(job_ids)
        watch = Watch(watched)
        if self._closed:
            watch.close()
        for job_id in watched:
            self._watchers.setdefault(job_id, set()).add(watch)
        try:
            yield watch
        finally:
            for job_id in watched:
                others = self._watchers[job_id]
                others.discard(watch)
                if not others:
                    del self._watchers[job_id]

    @contextlib.contextmanager
    def waiting(self, takes: Callable[[Requirements], bool], slots: int) -> Iterator[Place]:
        """Give a pilot a place in the row; work that comes is offered to the first that it fits.

        A pilot that goes away after it was called hands the call on, so no job waits for somebody gone.
        """
        place = Place(takes, slots)
        if self._closed:
            place.close()
        self._places.append(place)
        try:
            yield place
        finally:
            self._places.remove(place)
            for requirements in place.called_for:
                self._call_one(requirements)

    def close(self) -> None:
        """End every wait, present and future: the server stops."""
        self._closed = True
        for bell in {*self._places, *(watch for watches in self._watchers.values() for watch in watches)}:
            bell.close()
