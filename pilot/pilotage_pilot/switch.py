"""The pilot's one door to the privileged helper: its argv, its status lines, its exit codes.

What comes over the status descriptor is the helper's word: nobody else has that pipe. Even so it is
bounded and parsed strictly, because a reader that trusts too much is the next hole.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason

MAX_LINE = 4096
MAX_LINES = 16
STATUS_SECONDS = 5
RENEW_SECONDS = 40
"""How long a renewal may take: the helper itself waits 30 s for the monitor."""
LEAST_MEMORY_BYTES = 64 << 20
"""What the wrapper needs: a job that asks for less must not look like a fault of the node."""
REFUSAL = re.compile(r"pilotage-exec: refused: ([A-Z_]+) \((\d{3})\): (.*)")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

Name = Annotated[str, msgspec.Meta(max_length=256)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_LINE)]
Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


SWITCH = "switch"
"""The mode of a helper that runs payloads as their owners; any other word is another thing."""


class Started(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    """The payload runs, under this account; in any other `mode` than SWITCH it does not, but as the pilot."""

    run_id: Name
    account: Name
    uid: Id
    gid: Id
    dn: Text
    fqan: Text = ""
    tracking: Name = ""
    mode: Name = SWITCH


class Ended(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    """The payload is over and removed; `exit_code` is -1 when a signal ended it."""

    run_id: Name
    account: Name
    uid: Id
    exit_code: Annotated[int, msgspec.Meta(ge=-1, le=255)]
    signal: Annotated[int, msgspec.Meta(ge=0, le=64)]
    wall_seconds: Seconds = 0.0
    cpu_user_seconds: Seconds = 0.0
    cpu_system_seconds: Seconds = 0.0
    max_rss_bytes: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] = 0
    reason: Name = ""
    number: Annotated[int, msgspec.Meta(ge=0, lt=1000)] = 0
    left_processes: Annotated[int, msgspec.Meta(ge=0)] = 0
    left_files: Annotated[int, msgspec.Meta(ge=0)] = 0


class Mapped(msgspec.Struct, frozen=True, tag_field="event", tag="map"):
    """The dry run's answer."""

    account: Name
    uid: Id
    gid: Id
    dn: Text
    groups: tuple[Id, ...] = ()
    lease: Text = ""
    mode: Name = SWITCH


class Refused(msgspec.Struct, frozen=True, tag_field="event", tag="refused"):
    """The helper's reason for not running the payload."""

    code: Annotated[int, msgspec.Meta(ge=126, le=203)]
    number: Annotated[int, msgspec.Meta(ge=200, lt=600)]
    reason: Name
    retry: bool
    message: Text
    mode: Name = SWITCH

    @property
    def known(self) -> Reason:
        """Return the reason of the table; name and number must agree, else it is HELPER_SYSTEM."""
        try:
            reason = Reason(self.number)
        except ValueError:
            return Reason.HELPER_SYSTEM
        return reason if reason.name == self.reason else Reason.HELPER_SYSTEM


StatusLine = Started | Ended | Mapped | Refused
_status_line: msgspec.json.Decoder[StatusLine] = msgspec.json.Decoder(StatusLine)


def parse_status(line: bytes) -> StatusLine:
    """Parse one status line, or raise HELPER_SYSTEM: a helper that speaks otherwise is not ours."""
    if len(line) > MAX_LINE:
        raise refuse(Reason.HELPER_SYSTEM, f"The helper sent a status line of {len(line)} bytes.")
    try:
        parsed: StatusLine = _status_line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refuse(Reason.HELPER_SYSTEM, f"The helper's status line cannot be read: {error}") from error
    return parsed


class Status:
    """Everything the helper said about one run, in a legal order."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.ended: Ended | None = None
        self.mapped: Mapped | None = None
        self.refused: Refused | None = None

    def add(self, line: StatusLine) -> None:
        """Take the next line; a repeated or misplaced one is refused."""
        over = self.ended or self.refused or self.mapped
        if isinstance(line, Started) and not (over or self.started):
            self.started = line
        elif isinstance(line, Ended) and not over and self.started and self.started.run_id == line.run_id:
            self.ended = line
        elif isinstance(line, Mapped) and not (over or self.started):
            self.mapped = line
        elif isinstance(line, Refused) and not (over or self.started):
            self.refused = line
        else:
            raise refuse(Reason.HELPER_SYSTEM, f"The helper's status line is out of turn: {line}"[:500])


class Run:
    """One running helper: its process, what it reports, the caller's ends of its descriptors, and the way to end it.

    `wire` is the socket on the payload's descriptor 0, `output` and `errors` are the pipes 1 and 2; whoever runs a
    payload takes them over.
    """

    def __init__(self, process: asyncio.subprocess.Process, ends: "Ends") -> None:
        self.process = process
        self.ends = ends
        self._pipes: list[asyncio.ReadTransport] = []
        self.status = Status()
        self.fault: PilotageError | None = None
        self.started = asyncio.Event()
        """Set at the first status line, or when there will be none."""
        self._reader = asyncio.create_task(self._read())

    async def pipe(self, name: str, limit: int) -> asyncio.StreamReader:
        """Return a reader of one of the pipes; at most twice `limit` bytes wait in it."""
        reader = asyncio.StreamReader(limit=limit)
        file = os.fdopen(self.ends.take(name), "rb", 0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        self._pipes.append(transport)
        return reader

    async def _read(self) -> None:
        try:
            reader = await self.pipe("status", MAX_LINE)
            for _ in range(MAX_LINES):
                line = await reader.readline()
                if not line:
                    return
                self.status.add(parse_status(line))
                self.started.set()
            self.fault = refuse(Reason.HELPER_SYSTEM, f"The helper sent more than {MAX_LINES} status lines.")
        except ValueError:
            self.fault = refuse(Reason.HELPER_SYSTEM, "The helper sent a status line without an end.")
        except PilotageError as error:
            self.fault = error
        finally:
            self.started.set()

    async def wait(self) -> int:
        """Wait for the front's end and for its last status line; return the exit code."""
        code = await self.process.wait()
        await asyncio.wait({self._reader}, timeout=STATUS_SECONDS)
        if not self._reader.done():
            self._reader.cancel()
            self.fault = self.fault or refuse(Reason.HELPER_SYSTEM, "The helper's status descriptor stayed open.")
        return code

    async def stop(self, grace_seconds: float) -> int:
        """End the payload: TERM to the front, which passes it on; after the grace KILL, and the monitor kills all."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
        return await self.wait()

    def abandon(self) -> None:
        """Let go of everything; a front that still runs is killed, and the helper's monitor removes the payload."""
        if self.process.returncode is None:
            self._signal(signal.SIGKILL)
        self._reader.cancel()
        for pipe in self._pipes:
            pipe.close()
        self.ends.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class Ends:
    """Descriptors: `inner` go to the child and are closed here, `outer` stay. Closing twice is harmless."""

    def __init__(self) -> None:
        self.inner: dict[str, int] = {}
        self.outer: dict[str, int] = {}

    def pipe(self, name: str) -> None:
        """Make a pipe that the child writes to."""
        self.outer[name], self.inner[name] = os.pipe()

    def socketpair(self, name: str) -> None:
        """Make a connected pair of stream sockets."""
        ours, theirs = socket.socketpair()
        self.outer[name], self.inner[name] = ours.detach(), theirs.detach()

    def take(self, name: str) -> int:
        """Hand over one of the ends that stay."""
        return self.outer.pop(name)

    def close_inner(self) -> None:
        """Close what only the child needs."""
        while self.inner:
            os.close(self.inner.popitem()[1])

    def close(self) -> None:
        """Close everything that was not handed over."""
        self.close_inner()
        while self.outer:
            os.close(self.outer.popitem()[1])


class Helper:
    """The installed helper and the command that it starts for every payload."""

    def __init__(self, path: Path, python: Path, wrapper: Path) -> None:
        self.path = path
        self._command = [str(python), "-I", str(wrapper)]

    async def run(self, proxy: Path, job_id: str, memory_bytes: int = 0) -> Run:
        """Start a payload's wrapper as the proxy's owner, bound to so much memory; 0: to what the site says.

        The site's own bound stays where it is the narrower one. Where none can be set the helper refuses the run.
        """
        ends = Ends()
        try:
            ends.socketpair("wire")
            ends.pipe("output")
            ends.pipe("errors")
            arguments = ["run", "--proxy", str(proxy), "--job-id", job_id[:128]]
            if memory_bytes:
                arguments += ["--memory-bytes", str(max(memory_bytes, LEAST_MEMORY_BYTES))]
            return await self._start(arguments, ["--", *self._command], ends)
        except BaseException:
            ends.close()
            raise

    async def map(self, proxy: Path) -> Run:
        """Ask whom the helper would become for a proxy, without becoming it."""
        ends = Ends()
        try:
            return await self._start(["map", "--proxy", str(proxy)], [], ends)
        except BaseException:
            ends.close()
            raise

    async def renew(self, run_id: str, proxy: Path) -> None:
        """Put a new proxy in the place of a running payload's, or raise the helper's reason."""
        null, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        words = ("renew", run_id, "--proxy", str(proxy))
        try:
            process = await asyncio.create_subprocess_exec(
                self.path, *words, stdin=null, stdout=null, stderr=pipe, env=ENVIRONMENT, cwd="/"
            )
        except OSError as error:
            raise refuse(Reason.HELPER_NOT_INSTALLED, f"{self.path} cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                _, said = await process.communicate()
        except TimeoutError:
            raise refuse(Reason.HELPER_SYSTEM, f"{self.path} renew did not end within {RENEW_SECONDS} s.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise _refusal(said, process.returncode)

    async def version(self) -> str:
        """Return the helper's version line, or raise HELPER_PROBE_FAILED."""
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                self.path, "--version", stdin=null, stdout=pipe, stderr=null, env=ENVIRONMENT, cwd="/"
            )
            async with asyncio.timeout(10):
                out, _ = await process.communicate()
        except (OSError, TimeoutError) as error:
            raise refuse(Reason.HELPER_PROBE_FAILED, f"{self.path} --version does not answer: {error}") from error
        if process.returncode != 0:
            raise refuse(Reason.HELPER_PROBE_FAILED, f"{self.path} --version ended with {process.returncode}.")
        return out[:200].decode("ascii", "replace").strip()

    async def _start(self, arguments: Sequence[str], command: Sequence[str], ends: Ends) -> Run:
        ends.pipe("status")
        null = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                self.path,
                *arguments,
                "--status-fd",
                str(ends.inner["status"]),
                *command,
                stdin=ends.inner.get("wire", null),
                stdout=ends.inner.get("output", null),
                stderr=ends.inner.get("errors", null),
                pass_fds=(ends.inner["status"],),
                env=ENVIRONMENT,
                cwd="/",
                process_group=0,
            )
        except OSError as error:
            raise refuse(Reason.HELPER_NOT_INSTALLED, f"{self.path} cannot be started: {error.strerror}") from error
        ends.close_inner()
        return Run(process, ends)


def _refusal(said: bytes, code: int | None) -> PilotageError:
    """Return what the helper's one line on standard error says; HELPER_SYSTEM when it says nothing of the kind."""
    found = REFUSAL.match(said[:MAX_LINE].decode("utf-8", "replace"))
    if not found:
        return refuse(Reason.HELPER_SYSTEM, f"The helper ended with {code} and did not say why.")
    told = Refused(code or 0, int(found[2]), found[1], retry=False, message=found[3])
    return refuse(told.known, told.message)
