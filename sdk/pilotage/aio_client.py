"""The asyncio twin of `pilotage.client.Client`: the same methods, awaited or iterated with `async for`."""

import asyncio
import datetime
import hashlib
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self, TypeVar

import msgspec

from pilotage import convert, sandbox
from pilotage.aio import open_channel
from pilotage.client import BULK, CALL_SECONDS, DEFAULT_WALL, MARGIN, PAGE, STREAM_SECONDS, no_outputs
from pilotage.config import data_home
from pilotage.delegation import (
    KeyKeeper,
    Sealed,
    begin_request,
    complete_request,
    not_told,
    rebind_request,
    reusable,
    told,
    told_of_jobs,
)
from pilotage.errors import PilotageError, refuse
from pilotage.jobs import Caller, Credential, ItemResult, Job, JobEvent, JobSpec, LogChunk, LogStream, Rebound
from pilotage.login import IdentitySource
from pilotage.reasons import Reason
from pilotage.states import JobState
from pilotage.transfer import PIECE_BYTES, TRANSFER_SECONDS
from pilotage.trust import find_ca_dir
from pilotage.v1 import auth_pb2, auth_pb2_grpc, credential_pb2, credential_pb2_grpc, job_pb2, job_pb2_grpc
from pilotage.wire_errors import translated
from pilotage.x509.files import LocalIdentity, find_identity
from pilotage.x509.keys import KeyKind

Message = TypeVar("Message")


class AsyncClient:
    """One caller at one server, on one event loop. Files are packed and unpacked in threads."""

    def __init__(
        self,
        server: str,
        *,
        ca_dir: Path | None = None,
        identity: IdentitySource | None = None,
        audience: str | None = None,
        environ: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._source = identity if identity is not None else lambda: find_identity(environ, os.geteuid())
        self._channel = open_channel(
            server, ca_dir=ca_dir or find_ca_dir(environ), identity=self._source, audience=audience
        )
        self._jobs = job_pb2_grpc.JobServiceStub(self._channel)
        self._auth = auth_pb2_grpc.AuthServiceStub(self._channel)
        self._credentials = credential_pb2_grpc.CredentialServiceStub(self._channel)
        home = data_home(environ)
        self._keys = KeyKeeper(home / "retrieval-keys") if home else None
        self._say = say

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def whoami(self) -> Caller:
        """Ask the server how it sees this caller."""
        return convert.caller(await _call(self._auth.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=CALL_SECONDS)))

    # credentials

    async def delegate(
        self,
        lifetime: datetime.timedelta,
        *,
        name: str = "",
        kind: KeyKind = KeyKind.RSA_2048,
        shorten: bool = False,
    ) -> Sealed:
        """Delegate a new credential, keep its retrieval key, and release the jobs that were held for want of it."""
        sealed = await self._delegate(lifetime, name=name, kind=kind, shorten=shorten)
        await self._release(sealed)
        return sealed

    async def rebind(self, sealed: Sealed) -> Rebound:
        """Give a credential to the caller's jobs that wait for one of its VO and role."""
        return convert.rebound(await _call(self._jobs.RebindCredential(rebind_request(sealed), timeout=CALL_SECONDS)))

    async def _release(self, sealed: Sealed) -> None:
        try:
            line = told_of_jobs(await self.rebind(sealed))
        except PilotageError as error:
            line = not_told(error)
        if line:
            self._say(line)

    async def _delegate(self, lifetime: datetime.timedelta, *, name: str, kind: KeyKind, shorten: bool) -> Sealed:
        begun = await _call(self._credentials.BeginDelegation(begin_request(kind), timeout=CALL_SECONDS))
        request, key = complete_request(
            begun, self._identity(), lifetime=lifetime, now=_now(), name=name, shorten=shorten
        )
        done = await _call(self._credentials.CompleteDelegation(request, timeout=CALL_SECONDS))
        sealed = Sealed(credential=convert.credential(done.credential), retrieval_key=key)
        if self._keys is not None and (problem := await asyncio.to_thread(self._keys.try_keep, sealed)):
            self._say(problem)
        return sealed

    async def list_credentials(self) -> AsyncIterator[Credential]:
        """Yield the caller's credentials."""
        token = ""
        while True:
            request = credential_pb2.ListCredentialsRequest(page_size=PAGE, page_token=token)
            page = await _call(self._credentials.ListCredentials(request, timeout=CALL_SECONDS))
            for message in page.credentials:
                yield convert.credential(message)
            token = page.next_page_token
            if not token:
                return

    async def destroy_credential(self, credential_id: str) -> Credential:
        """Make the service forget a credential at once, and forget its retrieval key here."""
        request = credential_pb2.DestroyCredentialRequest(credential_id=credential_id)
        answer = await _call(self._credentials.DestroyCredential(request, timeout=CALL_SECONDS))
        if self._keys is not None:
            self._keys.forget(credential_id)
        return convert.credential(answer.credential)

    # jobs

    async def submit(
        self,
        specs: Sequence[JobSpec],
        *,
        members: Mapping[str, Path] | None = None,
        credential_name: str = "",
        credential_lifetime: datetime.timedelta = datetime.timedelta(days=7),
        hold: bool = False,
        request_id: str | None = None,
    ) -> Sequence[str]:
        """Submit jobs that share one input sandbox (name -> file) and one credential.

        Where no credential lives long enough they are refused, or with `hold` held until there is one that does.
        """
        if members:
            digest = await self.upload(members)
            specs = [msgspec.structs.replace(spec, input_sandbox=digest) for spec in specs]
        longest = max((spec.wall_seconds for spec in specs), default=0)
        needed = (datetime.timedelta(seconds=longest) if longest else DEFAULT_WALL) + MARGIN
        sealed = await self._ready(needed, credential_lifetime, credential_name)
        request = job_pb2.SubmitJobsRequest(
            request_id=request_id or str(uuid.uuid4()),
            specs=[convert.spec_to_message(spec) for spec in specs],
            credential_id=sealed.credential.credential_id,
            retrieval_key=sealed.retrieval_key.reveal(),
            hold=hold,
        )
        return list((await _call(self._jobs.SubmitJobs(request, timeout=CALL_SECONDS))).job_ids)

    async def get(self, job_id: str) -> Job:
        """Return a job of the caller's."""
        request = job_pb2.GetJobRequest(job_id=job_id)
        return convert.job((await _call(self._jobs.GetJob(request, timeout=CALL_SECONDS))).job)

    async def list(self, states: Sequence[JobState] = ()) -> AsyncIterator[Job]:
        """Yield the caller's jobs, newest first."""
        token = ""
        numbers = [job_pb2.JobState.ValueType(state.value) for state in states]
        while True:
            request = job_pb2.ListJobsRequest(page_size=PAGE, page_token=token, states=numbers)
            page = await _call(self._jobs.ListJobs(request, timeout=CALL_SECONDS))
            for message in page.jobs:
                yield convert.job(message)
            token = page.next_page_token
            if not token:
                return

    async def watch(self, job_ids: Sequence[str], *, timeout: float = STREAM_SECONDS) -> AsyncIterator[Job]:  # noqa: ASYNC109
        """Yield each job at once and at every change, until all are final; DEADLINE_EXCEEDED after `timeout`."""
        for start in range(0, len(job_ids), BULK):
            request = job_pb2.WatchJobsRequest(job_ids=job_ids[start : start + BULK])
            with translated():
                async for answer in self._jobs.WatchJobs(request, timeout=timeout):
                    yield convert.job(answer.job)

    async def cancel(self, job_ids: Sequence[str]) -> Sequence[ItemResult]:
        """Cancel at most 1000 jobs; return one result for each, in order."""
        request = job_pb2.CancelJobsRequest(job_ids=job_ids)
        answer = await _call(self._jobs.CancelJobs(request, timeout=CALL_SECONDS))
        return [convert.item_result(item) for item in answer.results]

    async def events(self, job_id: str) -> AsyncIterator[JobEvent]:
        """Yield the moves of a job, oldest first."""
        token = ""
        while True:
            request = job_pb2.ListJobEventsRequest(job_id=job_id, page_size=PAGE, page_token=token)
            page = await _call(self._jobs.ListJobEvents(request, timeout=CALL_SECONDS))
            for message in page.events:
                yield convert.event(message)
            token = page.next_page_token
            if not token:
                return

    async def logs(
        self, job_id: str, stream: LogStream = LogStream.STDOUT, *, follow: bool = False, offset: int = 0
    ) -> AsyncIterator[LogChunk]:
        """Yield the newest attempt's log from an offset; with `follow`, until the job is final."""
        number = job_pb2.LogStream.ValueType(stream.value)
        request = job_pb2.GetLogRequest(job_id=job_id, stream=number, offset=offset, follow=follow)
        with translated():
            async for answer in self._jobs.GetLog(request, timeout=STREAM_SECONDS):
                yield convert.log_chunk(answer)

    # sandboxes

    async def upload(self, members: Mapping[str, Path]) -> str:
        """Pack files under the given names and store them; return the sandbox's SHA-256."""
        with tempfile.TemporaryFile(prefix="pilotage-") as file:
            packed = await asyncio.to_thread(sandbox.pack_members, members, file)
            file.seek(0)
            pieces = _pieces(file, packed.sha256, packed.size_bytes)
            return (await _call(self._jobs.UploadSandbox(pieces, timeout=TRANSFER_SECONDS))).sha256

    async def fetch(self, job_id: str, directory: Path, *, overwrite: bool = False) -> Sequence[Path]:
        """Bring a job's outputs into a folder; nothing is written unless all of it is whole and safe."""
        job = await self.get(job_id)
        digest = job.result.output_sandbox if job.result is not None else ""
        if not digest:
            raise no_outputs(job)
        with tempfile.TemporaryFile(prefix="pilotage-") as file:
            await self._download(digest, file)
            file.seek(0)
            contents = await asyncio.to_thread(_unpack, file, directory, overwrite)
        return [directory / name for name in contents.names]

    async def _download(self, sha256: str, out: IO[bytes]) -> None:
        found = hashlib.sha256()
        with translated():
            request = job_pb2.DownloadSandboxRequest(sha256=sha256)
            async for answer in self._jobs.DownloadSandbox(request, timeout=TRANSFER_SECONDS):
                found.update(answer.data)
                out.write(answer.data)
        if found.hexdigest() != sha256:
            raise refuse(Reason.SANDBOX_DIGEST_MISMATCH)

    async def _ready(self, needed: datetime.timedelta, lifetime: datetime.timedelta, name: str) -> Sealed:
        stored = [credential async for credential in self.list_credentials()]
        if self._keys is not None:
            found = reusable(
                stored, self._keys.find, await self.whoami(), self._identity(), name=name, needed=needed, now=_now()
            )
            if found is not None:
                return found
        sealed = await self._delegate(lifetime, name=name, kind=KeyKind.RSA_2048, shorten=True)
        self._say(told(sealed.credential, stored, _now()))
        await self._release(sealed)
        return sealed

    def _identity(self) -> LocalIdentity:
        return self._source if isinstance(self._source, LocalIdentity) else self._source()


def _unpack(file: IO[bytes], directory: Path, overwrite: bool) -> sandbox.Contents:
    directory.mkdir(parents=True, exist_ok=True)
    return sandbox.unpack(file, directory, overwrite=overwrite)


async def _call(call: Awaitable[Message]) -> Message:
    with translated():
        return await call


async def _pieces(file: IO[bytes], sha256: str, size_bytes: int) -> AsyncIterator[job_pb2.UploadSandboxRequest]:
    yield job_pb2.UploadSandboxRequest(header=job_pb2.SandboxHeader(sha256=sha256, size_bytes=size_bytes))
    while piece := file.read(PIECE_BYTES):
        yield job_pb2.UploadSandboxRequest(data=piece)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
