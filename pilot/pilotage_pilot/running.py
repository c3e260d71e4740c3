"""One payload under the helper: start, talk, watch the clocks, end, and gather the facts.

Nothing here decides what the facts mean; that is `outcomes`.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from pilotage_pilot.dialogue import Dialogue, Manifest, Outputs
from pilotage_pilot.outcomes import Cause, Ending
from pilotage_pilot.streams import LogStream
from pilotage_pilot.switch import SWITCH, Helper, Run, Started

PIPE_BYTES = 64 << 10
WIRE_BYTES = 256 << 10
LAST_WORDS_SECONDS = 30.0
"""How long what is still in socket and pipes may take when the helper's front is gone."""
CLEANUP_SECONDS = 120.0
"""How long the helper may take to remove a payload that is over."""

AT_ONCE = frozenset({Cause.WRONG_OWNER, Cause.LOG_ONLY})
"""What runs is not what was asked for: it gets no grace, and nothing that it says is waited for."""


class Stop:
    """The order to end a payload: the first cause counts, and none once the payload is over and done with."""

    def __init__(self) -> None:
        self.cause: Cause | None = None
        self.ordered = asyncio.Event()
        self._too_late = False

    def order(self, cause: Cause) -> bool:
        """Order the end and return whether that changes anything."""
        if self.cause or self._too_late:
            return False
        self.cause = cause
        self.ordered.set()
        return True

    def close(self) -> None:
        """Take no order any more."""
        self._too_late = True


class Clocks(msgspec.Struct, frozen=True):
    """How long each stage may take, and the grace between TERM and KILL."""

    prepare_seconds: float
    wall_seconds: float
    collect_seconds: float
    grace_seconds: float


class Watcher(msgspec.Struct, frozen=True):
    """Who wants to know how far the payload is."""

    started: Callable[[Started, int], None]
    """Called with the helper's words and the pid of its front."""
    over: Callable[[], None]


async def run_payload(
    helper: Helper,
    proxy: Path,
    owner_dn: str,
    manifest: Manifest,
    source: Path | None,
    target: Path,
    logs: Sequence[LogStream],
    *,
    clocks: Clocks,
    stop: Stop,
    watcher: Watcher,
    memory_bytes: int = 0,
) -> tuple[Ending, Outputs | None]:
    """Run one payload to its end, whatever that is, and return when the helper has gone.

    The wrapper is told nothing until the helper has said that it runs as `owner_dn`; if it says another, or that it did
    not switch at all, the run is killed at once. `logs` are its standard output and error. The outputs lie in `target`
    when there are any. `memory_bytes` bounds all of it, 0 does not. Cancelled, it kills the helper's front, upon which
    the helper's monitor removes the payload.
    """
    run = await helper.run(proxy, manifest.job_id, memory_bytes)
    tasks: list[asyncio.Task[None]] = []
    try:
        wire = socket.socket(fileno=run.ends.take("wire"))
        reader, writer = await asyncio.open_unix_connection(sock=wire, limit=WIRE_BYTES)
        dialogue = Dialogue(reader, writer)
        listener = asyncio.create_task(dialogue.listen(target, manifest.max_output_bytes))
        tasks = [listener, asyncio.create_task(_send(run, owner_dn, dialogue, manifest, source, stop))]
        for log, name in zip(logs, ("output", "errors"), strict=True):
            tasks.append(asyncio.create_task(log.read(await run.pipe(name, PIPE_BYTES))))
        code = await _watch(run, dialogue, clocks, stop, watcher)
        if stop.cause not in AT_ONCE:
            await asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS)
        ending = Ending(
            status=run.status,
            front_code=code,
            spoke=dialogue.spoke,
            exit=dialogue.exit,
            failure=dialogue.failure,
            done=dialogue.done,
            fault=dialogue.fault,
            helper_fault=run.fault,
            cause=stop.cause,
        )
        return ending, dialogue.outputs
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        run.abandon()


async def _send(
    run: Run, owner_dn: str, dialogue: Dialogue, manifest: Manifest, source: Path | None, stop: Stop
) -> None:
    """Tell the wrapper what to run, once the helper has said whom it runs as; nothing if that is not the owner."""
    await run.started.wait()
    started = run.status.started
    if started is None:
        return
    if started.mode != SWITCH:
        stop.order(Cause.LOG_ONLY)
        return
    if started.dn != owner_dn:
        stop.order(Cause.WRONG_OWNER)
        return
    await dialogue.send(manifest, source)


async def _watch(run: Run, dialogue: Dialogue, clocks: Clocks, stop: Stop, watcher: Watcher) -> int:
    """See the payload through its stages and return the front's exit code."""
    front = asyncio.create_task(run.wait())
    try:
        if await _reached(dialogue.started, front, clocks.prepare_seconds, stop, Cause.PREPARING):
            if run.status.started:
                watcher.started(run.status.started, run.process.pid)
            if await _reached(dialogue.over, front, clocks.wall_seconds, stop, Cause.WALL_TIME):
                watcher.over()
                await _reached(dialogue.ended, front, clocks.collect_seconds, stop, Cause.COLLECTING)
        if dialogue.done:
            stop.close()
        if stop.cause or dialogue.fault:
            return await run.stop(0 if stop.cause in AT_ONCE else clocks.grace_seconds)
        done, _ = await asyncio.wait({front}, timeout=CLEANUP_SECONDS)
        return front.result() if done else await run.stop(clocks.grace_seconds)
    finally:
        stop.close()
        front.cancel()


async def _reached(event: asyncio.Event, front: asyncio.Task[int], seconds: float, stop: Stop, late: Cause) -> bool:
    """Wait for a stage; being late, or an order meanwhile, ends the payload.

    When the front is gone the stage is as good as reached: what is left of the talk comes to its end by itself.
    """
    waits: list[asyncio.Task[object]] = [asyncio.create_task(event.wait()), asyncio.create_task(stop.ordered.wait())]
    try:
        await asyncio.wait({*waits, front}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if not (event.is_set() or front.done() or stop.cause):
        stop.order(late)
    return stop.cause is None
