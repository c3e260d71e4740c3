"""The pilot's calls: the one module here that knows protos and gRPC.

Every call has a deadline. Those that may be repeated are, while the server is away; so a server that
is stopped and started while payloads run changes nothing for them.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

import grpc
import msgspec
from cryptography import x509

from pilotage.aio import error_from, open_channel
from pilotage.errors import PilotageError, VerifyError, refuse
from pilotage.login import IdentitySource
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.v1 import credential_pb2, credential_pb2_grpc, job_pb2, job_pb2_grpc, pilot_pb2, pilot_pb2_grpc
from pilotage.wire_errors import reason_of
from pilotage_pilot import wire
from pilotage_pilot.lease import Answer, Lease, Offer, Order, Report, Result, Stream
from pilotage_pilot.retry import PASSING, retry

CALL_SECONDS = 30.0
TRANSFER_SECONDS = 1800.0
PATIENCE_SECONDS = 24 * 3600.0
"""How long a result is offered to a server that is away; the server knows by then that the lease is over."""
CHUNK = 256 << 10
Reply = TypeVar("Reply")
ProxyRequest = TypeVar("ProxyRequest", credential_pb2.RetrieveCredentialRequest, credential_pb2.RenewCredentialRequest)
ProxyReply = credential_pb2.RetrieveCredentialResponse | credential_pb2.RenewCredentialResponse


class Registration(msgspec.Struct, frozen=True):
    """What the server said to a new pilot."""

    pilot_id: str
    heartbeat_seconds: float


class Acquired(msgspec.Struct, frozen=True):
    """What a call for work brought."""

    leases: tuple[Lease, ...]
    retry_seconds: float
    drain: bool


class Heard(msgspec.Struct, frozen=True):
    """What a heartbeat brought."""

    answers: tuple[Answer, ...]
    drain: bool


class Session:
    """One pilot's channel to its server."""

    def __init__(self, server: str, *, ca_dir: Path, identity: IdentitySource, audience: str | None = None) -> None:
        self._open = partial(open_channel, server, ca_dir=ca_dir, identity=identity, audience=audience)
        self._connect()

    def _connect(self) -> None:
        self._channel = self._open()
        self._pilots = pilot_pb2_grpc.PilotServiceStub(self._channel)
        self._jobs = job_pb2_grpc.JobServiceStub(self._channel)
        self._credentials = credential_pb2_grpc.CredentialServiceStub(self._channel)
        self._request_id = str(uuid.uuid4())
        self.pilot_id = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def reconnect(self) -> None:
        """Begin anew with the identity as it is now; only without leases, which are bound to the old key."""
        await self._channel.close()
        self._connect()

    async def register(self, offer: Offer, *, for_seconds: float) -> Registration:
        """Make this pilot known. A repeat with the same offer gives the same pilot id, so that leases outlive it."""
        request = pilot_pb2.RegisterPilotRequest(request_id=self._request_id, offer=wire.offer(offer))

        async def call() -> pilot_pb2.RegisterPilotResponse:
            return await _errors(self._pilots.RegisterPilot(request, timeout=CALL_SECONDS))

        reply = await retry("register", call, for_seconds=for_seconds)
        self.pilot_id = reply.pilot_id
        return Registration(reply.pilot_id, max(0.1, reply.heartbeat_interval.ToTimedelta().total_seconds()))

    async def acquire(self, slots: int, wait_seconds: float) -> Acquired:
        """Wait for work; not repeated, for each lease is given once."""
        request = pilot_pb2.AcquireJobsRequest(pilot_id=self.pilot_id, slots=slots, wait=wire.duration(wait_seconds))
        reply = await _errors(self._pilots.AcquireJobs(request, timeout=wait_seconds + CALL_SECONDS))
        return Acquired(
            tuple(wire.lease(lease) for lease in reply.leases),
            reply.retry_after.ToTimedelta().total_seconds(),
            reply.drain,
        )

    async def heartbeat(self, reports: Sequence[Report]) -> Heard:
        """Report all leases; the caller repeats it by its own clock."""
        request = pilot_pb2.HeartbeatRequest(
            pilot_id=self.pilot_id, reports=[wire.report(report) for report in reports]
        )
        reply = await _errors(self._pilots.Heartbeat(request, timeout=CALL_SECONDS))
        known = {int(order) for order in Order}
        answers = tuple(
            Answer(answer.lease_id, Order(int(answer.order)), answer.reason)
            for answer in reply.answers
            if int(answer.order) in known
        )
        return Heard(answers, reply.drain)

    async def finish(self, lease_id: str, result: Result, *, worker_node: str, pilot_uid: int) -> None:
        """End an attempt; the same result may be sent again and again."""
        message = wire.result(result, worker_node, pilot_uid)

        async def call() -> None:
            request = pilot_pb2.FinishJobRequest(pilot_id=self.pilot_id, lease_id=lease_id, result=message)
            await _errors(self._pilots.FinishJob(request, timeout=CALL_SECONDS))

        await retry("finish", call, for_seconds=PATIENCE_SECONDS)

    async def release(self, lease_id: str, reason: Reason, text: str) -> None:
        """Give back a job that was not started."""

        async def call() -> None:
            request = pilot_pb2.ReleaseJobRequest(
                pilot_id=self.pilot_id, lease_id=lease_id, reason=reason.name, message=text
            )
            await _errors(self._pilots.ReleaseJob(request, timeout=CALL_SECONDS))

        await retry("release", call, for_seconds=60)

    async def append_log(self, lease_id: str, stream: Stream, offset: int, data: bytes, *, truncated: bool) -> int:
        """Add to a payload's log and return how many bytes the server has."""
        request = pilot_pb2.AppendLogRequest(
            pilot_id=self.pilot_id,
            lease_id=lease_id,
            stream=job_pb2.LogStream.ValueType(int(stream)),
            offset=offset,
            data=data,
            truncated=truncated,
        )
        return (await _errors(self._pilots.AppendLog(request, timeout=CALL_SECONDS))).offset

    async def retrieve_credential(
        self, lease: Lease, certificate_request: bytes, lifetime: timedelta
    ) -> tuple[x509.Certificate, ...]:
        """Fetch the first proxy of a lease, for our own key."""
        return await self._proxy(
            credential_pb2.RetrieveCredentialRequest,
            lambda request: self._credentials.RetrieveCredential(request, timeout=CALL_SECONDS),
            lease.lease_id,
            (lease.token, lease.retrieval_key),
            certificate_request,
            lifetime,
        )

    async def renew_credential(
        self, lease_id: str, certificate_request: bytes, lifetime: timedelta
    ) -> tuple[x509.Certificate, ...]:
        """Fetch the next proxy of a lease whose payload runs, for a new key of our own."""
        return await self._proxy(
            credential_pb2.RenewCredentialRequest,
            lambda request: self._credentials.RenewCredential(request, timeout=CALL_SECONDS),
            lease_id,
            None,
            certificate_request,
            lifetime,
        )

    async def _proxy(
        self,
        kind: type[ProxyRequest],
        ask: Callable[[ProxyRequest], Awaitable[ProxyReply]],
        lease_id: str,
        given: tuple[Secret, Secret] | None,
        certificate_request: bytes,
        lifetime: timedelta,
    ) -> tuple[x509.Certificate, ...]:
        """Ask for a proxy, at first with the token and key that were given, if any.

        A token is good once. When an answer was lost nobody can tell whether it was used, so every further try
        asks for a fresh token first.
        """

        async def call() -> ProxyReply:
            nonlocal given
            shown, given = given, None
            token, key = shown or await self._refresh_token(lease_id)
            request = kind(
                credential_token=token.reveal_text(),
                retrieval_key=key.reveal(),
                certificate_request=certificate_request,
                lifetime=wire.duration(lifetime.total_seconds()),
            )
            return await _errors(ask(request))

        passing = PASSING | {Reason.TOKEN_EXPIRED}
        return _chain((await retry("ask for a proxy", call, for_seconds=300, passing=passing)).chain)

    async def _refresh_token(self, lease_id: str) -> tuple[Secret, Secret]:
        request = pilot_pb2.RefreshCredentialTokenRequest(pilot_id=self.pilot_id, lease_id=lease_id)
        reply = await _errors(self._pilots.RefreshCredentialToken(request, timeout=CALL_SECONDS))
        return Secret(reply.credential_token), Secret(reply.retrieval_key)

    async def download(self, lease_id: str, sha256: str, target: Path, max_bytes: int) -> None:
        """Fetch an input sandbox and check that it is the one named."""

        async def call() -> None:
            request = job_pb2.DownloadSandboxRequest(sha256=sha256, lease_id=lease_id)
            digest, size = hashlib.sha256(), 0
            with await asyncio.to_thread(target.open, "wb") as file:
                try:
                    async for part in self._jobs.DownloadSandbox(request, timeout=TRANSFER_SECONDS):
                        size += len(part.data)
                        if size > max_bytes:
                            raise refuse(
                                Reason.SANDBOX_TOO_LARGE, f"The input sandbox has more than {max_bytes} bytes."
                            )
                        digest.update(part.data)
                        await asyncio.to_thread(file.write, part.data)
                except grpc.RpcError as error:
                    raise _told(error) from None
            if digest.hexdigest() != sha256:
                raise refuse(Reason.SANDBOX_DIGEST_MISMATCH, "The input sandbox that arrived is not the one named.")

        await retry("download the input sandbox", call, for_seconds=600)

    async def upload(self, lease_id: str, source: BinaryIO, sha256: str, size: int) -> None:
        """Store a payload's outputs; begun anew when the server went away meanwhile."""

        async def parts() -> AsyncIterator[job_pb2.UploadSandboxRequest]:
            yield job_pb2.UploadSandboxRequest(
                header=job_pb2.SandboxHeader(sha256=sha256, size_bytes=size, lease_id=lease_id)
            )
            while data := await asyncio.to_thread(source.read, CHUNK):
                yield job_pb2.UploadSandboxRequest(data=data)

        async def call() -> None:
            await asyncio.to_thread(source.seek, 0)
            await _errors(self._jobs.UploadSandbox(parts(), timeout=TRANSFER_SECONDS))

        await retry("upload the outputs", call, for_seconds=PATIENCE_SECONDS)

    async def deregister(self) -> None:
        """Say good-bye; tried once, for the server finds out by itself."""
        request = pilot_pb2.DeregisterPilotRequest(pilot_id=self.pilot_id)
        await _errors(self._pilots.DeregisterPilot(request, timeout=5))


def _chain(ders: Iterable[bytes]) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_der_x509_certificate(der) for der in ders)
    except ValueError as error:
        raise refuse(Reason.PROXY_MALFORMED, "The service sent a chain that cannot be read.") from error


async def _errors(call: Awaitable[Reply]) -> Reply:
    try:
        return await call
    except grpc.RpcError as error:
        raise _told(error) from None


def _told(error: grpc.RpcError) -> PilotageError:
    """Return the error of a call. A refusal of our own proxy at login must not look like one of the owner's."""
    told = error_from(error)
    if reason_of(error) is None and isinstance(told, VerifyError):
        return refuse(Reason.UNAUTHENTICATED, f"The pilot's own login is refused: {told}")
    return told
