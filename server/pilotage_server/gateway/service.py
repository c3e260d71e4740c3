"""The gateway's port: let clients in, find out who they are, have them answered, and say why not."""

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import structlog

from pilotage.errors import PilotageError, refuse
from pilotage.myproxy.messages import Request, format_error, parse_request
from pilotage.reasons import Reason
from pilotage_server.auth.login import principal_of
from pilotage_server.clock import Clock
from pilotage_server.credentials.bans import Bans
from pilotage_server.gateway.doorman import Doorman, Guest
from pilotage_server.gateway.policy import Client
from pilotage_server.gateway.record import Record
from pilotage_server.gateway.talk import Talk
from pilotage_server.gateway.tls import Context
from pilotage_server.gateway.wire import CHUNK, Broken, Wire
from pilotage_server.logs import fault
from pilotage_server.principal import Proof
from pilotage_server.verifier import Verifier

log = structlog.get_logger("pilotage.myproxy")

HANDSHAKE_SECONDS = 10.0
"""For TLS and the request together: a client says what it wants at once."""
TALK_SECONDS = 60.0
GOODBYE_SECONDS = 2.0
BACKLOG = 1024


class Call(msgspec.Struct, frozen=True):
    """What the log says of one connection."""

    client: Client
    command: str = "?"
    outcome: str = "OK"


class GatewayServer:
    """Listen and serve."""

    def __init__(
        self, context: Context, verifier: Verifier, bans: Bans, talk: Talk, record: Record, clock: Clock
    ) -> None:
        self._context = context
        self._verifier = verifier
        self._bans = bans
        self._talk = talk
        self._record = record
        self._clock = clock
        self._doorman = Doorman()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="myproxy-tls")
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Open the port; return its number."""
        try:
            self._server = await asyncio.start_server(self._arrived, host, port, limit=CHUNK, backlog=BACKLOG)
        except OSError as error:
            raise refuse(
                Reason.UNAVAILABLE, f"The gateway cannot listen on {host}:{port} ({error.strerror}); is the port taken?"
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace_seconds: float) -> None:
        """Take no new connections, let those that are served end for a while, then end them."""
        if self._server is not None:
            self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        self._doorman.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.close()

    def close(self) -> None:
        """Let the thread end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def connections(self) -> int:
        """Return how many there are."""
        return len(self._doorman)

    def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = writer.get_extra_info("peername")
        host = str(name[0]) if name else ""
        wire = Wire(reader, writer, self._context.present, self._threads)
        guest = Guest(host, wire.abort)
        self._doorman.enter(guest)
        task = asyncio.create_task(self._serve(wire, guest), name=f"myproxy {host}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, wire: Wire, guest: Guest) -> None:
        began = time.perf_counter()
        call = Call(Client(None, guest.host))
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                shown, request = await self._hear(wire)
            call = Call(call.client, request.command.name)
            async with asyncio.timeout(TALK_SECONDS):
                call = await self._answer(wire, guest, shown, request)
        except PilotageError as error:
            call = msgspec.structs.replace(call, outcome=error.reason.name)
            await self._refuse(wire, error)
        except TimeoutError:
            call = msgspec.structs.replace(call, outcome=Reason.DEADLINE_EXCEEDED.name)
            wire.abort()
        except Broken as error:
            call = msgspec.structs.replace(call, outcome=f"BROKEN ({error})")
        except Exception as error:
            call = msgspec.structs.replace(call, outcome=Reason.INTERNAL.name)
            log.error("fault", fault=fault(error))
        finally:
            self._doorman.left(guest)
            wire.close()
            log.info(
                "call",
                method=f"myproxy/{call.command}",
                principal=call.client.name,
                reason=call.outcome,
                ms=round((time.perf_counter() - began) * 1000, 2),
                peer=guest.host,
            )

    async def _hear(self, wire: Wire) -> tuple[list[bytes], Request]:
        """Return the chain that a client shows, and what it asks for."""
        shown = await wire.handshake()
        return shown, parse_request(await wire.read_text())

    async def _answer(self, wire: Wire, guest: Guest, shown: list[bytes], request: Request) -> Call:
        client = Client(None, guest.host)
        try:
            self._doorman.serve(guest)
            if shown:
                principal = principal_of(await self._verifier.chain(shown), Proof.MUTUAL_TLS)
                client = Client(msgspec.structs.replace(principal, peer=guest.host), guest.host)
                if principal.expire_time <= self._clock():
                    # The verifier forgives skewed clocks a few minutes; a principal that has ended is none.
                    raise refuse(Reason.CERTIFICATE_EXPIRED)
                self._bans.check(client.actor)
            await self._talk.answer(wire, client, request)
        except PilotageError as error:
            await self._record.refused(client, request, error)
            await self._refuse(wire, error)
            return Call(client, request.command.name, error.reason.name)
        except (Broken, TimeoutError):
            raise
        except Exception as error:
            log.error("fault", fault=fault(error))
            await self._refuse(wire, refuse(Reason.INTERNAL))
            return Call(client, request.command.name, Reason.INTERNAL.name)
        return Call(client, request.command.name)

    async def _refuse(self, wire: Wire, error: PilotageError) -> None:
        with contextlib.suppress(Broken, ConnectionError, TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await wire.send(format_error(error.reason.name, error.message))
                await wire.discard()
