"""The synchronous SDK: everything an owner does with jobs, sandboxes and credentials.

    with Client("pilotage.example.org") as client:
        job_id, = client.submit([JobSpec(command=("./analyse", "data.csv"))], inputs=[Path("data.csv")])
        client.wait([job_id])

Every method raises `PilotageError` and nothing of gRPC's.
"""

import datetime
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from pilotage import convert, sandbox
from pilotage.admin import Admin
from pilotage.config import data_home
from pilotage.credentials import Credentials
from pilotage.errors import PilotageError, refuse
from pilotage.interceptors import STALE
from pilotage.jobs import Caller, ItemResult, Job, JobEvent, JobSpec, LogChunk, LogStream
from pilotage.login import IdentitySource
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import JobState
from pilotage.transfer import download, upload
from pilotage.transport import open_channel
from pilotage.trust import find_ca_dir
from pilotage.v1 import auth_pb2, auth_pb2_grpc, job_pb2, job_pb2_grpc
from pilotage.wire_errors import translated
from pilotage.x509.files import Ask, LocalIdentity, find_identity
from pilotage.x509.keys import KeyKind

CALL_SECONDS = 60.0
STREAM_SECONDS = 600.0
PATIENCE_SECONDS = 60.0
"""How long a wait or a followed log outlives a server that is away."""
PAUSE_SECONDS = 1.0
PAGE = 100
BULK = 1000
MARGIN = datetime.timedelta(hours=1)
"""What a credential must live longer than the job's wall time, for the time in the queue."""
DEFAULT_WALL = datetime.timedelta(hours=1)
PASSING = (Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED)


class Client:
    """One caller at one server. Safe for threads; close it, or use it as a context."""

    def __init__(
        self,
        server: str,
        *,
        ca_dir: Path | None = None,
        identity: IdentitySource | None = None,
        audience: str | None = None,
        environ: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
        ask: Ask | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        if identity is None:
            asked = remembered(ask)
            self._source: IdentitySource = lambda: find_identity(environ, os.geteuid(), asked)
        else:
            self._source = identity
        self._channel = open_channel(
            server, ca_dir=ca_dir or find_ca_dir(environ), identity=self._source, audience=audience
        )
        self._jobs = job_pb2_grpc.JobServiceStub(self._channel)
        self.admin = Admin(self._channel)
        self._auth = auth_pb2_grpc.AuthServiceStub(self._channel)
        home = data_home(environ)
        self.credentials = Credentials(
            self._channel, self.identity, self.whoami, home / "retrieval-keys" if home else None, say
        )
        if ask is not None:
            # Logins happen in gRPC's threads: whoever has to be asked is asked here, once.
            self.identity()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; the session ends with this process."""
        self._channel.close()

    def identity(self) -> LocalIdentity:
        """Load what this client proves itself with."""
        return self._source if isinstance(self._source, LocalIdentity) else self._source()

    def whoami(self) -> Caller:
        """Ask the server how it sees this caller."""
        with translated():
            return convert.caller(self._auth.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=CALL_SECONDS))

    # jobs

    def submit(
        self,
        specs: Sequence[JobSpec],
        *,
        inputs: Sequence[Path] = (),
        base: Path | None = None,
        members: Mapping[str, Path] | None = None,
        credential_name: str = "",
        credential_owner: str = "",
        credential_lifetime: datetime.timedelta = datetime.timedelta(days=7),
        credential_key: KeyKind = KeyKind.RSA_2048,
        hold: bool = False,
        request_id: str | None = None,
    ) -> Sequence[str]:
        """Submit jobs that share one input sandbox and one credential; return their ids in order.

        `inputs` are packed under their names relative to `base` (the current folder), `members` under
        the names that they map. A credential is delegated unless a stored one lives long enough; when even
        a new one does not, the jobs are refused, or with `hold` stored and held until there is one that does.
        With a `credential_owner`, a DN linked to the caller's, the jobs run as that DN and belong to it.
        """
        packed = {**sandbox.gather(inputs, base or Path.cwd()), **(members or {})}
        if packed:
            digest = self.upload(packed)
            specs = [msgspec.structs.replace(spec, input_sandbox=digest) for spec in specs]
        longest = max((spec.wall_seconds for spec in specs), default=0)
        needed = (datetime.timedelta(seconds=longest) if longest else DEFAULT_WALL) + MARGIN
        sealed = self.credentials.ready(
            needed,
            lifetime=credential_lifetime,
            name=credential_name,
            kind=credential_key,
            owner_dn=credential_owner,
        )
        request = job_pb2.SubmitJobsRequest(
            request_id=request_id or str(uuid.uuid4()),
            specs=[convert.spec_to_message(spec) for spec in specs],
            credential_id=sealed.credential.credential_id,
            retrieval_key=sealed.retrieval_key.reveal(),
            hold=hold,
        )
        with translated():
            return list(self._jobs.SubmitJobs(request, timeout=CALL_SECONDS).job_ids)

    def get(self, job_id: str) -> Job:
        """Return a job of the caller's."""
        with translated():
            return convert.job(self._jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), timeout=CALL_SECONDS).job)

    def list(self, states: Sequence[JobState] = ()) -> Iterator[Job]:
        """Yield the caller's jobs, newest first."""
        token = ""
        numbers = [job_pb2.JobState.ValueType(state.value) for state in states]
        while True:
            request = job_pb2.ListJobsRequest(page_size=PAGE, page_token=token, states=numbers)
            with translated():
                page = self._jobs.ListJobs(request, timeout=CALL_SECONDS)
            for message in page.jobs:
                yield convert.job(message)
            token = page.next_page_token
            if not token:
                return

    def watch(self, job_ids: Sequence[str], *, timeout: float | None = None) -> Iterator[Job]:
        """Yield each job at once and again at every change, until all are final or the time is over.

        A server that goes away for a moment is waited for.
        """
        end = None if timeout is None else time.monotonic() + timeout
        for start in range(0, len(job_ids), BULK):
            open_ids = dict.fromkeys(job_ids[start : start + BULK])
            yield from self._watch_some(open_ids, end)

    def _watch_some(self, open_ids: dict[str, None], end: float | None) -> Iterator[Job]:
        seen: dict[str, Job] = {}
        outage = _Outage()
        while open_ids:
            left = STREAM_SECONDS if end is None else min(STREAM_SECONDS, end - time.monotonic())
            if left <= 0:
                return
            try:
                with translated():
                    request = job_pb2.WatchJobsRequest(job_ids=list(open_ids))
                    for answer in self._jobs.WatchJobs(request, timeout=left):
                        outage.over()
                        job = convert.job(answer.job)
                        if job.final:
                            open_ids.pop(job.job_id, None)
                        # A watch that is begun anew tells again what was told.
                        if seen.get(job.job_id) != job:
                            seen[job.job_id] = job
                            yield job
                if open_ids:
                    outage.pause(refuse(Reason.UNAVAILABLE, "The server ends the watch although jobs go on."), end)
            except PilotageError as error:
                if error.reason is not Reason.DEADLINE_EXCEEDED:
                    outage.pause(error, end)

    def wait(self, job_ids: Sequence[str], *, timeout: float | None = None) -> dict[str, Job]:
        """Wait until all jobs are final or the time is over; return each one's newest state."""
        return {job.job_id: job for job in self.watch(job_ids, timeout=timeout)}

    def cancel(self, job_ids: Sequence[str]) -> Sequence[ItemResult]:
        """Cancel jobs; return one result for each, in order."""
        results = []
        for start in range(0, len(job_ids), BULK):
            request = job_pb2.CancelJobsRequest(job_ids=job_ids[start : start + BULK])
            with translated():
                answer = self._jobs.CancelJobs(request, timeout=CALL_SECONDS)
            results += [convert.item_result(item) for item in answer.results]
        return results

    def events(self, job_id: str) -> Iterator[JobEvent]:
        """Yield the moves of a job, oldest first."""
        token = ""
        while True:
            request = job_pb2.ListJobEventsRequest(job_id=job_id, page_size=PAGE, page_token=token)
            with translated():
                page = self._jobs.ListJobEvents(request, timeout=CALL_SECONDS)
            for message in page.events:
                yield convert.event(message)
            token = page.next_page_token
            if not token:
                return

    def logs(
        self,
        job_id: str,
        stream: LogStream = LogStream.STDOUT,
        *,
        follow: bool = False,
        offset: int = 0,
        attempt: int = 0,
    ) -> Iterator[LogChunk]:
        """Yield a log from an offset; with `follow`, until the job is final."""
        outage = _Outage()
        while True:
            request = job_pb2.GetLogRequest(
                job_id=job_id,
                stream=job_pb2.LogStream.ValueType(stream.value),
                offset=offset,
                follow=follow,
                attempt=attempt,
            )
            try:
                with translated():
                    for answer in self._jobs.GetLog(request, timeout=STREAM_SECONDS):
                        outage.over()
                        offset = answer.offset + len(answer.data)
                        yield convert.log_chunk(answer)
                return
            except PilotageError as error:
                if not (follow and error.reason is Reason.DEADLINE_EXCEEDED):
                    outage.pause(error, None)

    # sandboxes

    def upload(self, members: Mapping[str, Path]) -> str:
        """Pack files under the given names and store them; return the sandbox's SHA-256."""
        with tempfile.TemporaryFile(prefix="pilotage-") as file:
            packed = sandbox.pack_members(members, file)
            with translated():
                return upload(self._jobs, file, packed.sha256, packed.size_bytes)

    def download(self, sha256: str, out: IO[bytes]) -> int:
        """Fetch a sandbox as it is stored, verified by its digest; return its size."""
        with translated():
            return download(self._jobs, sha256, out)

    def fetch(self, job_id: str, directory: Path, *, overwrite: bool = False) -> Sequence[Path]:
        """Bring a job's outputs into a folder; nothing is written unless all of it is whole and safe."""
        job = self.get(job_id)
        digest = job.result.output_sandbox if job.result is not None else ""
        if not digest:
            raise no_outputs(job)
        with tempfile.TemporaryFile(prefix="pilotage-") as file:
            self.download(digest, file)
            file.seek(0)
            sandbox.check_archive(file)
            file.seek(0)
            try:
                directory.mkdir(parents=True, exist_ok=True)
                contents = sandbox.unpack(file, directory, overwrite=overwrite)
            except OSError as error:
                raise refuse(
                    Reason.INVALID_ARGUMENT, f"{error.filename or directory} cannot be written ({error.strerror})."
                ) from error
        return [directory / name for name in contents.names]


def no_outputs(job: Job) -> PilotageError:
    """Return the refusal to fetch what a job has not brought."""
    why = f" ({job.reason})" if job.reason else ""
    return refuse(Reason.SANDBOX_NOT_FOUND, f"Job {job.job_id} has brought no outputs; it is {job.state.label}{why}.")


def remembered(ask: Ask | None) -> Ask | None:
    """Ask for each file's pass phrase once: an identity is loaded anew for each login."""
    if ask is None:
        return None
    known: dict[Path, Secret] = {}

    def again(path: Path) -> Secret:
        if path not in known:
            known[path] = ask(path)
        return known[path]

    return again


class _Outage:
    """How long a server has been away, and whether to go on waiting for it.

    A server that has answered before is waited for; one that never did is told about at once.
    """

    def __init__(self) -> None:
        self._heard = False
        self._since: float | None = None
        self._refused_sessions = 0

    def over(self) -> None:
        """Note that it answers."""
        self._heard = True
        self._since = None
        self._refused_sessions = 0

    def pause(self, error: PilotageError, end: float | None) -> None:
        """Wait a moment before the next try, or raise when waiting does not help."""
        if error.reason in STALE and self._refused_sessions == 0:
            # The session is dropped already; the next try logs in anew.
            self._refused_sessions += 1
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if not self._heard or error.reason not in PASSING or now - self._since > PATIENCE_SECONDS:
            raise error
        time.sleep(PAUSE_SECONDS if end is None else max(0.0, min(PAUSE_SECONDS, end - now)))
