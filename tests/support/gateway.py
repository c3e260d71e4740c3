"""Clients of the MyProxy gateway that send what a test wants, over the SDK's own connection."""

import contextlib
import datetime
import sqlite3
from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import Encoding
from toygrid import Identity

from pilotage.myproxy.client import Line, MyProxyServer, Wanted, connect, fetch
from pilotage.myproxy.messages import Answer, Command, Kind, format_chain
from pilotage.secret import Secret
from pilotage.voms.tls import Deadline, client_context
from pilotage.x509.files import LocalIdentity
from pilotage.x509.proxies import sign_proxy
from pilotage.x509.requests import check_request
from support.server_rig import Rig, local_identity

PASS = "open-sesame-17"


def port(rig: Rig) -> int:
    assert rig.app is not None
    return rig.app.gateway_port


@contextlib.contextmanager
def line_to(rig: Rig, who: LocalIdentity | Identity | None = None) -> Iterator[Line]:
    """Open a connection up to where the request goes."""
    identity = local_identity(who) if isinstance(who, Identity) else who
    server = MyProxyServer("localhost", port(rig))
    with connect(server, client_context(identity, rig.grid.ca_dir), Deadline.after(30)) as line:
        yield line


def request(command: Command, username: str = "alice", phrase: str = "", **fields: str) -> bytes:
    lines = ["VERSION=MYPROXYv2", f"COMMAND={command.value}", f"USERNAME={username}", f"PASSPHRASE={phrase}"]
    lines += ["LIFETIME=43200", *(f"{name}={value}" for name, value in fields.items())]
    return "\n".join(lines).encode() + b"\n\0"


def put(rig: Rig, who: LocalIdentity | Identity, text: bytes, *, hours: float = 24) -> Answer:
    """Store a credential as myproxy-init does; return the last answer."""
    identity = local_identity(who) if isinstance(who, Identity) else who
    with line_to(rig, identity) as line:
        line.send(text)
        answer = line.read_answer()
        if answer.kind is not Kind.OK:
            return answer
        key = check_request(line.read_der())
        life, now = datetime.timedelta(hours=hours), rig.clock()
        proxy = sign_proxy(identity.chain, identity.key, key, lifetime=life, now=now)
        line.send(format_chain([proxy.public_bytes(Encoding.DER), *identity.chain_der]))
        return line.read_answer()


def stored(rig: Rig, who: LocalIdentity | Identity, text: bytes, *, hours: float = 24) -> None:
    answer = put(rig, who, text, hours=hours)
    assert answer.kind is Kind.OK, answer.errors


def say(rig: Rig, who: LocalIdentity | Identity | None, text: bytes) -> str:
    """Send a request; return OK or the reason code of the answer."""
    with line_to(rig, who) as line:
        line.send(text)
        return code(line.read_answer())


def code(answer: Answer) -> str:
    return answer.errors[0].partition(":")[0] if answer.kind is Kind.ERROR else answer.kind.name


def rows(rig: Rig, table: str) -> int:
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def take(rig: Rig, username: str = "alice", phrase: str = PASS, **more: object) -> LocalIdentity:
    server = MyProxyServer("localhost", port(rig))
    wanted = Wanted(username=username, passphrase=Secret(phrase), lifetime_seconds=3600, **more)  # type: ignore[arg-type]
    return fetch(server, rig.grid.ca_dir, wanted)
