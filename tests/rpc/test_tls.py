"""TLS 1.3 and nothing older, on both ports; the host certificate can be renewed in place."""

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.v1 import auth_pb2
from pilotage_server.rpc.guard import check_tls
from support.server_process import ServerProcess
from support.server_rig import Client, Rig


@pytest.fixture(scope="module")
def server(grid: ToyGrid, host: Identity, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    made = ServerProcess(grid, tmp_path_factory.mktemp("process"), host)
    made.start()
    yield made
    made.close()


def handshake(server: ServerProcess, port: int, version: str) -> str:
    """Let openssl try, with HTTP/2; return all it says."""
    command = [
        "openssl",
        "s_client",
        version,
        "-connect",
        f"127.0.0.1:{port}",
        "-alpn",
        "h2",
        "-servername",
        "localhost",
    ]
    command += ["-CAfile", str(server.grid.root / "ca.pem"), "-verify_return_error", "-verify_hostname", "localhost"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=120, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize("port", ["port", "mutual_port"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_1", "-tls1"])
def test_an_older_protocol_gets_no_connection(server: ServerProcess, port: str, version: str) -> None:
    text = handshake(server, getattr(server, port), version)
    assert "Cipher is (NONE)" in text
    assert "ALPN protocol: h2" not in text
    assert "BEGIN CERTIFICATE" not in text


def test_tls_13_gets_one_and_sees_the_host_certificate(server: ServerProcess) -> None:
    text = handshake(server, server.port, "-tls1_3")
    assert "New, TLSv1.3, Cipher is TLS_" in text
    assert "ALPN protocol: h2" in text
    assert "Verify return code: 0 (ok)" in text


def test_python_ssl_gets_no_older_connection_either(server: ServerProcess) -> None:
    context = ssl.create_default_context(cafile=str(server.grid.root / "ca.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_plain_text_gets_nothing(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        plain.settimeout(15)
        try:
            said = plain.recv(100)
        except ConnectionResetError:
            said = b""
    assert b"HTTP" not in said
    assert said[:1] in (b"", b"\x15")


@pytest.mark.parametrize("seen", [{}, {"ssl_tls_version": [b"TLSv1.2"]}, {"ssl_tls_version": []}])
def test_the_guard_refuses_what_the_handshake_might_let_through(seen: dict[str, list[bytes]]) -> None:
    check_tls({"ssl_tls_version": [b"TLSv1.3"]})
    with pytest.raises(PilotageError, match="TLS_VERSION_REFUSED"):
        check_tls(seen)


def test_a_renewed_host_certificate_is_shown_without_a_restart(
    make_rig: Callable[..., Rig], grid: ToyGrid, tmp_path: Path
) -> None:
    first, second = grid.host("localhost", key="ec"), grid.host("localhost", key="ec")
    cert, key = tmp_path / "hostcert.pem", tmp_path / "hostkey.pem"

    def install(who: Identity) -> None:
        for source, target, mode in ((who.cert_path, cert, 0o644), (who.key_path, key, 0o400)):
            partial = target.with_suffix(".new")
            partial.write_bytes(source.read_bytes())
            partial.chmod(mode)
            partial.replace(target)

    def shown(rig: Rig) -> str:
        assert rig.app is not None
        return ssl.get_server_certificate(("127.0.0.1", rig.app.port))

    install(first)
    rig = make_rig(server={"host_cert": str(cert), "host_key": str(key)})
    assert shown(rig).split() == first.cert_path.read_text().split()
    cert.write_text("no certificate")
    rig.call(lambda app: app.prune())
    assert shown(rig).split() == first.cert_path.read_text().split()
    install(second)
    rig.call(lambda app: app.prune())
    assert shown(rig).split() == second.cert_path.read_text().split()
    client: Client = rig.client(None)
    client.auth.BeginLogin(auth_pb2.BeginLoginRequest())
