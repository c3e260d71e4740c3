"""What happens around each synchronous call: a deadline, a session, and a successor for a refused one.

A unary call whose session was refused is tried once more after a fresh login. A stream cannot be
repeated here (part of it may have been used), so its session is only dropped: the error says
that trying again helps, and the next call logs in anew.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import grpc

from pilotage.login import Login, LoginPlugin
from pilotage.reasons import Reason
from pilotage.wire_errors import reason_of

if TYPE_CHECKING:
    from grpc import _CallFuture, _CallIterator

CALL_SECONDS = 60.0
STREAM_SECONDS = 3600.0
STALE = (Reason.SESSION_EXPIRED, Reason.SESSION_INVALID)
"""Refusals that a fresh login may cure."""

Request = TypeVar("Request")
Response = TypeVar("Response")


class Details(NamedTuple):
    """A call's details with the deadline and the session filled in."""

    method: str
    timeout: float | None
    metadata: object
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


def is_stale(call: object) -> bool:
    """Return whether a failed call was refused for its session."""
    return reason_of(call) in STALE


def with_deadlines(channel: grpc.Channel, login: Login | None) -> grpc.Channel:
    """Return the channel with these interceptors around its calls; each call shows a session of the login."""
    show = None if login is None else grpc.metadata_call_credentials(LoginPlugin(login))
    return grpc.intercept_channel(
        channel, UnaryCalls(login, show), ResponseStreams(login, show), RequestStreams(login, show)
    )


def _completed(
    details: grpc.ClientCallDetails, seconds: float, show: grpc.CallCredentials | None
) -> grpc.ClientCallDetails:
    return Details(  # type: ignore[return-value]  # gRPC reads attributes; its stub knows one class only
        details.method,
        seconds if details.timeout is None else details.timeout,
        details.metadata,
        show if details.credentials is None else details.credentials,
        getattr(details, "wait_for_ready", None),
        getattr(details, "compression", None),
    )


class UnaryCalls(grpc.UnaryUnaryClientInterceptor):
    """Calls with one request and one response."""

    def __init__(self, login: Login | None, show: grpc.CallCredentials | None) -> None:
        self._login = login
        self._show = show

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Request], "_CallFuture[Response]"],
        client_call_details: grpc.ClientCallDetails,
        request: Request,
    ) -> "_CallFuture[Response]":
        """Call, and once more with a fresh session if this one was refused."""
        details = _completed(client_call_details, CALL_SECONDS, self._show)
        call = continuation(details, request)
        if self._login is None:
            return call
        number = self._login.number
        if call.exception() is not None and is_stale(call):
            self._login.forget(number)
            return continuation(details, request)
        return call


class ResponseStreams(grpc.UnaryStreamClientInterceptor):
    """Calls that answer with a stream."""

    def __init__(self, login: Login | None, show: grpc.CallCredentials | None) -> None:
        self._login = login
        self._show = show

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Request], "_CallIterator[Response]"],
        client_call_details: grpc.ClientCallDetails,
        request: Request,
    ) -> "_CallIterator[Response]":
        """Call, and drop the session when it is refused."""
        call = continuation(_completed(client_call_details, STREAM_SECONDS, self._show), request)
        _watch(self._login, call)
        return call


class RequestStreams(grpc.StreamUnaryClientInterceptor):
    """Calls whose request is a stream."""

    def __init__(self, login: Login | None, show: grpc.CallCredentials | None) -> None:
        self._login = login
        self._show = show

    def intercept_stream_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Iterator[Request]], "_CallFuture[Response]"],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: Iterator[Request],
    ) -> "_CallFuture[Response]":
        """Call, and drop the session when it is refused."""
        call = continuation(_completed(client_call_details, STREAM_SECONDS, self._show), request_iterator)
        if self._login is not None and call.exception() is not None and is_stale(call):
            self._login.forget(self._login.number)
        return call


def _watch(login: Login | None, call: grpc.Call) -> None:
    if login is None:
        return
    known = login

    def over() -> None:
        if call.code() is grpc.StatusCode.UNAUTHENTICATED and is_stale(call):
            known.forget(known.number)

    if not call.add_callback(over):
        over()
