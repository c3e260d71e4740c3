"""A program that asks for TLS 1.3 gets nothing older, as client and as server."""

import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from toygrid import ToyGrid

import pilotage
from pilotage.tls13 import VARIABLE, require_tls13

CLIENT = """
import sys
from pathlib import Path
from pilotage.tls13 import require_tls13
require_tls13()
import grpc
from pilotage.transport import open_channel
channel = open_channel(sys.argv[1], ca_dir=Path(sys.argv[2]), identity=None)
try:
    grpc.channel_ready_future(channel).result(1)
except grpc.FutureTimeoutError:
    pass
"""

SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pilotage.tls13 import require_tls13
require_tls13()
import grpc
server = grpc.server(ThreadPoolExecutor(1))
pair = (Path(sys.argv[2]).read_bytes(), Path(sys.argv[1]).read_bytes())
print(server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair])), flush=True)
server.start()
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ToyGrid:
    return ToyGrid(tmp_path_factory.mktemp("grid"))


def environ() -> dict[str, str]:
    sdk = str(Path(pilotage.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([sdk, os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize(("version", "accepted"), [("TLSv1_2", False), ("TLSv1_3", True)])
def test_a_client_speaks_tls_13_only(version: str, accepted: bool, grid: ToyGrid) -> None:
    host = grid.host("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.cert_path, host.key_path)
    context.maximum_version = ssl.TLSVersion[version]
    context.set_alpn_protocols(["h2"])
    spoken: list[str | None] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as stream:
                    spoken.append(stream.version())
            except OSError:
                spoken.append(None)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        target = f"localhost:{listener.getsockname()[1]}"
        subprocess.run([sys.executable, "-c", CLIENT, target, str(grid.ca_dir)], env=environ(), timeout=120, check=True)
        thread.join(120)
    assert spoken == (["TLSv1.3"] if accepted else [None])


def test_a_server_speaks_tls_13_only(grid: ToyGrid) -> None:
    host = grid.host("localhost")
    command = [sys.executable, "-c", SERVER, str(host.cert_path), str(host.key_path)]
    with subprocess.Popen(command, env=environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(grid.root / "ca.pem"))
            context.maximum_version = version
            context.set_alpn_protocols(["h2"])
            with socket.create_connection(("127.0.0.1", port)) as plain:
                if version is ssl.TLSVersion.TLSv1_2:
                    with pytest.raises(ssl.SSLError):
                        context.wrap_socket(plain, server_hostname="localhost")
                else:
                    with context.wrap_socket(plain, server_hostname="localhost") as stream:
                        assert stream.version() == "TLSv1.3"
        server.communicate(timeout=120)


def test_asking_too_late_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "grpc", pilotage)
    with pytest.raises(RuntimeError):
        require_tls13()
