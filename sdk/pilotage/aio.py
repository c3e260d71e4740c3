"""The asyncio twin of `pilotage.transport`: the same TLS, login, deadlines and errors.

The login goes over the channel itself. Reading the identity and signing are done in a thread, so the event loop never
waits for them.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

from pilotage.errors import PilotageError, refuse
from pilotage.interceptors import CALL_SECONDS, STREAM_SECONDS, is_stale
from pilotage.login import LOGIN_SECONDS, LOST, Bearer, IdentitySource, Session
from pilotage.reasons import Reason
from pilotage.transport import OPTIONS, mutual_credentials, parse_target
from pilotage.trust import ca_bundle
from pilotage.v1 import auth_pb2, auth_pb2_grpc
from pilotage.wire_errors import LOGIN_FAILED, error_from
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
    login = AsyncLogin(Bearer(identity, host=place.host, audience=audience))
    channel = grpc.aio.secure_channel(place.address, roots, OPTIONS, interceptors=_interceptors(login))
    login.over(channel)
    return channel


def open_mutual_channel(target: str, *, ca_dir: Path, identity: LocalIdentity) -> grpc.aio.Channel:
    """Open an asyncio channel to a mutual-TLS port with an end-entity certificate; no login."""
    credentials = mutual_credentials(ca_dir, identity)
    return grpc.aio.secure_channel(parse_target(target).address, credentials, OPTIONS, interceptors=_interceptors(None))


class AsyncLogin:
    """Log a bearer in over the channel of its calls.

    Whoever calls meanwhile waits for the same login, which goes on when the call that began it is over.
    """

    METHODS = ("/pilotage.v1.AuthService/BeginLogin", "/pilotage.v1.AuthService/Login")
    """The calls that show no session, because they are the login."""

    def __init__(self, bearer: Bearer) -> None:
        self._bearer = bearer
        self._under_way: asyncio.Task[Session] | None = None

    def over(self, channel: grpc.aio.Channel) -> None:
        """Say over which channel to log in, before the first call."""
        self._stub = auth_pb2_grpc.AuthServiceStub(channel)

    async def session(self) -> Session:
        """Return a session that will do for now, after a login if need be."""
        present = self._bearer.present
        if present is not None:
            return present
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.get_running_loop().create_task(self._log_in())
            self._under_way.add_done_callback(_heed)
        return await asyncio.shield(self._under_way)

    def forget(self, number: int) -> None:
        """Drop a session that the server refused, unless a newer one has taken its place."""
        self._bearer.forget(number)

    async def _log_in(self) -> Session:
        identity = await asyncio.to_thread(self._bearer.identity)
        try:
            return self._bearer.keep(await self._prove(identity))
        except PilotageError as error:
            if error.reason not in LOST:
                raise
            return self._bearer.keep(await self._prove(identity))

    async def _prove(self, identity: LocalIdentity) -> auth_pb2.LoginResponse:
        try:
            begun = await self._stub.BeginLogin(auth_pb2.BeginLoginRequest(), timeout=LOGIN_SECONDS)
            request = await asyncio.to_thread(self._bearer.request, identity, begun)
            return await self._stub.Login(request, timeout=LOGIN_SECONDS)
        except grpc.RpcError as error:
            raise error_from(error) from None


def _heed(login: asyncio.Task[Session]) -> None:
    """Take note of a login's failure, which perhaps nobody waits for any more."""
    if not login.cancelled():
        login.exception()


def _interceptors(login: AsyncLogin | None) -> list[grpc.aio.ClientInterceptor]:
    return [UnaryCalls(login), ResponseStreams(login), RequestStreams(login)]


async def _completed(
    login: AsyncLogin | None, details: grpc.aio.ClientCallDetails, seconds: float
) -> tuple[grpc.aio.ClientCallDetails, int]:
    """Return a call's details with the deadline and the session filled in, and the session's number.

    The deadline is that of the login and the call together. The channel is TLS whatever happens, so the session leaves
    this process over nothing else.
    """
    left = seconds if details.timeout is None else details.timeout
    metadata, number = details.metadata, 0
    if login is not None and details.credentials is None and _name(details.method) not in AsyncLogin.METHODS:
        end = asyncio.get_running_loop().time() + left
        session = await _session(login, left)
        left = max(end - asyncio.get_running_loop().time(), 0.0)
        number = session.number
        shown = ("authorization", f"Bearer {session.token.reveal_text()}")
        metadata = grpc.aio.Metadata(*(metadata or ()), shown)
    return (
        grpc.aio.ClientCallDetails(
            method=details.method,
            timeout=left,
            metadata=metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        ),
        number,
    )


async def _session(login: AsyncLogin, seconds: float) -> Session:
    """Return the session to show; a login that fails is a failed call, as gRPC has it."""
    try:
        async with asyncio.timeout(seconds):
            return await login.session()
    except PilotageError as error:
        failure = error
    except TimeoutError:
        failure = refuse(Reason.DEADLINE_EXCEEDED)
    except Exception as error:
        # The caller is shown this text; a foreign error's own words could hold anything.
        failure = refuse(Reason.INTERNAL, f"The login failed in this client ({type(error).__name__}).")
    code = next(code for code in grpc.StatusCode if code.value[0] == failure.reason.row.code.value)
    raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), f"{LOGIN_FAILED}{failure}")


def _name(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method


class _Failed:
    """A failed asyncio call's trailing metadata in the shape of a synchronous one."""

    def __init__(self, trailing: grpc.aio.Metadata) -> None:
        self._trailing = trailing

    def trailing_metadata(self) -> grpc.aio.Metadata:
        return self._trailing


class UnaryCalls(grpc.aio.UnaryUnaryClientInterceptor):
    """Calls with one request and one response."""

    def __init__(self, login: AsyncLogin | None) -> None:
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
        details, number = await _completed(self._login, client_call_details, CALL_SECONDS)
        call = await continuation(details, request)
        if self._login is None or number == 0 or await call.code() is not grpc.StatusCode.UNAUTHENTICATED:
            return call
        if not is_stale(_Failed(await call.trailing_metadata())):
            return call
        self._login.forget(number)
        details, _ = await _completed(self._login, client_call_details, CALL_SECONDS)
        return await continuation(details, request)


class ResponseStreams(grpc.aio.UnaryStreamClientInterceptor):
    """Calls that answer with a stream."""

    def __init__(self, login: AsyncLogin | None) -> None:
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
        details, number = await _completed(self._login, client_call_details, STREAM_SECONDS)
        call = await continuation(details, request)
        _watch(self._login, number, call)
        return call


class RequestStreams(grpc.aio.StreamUnaryClientInterceptor):
    """Calls whose request is a stream."""

    def __init__(self, login: AsyncLogin | None) -> None:
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
        details, number = await _completed(self._login, client_call_details, STREAM_SECONDS)
        call = await continuation(details, request_iterator)
        _watch(self._login, number, call)
        return call


_watchers: set[asyncio.Task[None]] = set()
"""Keeps the small tasks below alive until they are done."""


def _watch(login: AsyncLogin | None, number: int, call: grpc.aio.Call) -> None:
    if login is None or number == 0:
        return
    known = login

    async def look() -> None:
        if await call.code() is grpc.StatusCode.UNAUTHENTICATED and is_stale(_Failed(await call.trailing_metadata())):
            known.forget(number)

    def over(_: object) -> None:
        task = asyncio.get_running_loop().create_task(look())
        _watchers.add(task)
        task.add_done_callback(_watchers.discard)

    call.add_done_callback(over)
