"""From a failed call to the one exception tree.

A Pilotage server puts its reason into `google.rpc.ErrorInfo`; what comes from gRPC itself
(no connection, deadline) is told apart by its status code.
"""

import contextlib
import re
import urllib.parse
from collections.abc import Iterator

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason

DOMAIN = "pilotage"
DETAILS_KEY = "grpc-status-details-bin"
_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: Reason.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE: Reason.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED: Reason.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Reason.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED: Reason.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: Reason.UNAVAILABLE,
    grpc.StatusCode.CANCELLED: Reason.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.RATE_LIMITED,
}
_NO_ADDRESS = re.compile(r"address lookup failed for (\S+): ")
_LAST = re.compile(r"failed to connect to all addresses; last error: \w+: (?:ipv[46]:)?(.+)", re.DOTALL)
LOGIN_FAILED = "login failed with error: "
"""What stands before the reason when a call was not made because its login failed; gRPC's plug-ins say it likewise."""
_LOGIN = re.compile(r"(?:login|plugin) failed with error: ([A-Z0-9_]+): (.*)", re.DOTALL)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn gRPC's errors into ours."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_from(error) from None


def error_from(error: grpc.RpcError) -> PilotageError:
    """Return the error that a failed call (sync or asyncio) stands for."""
    code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    details = (error.details() or "") if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else ""
    reason = reason_of(error)
    if reason is not None:
        return refuse(reason, details)
    if (ours := _LOGIN.search(details)) and ours[1] in Reason.__members__:
        return refuse(Reason[ours[1]], ours[2])
    reason = _BY_CODE.get(code, Reason.INTERNAL)
    if reason is Reason.UNAVAILABLE:
        return refuse(reason, _why_unreachable(details))
    if reason is Reason.DEADLINE_EXCEEDED:
        return refuse(reason)
    return refuse(reason, f"The server answered {code.name}: {details or 'no details'}")


def reason_of(call: object) -> Reason | None:
    """Return the reason code in a call's trailing metadata, if a Pilotage server put one there."""
    trailing = getattr(call, "trailing_metadata", None)
    for key, value in (trailing() if callable(trailing) else None) or ():
        if key != DETAILS_KEY:
            continue
        status = status_pb2.Status()
        info = error_details_pb2.ErrorInfo()
        try:
            status.ParseFromString(value)
            for detail in status.details:
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return Reason.__members__.get(info.reason)
        except DecodeError:
            return None
    return None


def _why_unreachable(details: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
        return (
            "The server did not prove who it is: its certificate is signed by no authority of the CA directory "
            "or is for another host name."
        )
    if "SSL_ERROR" in details or "handshake" in details.lower():
        return f"The server does not speak TLS as expected: {_shorten(details)}"
    if unknown := _NO_ADDRESS.search(details):
        return f"The server cannot be reached: no address is known for {unknown[1]}."
    if last := _LAST.search(details):
        details = urllib.parse.unquote(last[1]).replace("Failed to connect to remote host: ", "").rstrip(".") + "."
    return f"The server cannot be reached: {_shorten(details)}"


def _shorten(details: str) -> str:
    return details[:300] or "the connection was lost"
