"""`pilotage credential import`: from Debian's own myproxy-server, and from our gateway."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from toygrid import Identity, ToyGrid

from pilotage.cli.commands import cli
from pilotage.errors import PilotageError
from pilotage.myproxy.client import MyProxyServer, Wanted, check_server, fetch
from pilotage.reasons import Reason
from pilotage.secret import Secret
from support.myproxy import Clients, RealServer
from support.server_rig import Rig
from support.shell import Done, Shell

pytestmark = pytest.mark.interop

PASS = "open-sesame-17"
PILOT, RENEWER = "/O=Toy Grid/CN=pilot 1", "/O=Toy Grid/CN=renewer"
POLICY = f"""\
accepted_credentials "/O=Toy Grid/*"
authorized_retrievers "*"
authorized_renewers "{RENEWER}"
default_renewers "none"
trusted_retrievers "{PILOT}"
default_trusted_retrievers "none"
"""


@pytest.fixture(scope="module")
def old_server(grid: ToyGrid, host: Identity, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with RealServer(grid, tmp_path_factory.mktemp("myproxy"), host, POLICY) as server:
        yield server


@pytest.fixture
def rig(grid: ToyGrid, host: Identity, alice: Identity, tmp_path: Path) -> Iterator[Rig]:
    gateway = {"listen": "127.0.0.1:0", "authorized_retrievers": ["*"]}
    made = Rig(grid, tmp_path, host, {"roles": {"owner": [alice.dn]}, "gateway": gateway})
    made.start()
    yield made
    made.stop()


@pytest.fixture
def old_clients(grid: ToyGrid, old_server: RealServer, tmp_path: Path) -> Clients:
    return Clients(grid, tmp_path, old_server.port)


@pytest.fixture
def shell(rig: Rig, tmp_path: Path) -> Shell:
    return Shell(rig, tmp_path / "no-proxy", tmp_path / "home")


def bring(shell: Shell, port: int, *words: str, typed: str = "") -> Done:
    """Import, with the pass phrase typed at the prompt."""
    return shell.run("credential", "import", "--from-myproxy", f"localhost:{port}", *words, typed=typed)


def proxy_of(grid: ToyGrid, who: Identity, path: Path) -> Path:
    return grid.plain_proxy(who, path)


def test_a_credential_is_imported_by_its_pass_phrase_without_any_proxy_of_ones_own(
    shell: Shell, old_clients: Clients, alice: Identity, tmp_path: Path
) -> None:
    old_clients.ok(alice, "init", "-S", "-l", "alice", "-c", "48", "-t", "24", typed=[PASS])
    done = bring(shell, old_clients.port, "--username", "alice", "--as", "old", "--hours", "20", typed=f"{PASS}\n")
    assert done.code == 0, done.err
    assert PASS not in done.out + done.err
    credential_id = done.out.strip()
    # What was fetched is an identity like any other; the imported credential is seen with a proxy of the owner.
    proxy = proxy_of(old_clients.grid, alice, tmp_path / "proxy.pem")
    shown = shell.run("credential", "show", "old", environ={"X509_USER_PROXY": str(proxy)})
    assert credential_id in shown.out
    assert alice.dn in shown.out
    assert "usable" in shown.out
    # The retrieval key is kept as after any delegation, and nothing else is written.
    files = [path.name for path in shell.home.rglob("*") if path.is_file()]
    assert files == [credential_id]


def test_a_wrong_pass_phrase_is_told_in_the_servers_words(shell: Shell, old_clients: Clients, alice: Identity) -> None:
    old_clients.ok(alice, "init", "-S", "-l", "alice", "-k", "named", typed=[PASS])
    done = bring(shell, old_clients.port, "-l", "alice", "-k", "named", typed="not-the-phrase\n")
    assert done.code == 4
    assert "MYPROXY_SERVER_REFUSED" in done.err
    assert "invalid" in done.err
    done = bring(shell, old_clients.port, "-l", "alice", "-k", "none", typed=f"{PASS}\n")
    assert "No credentials exist" in done.err
    done = bring(shell, old_clients.port, "-l", "alice", "-k", "named", typed=f"{PASS}\n")
    assert done.code == 0, done.err
    done = bring(shell, old_clients.port, "-l", "alice")
    assert done.code == 4
    assert "No pass phrase was given" in done.err


def test_a_credential_is_imported_by_a_trusted_retriever(
    shell: Shell, old_clients: Clients, alice: Identity, pilot: Identity, tmp_path: Path
) -> None:
    old_clients.ok(alice, "init", "-n", "-l", "alice", "-k", "panda", "-x", "-Z", PILOT)
    shell.environ["X509_USER_PROXY"] = str(proxy_of(old_clients.grid, pilot, tmp_path / "pilot.pem"))
    done = bring(shell, old_clients.port, "-l", "alice", "-k", "panda", "-n")
    assert done.code == 0, done.err
    shell.environ["X509_USER_PROXY"] = str(proxy_of(old_clients.grid, alice, tmp_path / "alice.pem"))
    assert "panda" in shell.ok("credential", "list")
    assert bring(shell, old_clients.port, "-l", "alice", "-k", "panda", "-n").code == 4


def test_a_credential_is_imported_by_a_renewer_with_an_older_proxy(
    shell: Shell, old_clients: Clients, alice: Identity, renewer: Identity, tmp_path: Path
) -> None:
    old_clients.ok(alice, "init", "-n", "-l", "alice", "-k", "renew", "-x", "-R", RENEWER)
    older = proxy_of(old_clients.grid, alice, tmp_path / "alice.pem")
    shell.environ["X509_USER_PROXY"] = str(proxy_of(old_clients.grid, renewer, tmp_path / "renewer.pem"))
    done = bring(shell, old_clients.port, "-l", "alice", "-k", "renew", "--renew", str(older))
    assert done.code == 0, done.err
    done = bring(shell, old_clients.port, "-l", "alice", "-k", "renew", "-n")
    assert done.code == 4
    assert "--renew FILE" in done.err


def test_a_credential_is_imported_from_our_own_gateway(
    shell: Shell, rig: Rig, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    assert rig.app is not None
    clients = Clients(grid, tmp_path, rig.app.gateway_port)
    clients.ok(alice, "init", "-S", "-l", "alice", typed=[PASS])
    assert bring(shell, clients.port, "-l", "alice", typed=f"{PASS}\n").code == 0
    done = bring(shell, clients.port, "-l", "alice", typed="not-the-phrase\n")
    assert "PASSPHRASE_WRONG" in done.err


def test_the_pass_phrase_is_no_argument_and_no_variable(shell: Shell) -> None:
    words = CliRunner().invoke(cli, ["credential", "import", "--help"]).output
    assert "--passphrase" not in words
    done = shell.run(
        "credential", "import", "--from-myproxy", "localhost:1", "-l", "a", environ={"PILOTAGE_PASSPHRASE": PASS}
    )
    assert "No pass phrase was given" in done.err


# servers that are not what they should be


def why(grid: ToyGrid, server: MyProxyServer, *, seconds: float = 10.0) -> Reason:
    wanted = Wanted(username="alice", passphrase=Secret(PASS), lifetime_seconds=60)
    with pytest.raises(PilotageError) as caught:
        fetch(server, grid.ca_dir, wanted, seconds=seconds)
    assert PASS not in str(caught.value)
    return caught.value.reason


def test_a_server_that_is_not_there_or_silent_or_speaks_something_else_is_told(grid: ToyGrid) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
        assert why(grid, MyProxyServer("localhost", port), seconds=1.0) is Reason.MYPROXY_SERVER_UNREACHABLE

        def shout() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                connection.sendall(b"220 localhost ESMTP\r\n")
                connection.close()

        threading.Thread(target=shout, daemon=True).start()
        assert why(grid, MyProxyServer("localhost", port)) is Reason.MYPROXY_SERVER_UNREACHABLE
    assert why(grid, MyProxyServer("localhost", port)) is Reason.MYPROXY_SERVER_UNREACHABLE


def test_a_server_of_another_authority_or_name_gets_no_pass_phrase(
    grid: ToyGrid, old_server: RealServer, tmp_path: Path
) -> None:
    other = ToyGrid(tmp_path / "other", name="Other Grid")
    assert why(other, MyProxyServer("localhost", old_server.port)) is Reason.MYPROXY_SERVER_IDENTITY
    elsewhere = grid.host("elsewhere.example.org", addresses=())
    root = tmp_path / "elsewhere"
    root.mkdir()
    with RealServer(grid, root, elsewhere, POLICY) as impostor:
        assert why(grid, MyProxyServer("localhost", impostor.port)) is Reason.MYPROXY_SERVER_IDENTITY


def test_a_certificate_without_names_is_known_by_its_common_name(grid: ToyGrid) -> None:
    for name in ("plain.example.org", "host/plain.example.org", "myproxy/plain.example.org"):
        pem = grid.user(name).cert_path.read_bytes()
        der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        check_server(MyProxyServer("plain.example.org"), der)
        with pytest.raises(PilotageError, match="MYPROXY_SERVER_IDENTITY"):
            check_server(MyProxyServer("other.example.org"), der)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("a.b", "a.b", 7512), ("a.b:99", "a.b", 99), ("[::1]", "::1", 7512), ("[::1]:99", "::1", 99)],
)
def test_a_server_is_named_by_host_and_port(text: str, host: str, port: int) -> None:
    assert MyProxyServer.parse(text) == MyProxyServer(host, port)


@pytest.mark.parametrize("text", ["", "a b", "a\nb", "alice@a", "a/b", ":99", "a:", "a:b", "a:0", "a:99999", "a:-1"])
def test_what_names_no_server_is_refused(text: str) -> None:
    with pytest.raises(PilotageError, match="INVALID_ARGUMENT"):
        MyProxyServer.parse(text)
