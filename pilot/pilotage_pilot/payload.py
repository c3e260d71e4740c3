"""One attempt at one job, from its lease to its result.

The pilot never runs a payload itself. It fetches the owner's proxy, gives it to the helper, talks to the wrapper that
the helper starts, and reports what came of it. If the helper refuses, the attempt fails: there is no other way.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec

from pilotage.errors import LeaseError, PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.sandbox import Limits, check_archive
from pilotage.states import Outcome
from pilotage_pilot.dialogue import Manifest, Outputs
from pilotage_pilot.lease import Lease, Phase, Report, Result, Stream, Usage
from pilotage_pilot.limits import Meter
from pilotage_pilot.outcomes import Cause, Verdict, judge, judge_error, judge_outputs, judge_proxy, judge_stop
from pilotage_pilot.proxies import Fetched, ProxyRefused, fetch_proxy
from pilotage_pilot.renewal import Renewal
from pilotage_pilot.running import Clocks, Stop, Watcher, run_payload
from pilotage_pilot.streams import LogStream
from pilotage_pilot.switch import Started
from pilotage_pilot.tools import Tools

log = logging.getLogger(__name__)

SPARE_SECONDS = 1800
"""How much longer than the attempt may take its proxy is asked to live."""
LOG_SECONDS = 600
"""How long the last of the logs may take to the server when the payload is over."""

Answer = TypeVar("Answer")


class Stopped(Exception):
    """The pilot itself ended the attempt before the helper was started."""


class Attempt:
    """One lease: what the heartbeat reports of it, and the way to end it."""

    def __init__(self, lease: Lease, tools: Tools, changed: Callable[[], None]) -> None:
        self.lease = lease
        self._tools = tools
        self._changed = changed
        self._phase = Phase.STARTING
        self._account = ""
        self._uid = 0
        self._meter: Meter | None = None
        self._usage = Usage()
        self._stop = Stop()
        self._folder = Path()
        self._begun: float | None = None
        self._renewal: Renewal | None = None
        self._fetched = Fetched(datetime.now(UTC))

    def report(self) -> Report:
        """Return what the next heartbeat says."""
        if self._meter and self._phase is Phase.RUNNING:
            self._usage = self._meter.read()
        failure = self._renewal.failure if self._renewal else None
        end = self._renewal.fetched.end if self._renewal else None
        return Report(self.lease.lease_id, self._phase, self._usage, self._account, self._uid, failure, end)

    def heard(self, failure: PilotageError | None) -> None:
        """Note that the server has heard of a failed renewal."""
        if self._renewal and self._renewal.failure is failure:
            self._renewal.failure = None

    def renew(self) -> None:
        """Get the payload its next proxy; before it runs and when it is over there is nothing to do."""
        if self._renewal and self._phase is Phase.RUNNING:
            self._renewal.begin()

    def stop(self, cause: Cause) -> None:
        """End the attempt, unless it is ending already or its payload is over and done with."""
        if self._stop.order(cause):
            log.info("job %s attempt %d is ended: %s", self.lease.job_id, self.lease.attempt, cause.value.name)

    async def run(self) -> Verdict:
        """Run the attempt and report its end."""
        lease, begun = self.lease, asyncio.get_running_loop().time()
        log.info("job %s attempt %d of %s: lease %s", lease.job_id, lease.attempt, lease.owner_dn, lease.lease_id)
        try:
            with self._tools.workspace.attempt() as folder:
                verdict = await self._run(folder)
        except Stopped:
            verdict = judge_stop(self._stop.cause or Cause.DRAINING)
        except ProxyRefused as refused:
            verdict = judge_proxy(refused.error)
        except PilotageError as error:
            verdict = judge_error(error)
        except OSError as error:
            verdict = judge_error(refuse(Reason.WORKSPACE_UNUSABLE, f"The pilot's files cannot be used: {error}"))
        except Exception as error:
            # A fault of ours in one attempt must not end the payloads of the others.
            log.exception("job %s attempt %d: the pilot has a fault", lease.job_id, lease.attempt)
            verdict = judge_error(refuse(Reason.INTERNAL, f"The pilot has a fault: {type(error).__name__}."))
        result = verdict.result
        seconds = asyncio.get_running_loop().time() - begun
        log.info(
            "job %s attempt %d after %.1f s: %s %s %s",
            *(lease.job_id, lease.attempt, seconds, result.outcome.name, result.reason, result.message),
        )
        if result.outcome is not Outcome.LOST:
            await self._finish(result)
        return verdict

    async def _run(self, folder: Path) -> Verdict:
        config, lease = self._tools.config, self.lease
        self._folder = folder
        proxy = await self._or_stopped(self._fetch_proxy(folder))
        source = await self._or_stopped(self._fetch_input(folder)) if lease.input_sandbox else None
        streams = [
            LogStream(self._tools.session, lease.lease_id, stream, folder / stream.name.lower(), config.max_log_bytes)
            for stream in (Stream.STDOUT, Stream.STDERR)
        ]
        senders = [asyncio.create_task(stream.send()) for stream in streams]
        target = folder / "outputs.tar.gz"
        try:
            ending, outputs = await run_payload(
                self._tools.helper,
                proxy,
                lease.owner_dn,
                self._manifest(),
                source,
                target,
                streams,
                clocks=self._clocks(),
                stop=self._stop,
                watcher=Watcher(self._started, self._over),
                memory_bytes=lease.memory_bytes if config.bound_memory else 0,
            )
            self._over()
            await self._end_renewal()
            proxy.unlink(missing_ok=True)
            verdict = judge(ending)
            if verdict.result.outcome is not Outcome.LOST:
                if outputs:
                    verdict = await self._store(target, outputs, verdict)
                await asyncio.wait(senders, timeout=LOG_SECONDS)
            return verdict
        finally:
            await self._end_renewal()
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            for stream in streams:
                stream.close()

    async def _fetch_proxy(self, folder: Path) -> Path:
        """Get the owner's proxy; the file lies in a folder of 0700 and goes with the attempt."""
        tools, lease, path = self._tools, self.lease, folder / "proxy"
        lifetime = timedelta(seconds=self._clocks().prepare_seconds + self._seconds_left())
        self._fetched = await fetch_proxy(
            path,
            lambda request: tools.session.retrieve_credential(lease, request, lifetime),
            tools.keys,
            lease.owner_dn,
            tools.config,
            lease.fqans,
        )
        return path

    def _seconds_left(self) -> float:
        """Return how long the attempt may take from now on, once it is prepared, with something to spare."""
        clocks, begun = self._clocks(), self._begun
        ran = 0.0 if begun is None else asyncio.get_running_loop().time() - begun
        return max(0.0, clocks.wall_seconds - ran) + clocks.collect_seconds + SPARE_SECONDS

    async def _fetch_input(self, folder: Path) -> Path:
        path = folder / "input.tar.gz"
        limit = self._tools.config.max_input_bytes
        await self._tools.session.download(self.lease.lease_id, self.lease.input_sandbox, path, limit)
        return path

    async def _store(self, path: Path, outputs: Outputs, verdict: Verdict) -> Verdict:
        """Check the outputs, which are hostile until then, and bring them to the server."""
        limits = Limits(unpacked_bytes=self._tools.config.max_unpacked_bytes)
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                await asyncio.to_thread(check_archive, file, limits)
                await self._tools.session.upload(self.lease.lease_id, file, outputs.sha256, outputs.size_bytes)
        except PilotageError as error:
            return judge_outputs(error, verdict)
        return Verdict(msgspec.structs.replace(verdict.result, output_sandbox=outputs.sha256), verdict.blames_node)

    async def _finish(self, result: Result) -> None:
        config = self._tools.config
        try:
            await self._tools.session.finish(
                self.lease.lease_id, result, worker_node=config.worker_node, pilot_uid=os.getuid()
            )
        except LeaseError as error:
            log.warning("the end of lease %s came too late: %s", self.lease.lease_id, error)
        except PilotageError as error:
            log.error("the end of lease %s is not accepted: %s", self.lease.lease_id, error)

    async def _or_stopped(self, work: Coroutine[None, None, Answer]) -> Answer:
        """Do a part of the preparation, unless the attempt is to end meanwhile."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop.ordered.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.cause:
                raise Stopped
            return await task
        finally:
            stop.cancel()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _manifest(self) -> Manifest:
        config, lease = self._tools.config, self.lease
        return Manifest(
            job_id=lease.job_id,
            attempt=lease.attempt,
            command=lease.command,
            environment=lease.environment,
            outputs=lease.outputs,
            has_input=bool(lease.input_sandbox),
            max_input_bytes=config.max_input_bytes,
            max_unpacked_bytes=config.max_unpacked_bytes,
            max_output_bytes=config.max_output_bytes,
            wall_seconds=self._clocks().wall_seconds,
            cores=lease.cores,
            site=config.site,
        )

    def _clocks(self) -> Clocks:
        config = self._tools.config
        wall = min(self.lease.wall_seconds or config.wall_seconds, config.wall_seconds)
        return Clocks(config.prepare_seconds, wall, config.collect_seconds, config.term_grace_seconds)

    async def _end_renewal(self) -> None:
        if self._renewal:
            await self._renewal.end()

    def _started(self, started: Started, front_pid: int) -> None:
        self._account, self._uid = started.account, started.uid
        self._begun = asyncio.get_running_loop().time()
        self._renewal = Renewal(
            self.lease,
            self._tools,
            self._folder,
            started.run_id,
            fetched=self._fetched,
            seconds_left=self._seconds_left,
            failed=self._changed,
        )
        self._meter = Meter(front_pid)
        self._phase = Phase.RUNNING
        self._changed()

    def _over(self) -> None:
        if self._phase is not Phase.HOLDING:
            self._phase = Phase.HOLDING
            self._changed()
