"""The asyncio twin of `pilotage.transport`: the same TLS, login, deadlines and errors.

The login itself runs in gRPC's own threads (its plug-ins always do), so the event loop never
waits for it.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

from pilotage.interceptors import CALL_SECONDS, STREAM_SECONDS, is_stale
from pilotage.login import IdentitySource, Login
from pilotage.transport import OPTIONS, make_login, mutual_credentials, parse_target, with_login
from pilotage.trust import ca_bundle
from pilotage.wire_errors import error_from
from pilotage.x509.files import LocalIdentity

__all__ = ["error_from", "open_channel", "open_mutual_channel"]

Request = TypeVar("Request")
Response = TypeVar("Response")


def open_channel(
    target: str,
    *,
    ca_dir: Path,
    identity: IdentitySource | None,
    audience: str | None = None,
) -> grpc.aio.Channel:
    """Open an asyncio channel whose every call shows a session of this identity; None calls without any."""
    place = parse_target(target)
    roots = grpc.ssl_channel_credentials(ca_bundle(ca_dir))
    if identity is None:
        return grpc.aio.secure_channel(place.address, roots, OPTIONS, interceptors=_interceptors(None))
    login = make_login(place, roots, identity, audience)
    return grpc.aio.secure_channel(place.address, with_login(roots, login), OPTIONS, interceptors=_interceptors(login))


def open_mutual_channel(target: str, *, ca_dir: Path, identity: LocalIdentity) -> grpc.aio.Channel:
    """Open an asyncio channel to a mutual-TLS port with an end-entity certificate; no login."""
    credentials = mutual_credentials(ca_dir, identity)
    return grpc.aio.secure_channel(parse_target(target).address, credentials, OPTIONS, interceptors=_interceptors(None))


def _interceptors(login: Login | None) -> list[grpc.aio.ClientInterceptor]:
    return [UnaryCalls(login), ResponseStreams(login), RequestStreams(login)]


def _with_deadline(details: grpc.aio.ClientCallDetails, seconds: float) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        method=details.method,
        timeout=seconds if details.timeout is None else details.timeout,
        metadata=details.metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


class _Failed:
    """A failed asyncio call's trailing metadata in the shape of a synchronous one."""

    def __init__(self, trailing: grpc.aio.Metadata) -> None:
        self._trailing = trailing

    def trailing_metadata(self) -> grpc.aio.Metadata:
        return self._trailing


class UnaryCalls(grpc.aio.UnaryUnaryClientInterceptor):
    """Calls with one request and one response."""

    def __init__(self, login: Login | None) -> None:
        self._login = login

    async def intercept_unary_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, Request], Awaitable[grpc.aio.UnaryUnaryCall[Request, Response]]
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Request,
    ) -> Response | grpc.aio.UnaryUnaryCall[Request, Response]:
        """Call, and once more with a fresh session if this one was refused."""
        details = _with_deadline(client_call_details, CALL_SECONDS)
        call = await continuation(details, request)
        if self._login is None:
            return call
        if await call.code() is grpc.StatusCode.UNAUTHENTICATED:
            number = self._login.number
            if is_stale(_Failed(await call.trailing_metadata())):
                self._login.forget(number)
                return await continuation(details, request)
        return call


class ResponseStreams(grpc.aio.UnaryStreamClientInterceptor):
    """Calls that answer with a stream."""

    def __init__(self, login: Login | None) -> None:
        self._login = login

    async def intercept_unary_stream(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, Request], Awaitable[grpc.aio.UnaryStreamCall[Request, Response]]
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Request,
    ) -> AsyncIterator[Response] | grpc.aio.UnaryStreamCall[Request, Response]:
        """Call; a refused session is dropped when the call ends."""
        call = await continuation(_with_deadline(client_call_details, STREAM_SECONDS), request)
        _watch(self._login, call)
        return call


class RequestStreams(grpc.aio.StreamUnaryClientInterceptor):
    """Calls whose request is a stream."""

    def __init__(self, login: Login | None) -> None:
        self._login = login

    async def intercept_stream_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, AsyncIterable[Request] | Iterable[Request]],
            Awaitable[grpc.aio.StreamUnaryCall[Request, Response]],
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: AsyncIterable[Request] | Iterable[Request],
    ) -> Response | grpc.aio.StreamUnaryCall[Request, Response]:
        """Call; a refused session is dropped when the call ends."""
        call = await continuation(_with_deadline(client_call_details, STREAM_SECONDS), request_iterator)
        _watch(self._login, call)
        return call


_watchers: set[asyncio.Task[None]] = set()
"""Keeps the small tasks below alive until they are done."""


def _watch(login: Login | None, call: grpc.aio.Call) -> None:
    if login is None:
        return
    known = login

    async def look() -> None:
        if await call.code() is grpc.StatusCode.UNAUTHENTICATED and is_stale(_Failed(await call.trailing_metadata())):
            known.forget(known.number)

    def over(_: object) -> None:
        task = asyncio.get_running_loop().create_task(look())
        _watchers.add(task)
        task.add_done_callback(_watchers.discard)

    call.add_done_callback(over)
