"""Many callers of the credential service at once, and many who connect and say nothing."""

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.service import Service

from pilotage.v1 import credential_pb2 as pb
from support.server_rig import Client

Requests = Sequence[Sequence[pb.RetrieveCredentialRequest]]


def requests_of(service: Service, clients: int, each: int) -> Requests:
    """Return the requests of several clients, each with a token of its own."""
    return [[service.token() for _ in range(each)] for _ in range(clients)]


def latencies(clients: Sequence[Client], requests: Requests) -> list[float]:
    """Return the wall milliseconds of retrievals by several clients at once, each one request after the other."""

    def one(number: int) -> list[float]:
        found = []
        for request in requests[number]:
            began = time.perf_counter()
            clients[number].credentials.RetrieveCredential(request)
            found.append((time.perf_counter() - began) * 1000)
        return found

    with ThreadPoolExecutor(len(clients)) as pool:
        return [each for found in pool.map(one, range(len(clients))) for each in found]


@contextlib.contextmanager
def silent(port: int, count: int) -> Iterator[None]:
    """Hold connections open that say nothing, not even a TLS greeting; at the end each must still be there.

    The server ends a handshake that takes ten seconds. Raises RuntimeError when it has closed one before the end of the
    measurement, which was of fewer then.
    """
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(count)]
        yield
        closed = sum(_is_over(connection) for connection in held)
        if closed:
            raise RuntimeError(f"the server closed {closed} of {count} silent connections during the measurement")


def _is_over(connection: socket.socket) -> bool:
    """Tell whether the other side has closed; what it has sent meanwhile (HTTP/2 may speak first) is read."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
