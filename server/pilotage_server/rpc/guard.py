"""The guard: every call, unary or streaming, passes it before a handler sees it.

It proves who is calling (session token, or the peer certificate of the mutual-TLS port), asks the one
table whether that caller may, makes the principal known to the handler, turns refusals into statuses,
keeps faults inside, and writes one line a call: of those that fail, or of all.
"""

import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Protocol, cast

import grpc
import grpc.aio
import msgspec
import structlog

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server import metrics
from pilotage_server.auth.current import set_principal
from pilotage_server.auth.mutual import Peers
from pilotage_server.auth.policy import Policy
from pilotage_server.auth.sessions import Sessions
from pilotage_server.clock import Clock
from pilotage_server.logs import fault
from pilotage_server.principal import Principal
from pilotage_server.rpc.status import WireStatus

log = structlog.get_logger("pilotage.rpc")

TLS_VERSION = b"TLSv1.3"
LARGEST_TOKEN = 16 * 1024


class Handler(Protocol):
    """What gRPC knows of one method; messages pass as whatever the stubs made them."""

    request_streaming: bool
    response_streaming: bool
    # The (de)serialisers and behaviours are of the generated stubs' types, which differ by method.
    request_deserializer: Callable[[bytes], object] | None
    response_serializer: Callable[[object], bytes] | None
    unary_unary: Callable[..., object] | None
    unary_stream: Callable[..., object] | None
    stream_unary: Callable[..., object] | None
    stream_stream: Callable[..., object] | None


Context = grpc.aio.ServicerContext[object, object]
Unary = Callable[[object, Context], Awaitable[object]]
Stream = Callable[[object, Context], AsyncIterator[object]]


TOKENS = "/pilotage.v1.PilotService/RefreshCredentialToken"
NOT_THEIRS = (Reason.LEASE_FOREIGN, Reason.LEASE_NOT_FOUND)
"""What a pilot is told that asks for the credential token of a lease which it never had: that is on record."""
OPEN_TO_BANNED = ("/pilotage.v1.AuthService/WhoAmI", "/grpc.health.v1.Health/Check")


class Gate(Protocol):
    """Knows who is shut out."""

    def check(self, caller: Principal) -> None:
        """Raise CALLER_BANNED for one who is."""
        ...


class Gates:
    """Several gates, one behind the other."""

    def __init__(self, *gates: Gate) -> None:
        self._gates = gates

    def check(self, caller: Principal) -> None:
        """Raise what the first gate says that does not let a caller pass."""
        for gate in self._gates:
            gate.check(caller)


class Witness(Protocol):
    """Keeps the record of calls that somebody known was not allowed to make."""

    async def not_allowed(self, caller: Principal, method: str, error: PilotageError) -> None:
        """Record one."""
        ...


class Guard(grpc.aio.ServerInterceptor):
    """Authenticate, authorise, answer for errors, and log."""

    def __init__(
        self,
        policy: Policy,
        sessions: Sessions,
        peers: Peers,
        gate: Gate,
        witness: Witness,
        clock: Clock,
        *,
        log_all: bool = False,
    ) -> None:
        self._policy = policy
        self._sessions = sessions
        self._peers = peers
        self._gate = gate
        self._witness = witness
        self._clock = clock
        self._log_all = log_all
        self._wrapped: dict[str, grpc.RpcMethodHandler[object, object]] = {}

    async def intercept_service(self, continuation, handler_call_details):  # type: ignore[no-untyped-def]
        """Return the guarded handler of a method; an unknown method is gRPC's UNIMPLEMENTED."""
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return self._wrapped.setdefault(method, self._wrap(method, handler))

    def _wrap(self, method: str, handler: Handler) -> "grpc.RpcMethodHandler[object, object]":
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if behaviour is None or not (inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)):
            # The stubs' base classes answer with plain functions; ours are all asynchronous.
            behaviour = _not_implemented_stream if handler.response_streaming else _not_implemented
        guarded: Unary | Stream
        if inspect.isasyncgenfunction(behaviour):
            guarded = self._guard_stream(method, cast(Stream, behaviour))
        else:
            guarded = self._guard_unary(method, cast(Unary, behaviour))
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(
            guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guard_unary(self, method: str, behaviour: Unary) -> Unary:
        """Guard a coroutine handler; one that writes a stream through the context is one, too."""

        async def guarded(request: object, context: Context) -> object:
            async with self._call(method, context):
                return await behaviour(request, context)

        return guarded

    def _guard_stream(self, method: str, behaviour: Stream) -> Stream:
        async def guarded(request: object, context: Context) -> AsyncIterator[object]:
            async with self._call(method, context) as caller:
                messages = behaviour(request, context)
                async with contextlib.aclosing(messages):  # type: ignore[type-var]
                    async for message in messages:
                        if caller is not None and self._clock() >= caller.expire_time:
                            raise refuse(Reason.SESSION_EXPIRED)
                        if caller is not None:
                            self._gate.check(caller)
                        yield message

        return guarded

    @contextlib.asynccontextmanager
    async def _call(self, method: str, context: Context) -> AsyncIterator[Principal | None]:
        """Surround one call. gRPC runs each in a task, and so in a context, of its own."""
        began = time.perf_counter()
        # A caller who leaves has the stream closed after gRPC gave the call's memory back: nothing may ask it then.
        peer = context.peer()
        caller: Principal | None = None
        refusal: PilotageError | None = None
        outcome = "CANCELLED"
        try:
            caller = await self._authenticate(context, peer)
            await self._authorise(method, caller)
            set_principal(caller)
            yield caller
            outcome = "OK"
        except PilotageError as error:
            refusal = error
            outcome = error.reason.name
            if caller is not None and method == TOKENS and error.reason in NOT_THEIRS:
                await self._witness.not_allowed(caller, method, error)
        except grpc.aio.AbortError:
            outcome = "ABORTED"
            raise
        except Exception as error:
            refusal = refuse(Reason.INTERNAL)
            outcome = refusal.reason.name
            log.error("fault", method=method, fault=fault(error))
        finally:
            set_principal(None)
            took = time.perf_counter() - began
            metrics.call(method, outcome, took)
            if self._log_all or outcome != "OK":
                log.info(
                    "call",
                    method=method,
                    principal=caller.dn if caller else "",
                    reason=outcome,
                    ms=round(took * 1000, 2),
                    peer=peer,
                )
        if refusal is not None:
            status = WireStatus(refusal)
            await context.abort(status.code, status.details, status.trailing_metadata)

    async def _authorise(self, method: str, caller: Principal | None) -> None:
        try:
            self._policy.check(method, caller)
            if caller is not None and method not in OPEN_TO_BANNED:
                self._gate.check(caller)
        except PilotageError as error:
            if caller is not None:
                await self._witness.not_allowed(caller, method, error)
            raise

    async def _authenticate(self, context: Context, peer: str) -> Principal | None:
        """Return the caller, or None for one who shows nothing. What is shown must hold: there is no second try."""
        seen = context.auth_context()
        check_tls(seen)
        token = bearer(context.invocation_metadata() or ())
        if token is not None:
            caller = self._sessions.verify(token, self._clock())
        elif pem := first(seen, "x509_pem_cert_chain") or first(seen, "x509_pem_cert"):
            caller = await self._peers.principal(pem)
        else:
            return None
        return msgspec.structs.replace(caller, peer=peer)


def check_tls(seen: Mapping[str, Iterable[bytes]]) -> None:
    """Raise TLS_VERSION_REFUSED for a connection of any other protocol; the handshake refuses it before."""
    if first(seen, "ssl_tls_version") != TLS_VERSION:
        raise refuse(Reason.TLS_VERSION_REFUSED)


def first(seen: Mapping[str, Iterable[bytes]], name: str) -> bytes:
    """Return the first value of a property of the connection, or nothing."""
    values = list(seen.get(name) or ())
    return bytes(values[0]) if values else b""


def bearer(metadata: Iterable[tuple[str, str | bytes]]) -> Secret | None:
    """Return the session token of a call, or None when it shows none."""
    shown = [value for name, value in metadata if name == "authorization"]
    if not shown:
        return None
    scheme, _, token = (shown[0] if isinstance(shown[0], str) else "").partition(" ")
    if len(shown) != 1 or scheme.lower() != "bearer" or not 0 < len(token) <= LARGEST_TOKEN:
        raise refuse(Reason.SESSION_INVALID, "The authorization metadata is not one bearer token.")
    return Secret(token)


async def _not_implemented(request: object, context: Context) -> object:
    raise refuse(Reason.NOT_IMPLEMENTED)


async def _not_implemented_stream(request: object, context: Context) -> AsyncIterator[object]:
    raise refuse(Reason.NOT_IMPLEMENTED)
    yield  # makes this a generator, as gRPC wants of a streaming method
