"""One client's TLS connection, without a thread: bytes in and out, each wait bounded, each size bounded.

The handshake is done here, over memory, because the stream servers of asyncio count no connection before its handshake
is over. TLS proves that the peer holds its leaf's key; who the peer is, the verifier says of the whole chain.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from pilotage.errors import refuse
from pilotage.myproxy.messages import LARGEST_DER, LARGEST_TEXT, MOST_CERTIFICATES, der_length, malformed
from pilotage.reasons import Reason

CHUNK = 16 * 1024
LARGEST_DISCARDED = 1024 * 1024
ALLOW_PROXY_CERTS = 0x40
"""X509_V_FLAG_ALLOW_PROXY_CERTS: OpenSSL checks RFC 3820 chains, and our verifier checks them again."""
_ENCODING_DER = 2
GSI_HELLO = b"0"
"""What a client says first: no delegation within GSI."""
END = b"\0"


class Broken(Exception):
    """The peer went, or TLS with it failed."""


def server_context(certificate: Path, key: Path, ca_dir: Path) -> ssl.SSLContext:
    """Make the TLS settings: 1.2 or 1.3, a client certificate or proxy if the client has one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    # GSI takes the first record after the handshake for a token of its own; a ticket there would be the end.
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VerifyFlags(ALLOW_PROXY_CERTS)
    context.load_verify_locations(capath=str(ca_dir))
    context.load_cert_chain(certificate, key)
    return context


def check_python() -> None:
    """Raise CONFIG_INVALID where this Python does not tell which chain a peer has shown."""
    unused = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    if not hasattr(_who_tells(unused), "get_unverified_chain"):
        raise refuse(Reason.CONFIG_INVALID, "gateway.listen: this Python's ssl does not tell a peer's chain.")


class Wire:
    """A TLS connection over a pair of streams."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext,
        threads: Executor,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._threads = threads
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._buffer = bytearray()
        self._shaking = threading.Lock()

    async def handshake(self) -> list[bytes]:
        """Finish TLS and the GSI layer's opening; return the chain the peer has shown, DER, leaf first, or nothing."""
        # The costly part, which strangers can ask for: it must not keep the event loop from others.
        loop = asyncio.get_running_loop()
        await self._do(lambda: loop.run_in_executor(self._threads, self._shake))
        shown = _chain_of(self._tls)
        if self._tls.version() == "TLSv1.3":
            await self.send(END)
        if await self.read(1) != GSI_HELLO:
            raise malformed("The client asked for a delegation within GSI, which MyProxy does not have.")
        return shown

    async def send(self, content: bytes) -> None:
        """Send one message; of a long one no more is in memory twice than a record."""
        for begin in range(0, len(content), CHUNK):
            part = content[begin : begin + CHUNK]
            await self._do(lambda part=part: self._tls.write(part))  # type: ignore[misc]

    async def read_text(self) -> bytes:
        """Return a text message without its NUL."""
        while (end := self._buffer.find(END)) < 0:
            if len(self._buffer) > LARGEST_TEXT:
                raise malformed(f"A message has at most {LARGEST_TEXT} bytes.")
            await self._more()
        return self._take(end + 1)[:-1]

    async def read(self, count: int) -> bytes:
        """Return so many bytes."""
        while len(self._buffer) < count:
            await self._more()
        return self._take(count)

    async def read_der(self) -> bytes:
        """Return one DER value."""
        while (length := der_length(bytes(self._buffer[:4]))) is None:
            await self._more()
        if length > LARGEST_DER:
            raise malformed("A certificate or request is larger than any should be.")
        return await self.read(length)

    async def read_chain(self) -> list[bytes]:
        """Return counted certificates."""
        count = (await self.read(1))[0]
        if not 1 <= count <= MOST_CERTIFICATES:
            raise malformed(f"A chain has 1 to {MOST_CERTIFICATES} certificates.")
        return [await self.read_der() for _ in range(count)]

    async def discard(self) -> None:
        """Read on without looking until the peer has gone: to close on what it still sends would cost it our answer."""
        left = LARGEST_DISCARDED
        while left > 0 and (received := await self._reader.read(CHUNK)):
            left -= len(received)

    def close(self) -> None:
        """Say goodbye if the socket takes it at once, and go."""
        # Who is cut off by a deadline may leave the thread at work on the connection, which then must not be touched.
        if self._shaking.acquire(blocking=False):
            try:
                with contextlib.suppress(ssl.SSLError, OSError):
                    self._tls.unwrap()
                if not self._writer.is_closing() and (rest := self._outgoing.read()):
                    self._writer.write(rest)
            finally:
                self._shaking.release()
        self._writer.close()

    def abort(self) -> None:
        """Go at once."""
        self._writer.transport.abort()

    def _shake(self) -> None:
        """Do as much of the handshake as can be done; in the thread."""
        with self._shaking:
            self._tls.do_handshake()

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _more(self) -> None:
        """Wait for more of what the peer says; the buffer stays bounded by what its readers accept, and a record."""
        content = await self._do(lambda: self._tls.read(CHUNK))
        if not content:
            raise Broken("the peer closed the connection")
        self._buffer += content

    async def _do(self, act: Callable[[], bytes | int | Awaitable[object] | None]) -> bytes:
        """Do something with TLS, moving bytes between it and the socket for as long as it wants that."""
        try:
            while True:
                try:
                    result = act()
                    if isinstance(result, Awaitable):
                        await result
                except ssl.SSLWantReadError:
                    await self._flush()
                    if not (received := await self._reader.read(CHUNK)):
                        raise Broken("the peer closed the connection") from None
                    self._incoming.write(received)
                    continue
                await self._flush()
                return result if isinstance(result, bytes) else b""
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError, ConnectionError) as error:
            raise Broken("the peer closed the connection") from error
        except ssl.SSLError as error:
            await self._flush()
            reason = getattr(error, "verify_message", "") or error.reason or "failed"
            raise Broken(f"TLS: {reason}") from error

    async def _flush(self) -> None:
        if content := self._outgoing.read():
            self._writer.write(content)
            await self._writer.drain()


def _chain_of(tls: ssl.SSLObject) -> list[bytes]:
    """Return what the peer has shown, DER, leaf first."""
    teller = _who_tells(tls)
    # Of a client that showed nothing, the inner object makes a list of nothing.
    shown = [one for one in teller.get_unverified_chain() or () if one is not None]
    return [one if isinstance(one, bytes) else one.public_bytes(_ENCODING_DER) for one in shown]


def _who_tells(tls: ssl.SSLObject) -> Any:  # Any: the types of `ssl` know the method from 3.13 on only
    """Return what knows the peer's chain.

    Python has a public method from 3.13 on. 3.11 and 3.12, which get repairs only, have the same one on the object
    inside, and its certificates as objects instead of DER.
    """
    return tls if hasattr(tls, "get_unverified_chain") else getattr(tls, "_sslobj", None)
