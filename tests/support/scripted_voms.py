"""A TLS server that answers VOMS requests with whatever a test tells it to."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType

from toygrid import Identity, ToyGrid

Script = Callable[[bytes], bytes | None]


class ScriptedVoms:
    """Give each request to a script and send what it returns; None means silence until the client goes."""

    def __init__(self, grid: ToyGrid, host: Identity, script: Script, *, trust_clients: bool = True) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(host.cert_path, host.key_path)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
        if trust_clients:
            self._context.load_verify_locations(capath=str(grid.ca_dir))
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "ScriptedVoms":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            plain, _ = self._listener.accept()
            plain.settimeout(5)
            with contextlib.suppress(OSError), plain, self._context.wrap_socket(plain, server_side=True) as connection:
                self._one(connection)

    def _one(self, connection: ssl.SSLSocket) -> None:
        request = b""
        while b"\r\n\r\n" not in request and b"</voms>" not in request:
            chunk = connection.recv(4096)
            if not chunk:
                return
            request += chunk
        self.requests.append(request)
        answer = self._script(request)
        if answer is None:
            connection.recv(1)
        else:
            connection.sendall(answer)
