"""What fails around a retrieval: the process, the disk, the database, the lists, the clock.

The reason is clear, nothing is lost, no token serves twice, the audit says what was done, and no key is on any disk.
"""

import base64
import contextlib
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.transport import open_channel
from pilotage.v1 import credential_pb2 as pb
from pilotage.v1 import pilot_pb2
from pilotage.wire_errors import reason_of
from pilotage.x509.files import load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server import keys
from pilotage_server.commands import main
from pilotage_server.credentials.sealing import Sealer
from pilotage_server.store import credentials as store
from support.doomed_server import STEPS
from support.dying_server import DyingServer
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.refusals import refused
from support.server_process import ServerProcess
from support.server_rig import Client, Rig

EC = KeyKind.EC_P256


@pytest.fixture
def server(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[DyingServer]:
    made = DyingServer(grid, tmp_path, host)
    yield made
    made.close()


@contextlib.contextmanager
def client_of(server: ServerProcess, proxy: Path) -> Iterator[Client]:
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=load_identity(proxy)) as channel:
        yield Client(channel)


def attempt(pilot: Client, lease: pilot_pb2.Lease) -> Reason | bytes | None:
    """Retrieve; return the proxy, or why there is none."""
    try:
        return bytes(pilot.credentials.RetrieveCredential(retrieve_request(lease), timeout=120).chain[0])
    except grpc.RpcError as error:
        return reason_of(error)


def recorded(state: Path, lease: pilot_pb2.Lease) -> tuple[list[str], list[str]]:
    """Return the tokens that were spent for a lease, and those of which the audit says so."""
    with contextlib.closing(sqlite3.connect(state / "credentials.sqlite")) as connection:
        spent = connection.execute("SELECT jti FROM issuances WHERE lease_id = ?", (lease.lease_id,))
        told = connection.execute(
            "SELECT json_extract(facts, '$.jti') FROM audit WHERE lease_id = ? AND act = 'proxy issued'",
            (lease.lease_id,),
        )
        return [row[0] for row in spent], [row[0] for row in told]


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_dies_at_any_step_of_two_retrievals_gives_at_most_one_proxy_and_knows_of_it(
    server: DyingServer, alice_proxy: Path, pilot_proxy: Path, step: str
) -> None:
    server.start()
    with client_of(server, alice_proxy) as owner, client_of(server, pilot_proxy) as pilot:
        delegated = delegate(owner, load_identity(alice_proxy), kind=EC)
        submit(owner, delegated)
        lease = acquire(pilot, register(pilot))
    server.stop()
    server.step = step
    server.start()
    with client_of(server, pilot_proxy) as pilot, ThreadPoolExecutor(2) as threads:
        got = list(threads.map(lambda _: attempt(pilot, lease), range(2)))
    assert server.wait() == -signal.SIGKILL
    assert not any(isinstance(one, bytes) for one in got), "the reply had left before the end"
    server.step = ""
    server.start()
    spent, told = recorded(server.state, lease)
    assert spent == told
    committed = STEPS.index(step) >= STEPS.index("when it is committed")
    assert len(spent) == committed
    with client_of(server, pilot_proxy) as pilot:
        again = attempt(pilot, lease)
        assert again is Reason.TOKEN_USED if committed else isinstance(again, bytes)
        assert attempt(pilot, lease) is Reason.TOKEN_USED
    spent, told = recorded(server.state, lease)
    assert len(spent) == 1
    assert spent == told
    assert server.command("audit", "verify").returncode == 0
    assert not key_on_disk(server.state.parent, server.state, delegated)


def key_on_disk(root: Path, state: Path, delegated: Delegated) -> bool:
    """Search every file for the stored private key, which the test opens for that, in DER and in PEM."""
    with contextlib.closing(sqlite3.connect(state / "credentials.sqlite")) as connection:
        stored = store.get(connection, delegated.credential_id)
        sealed = store.sealed_key(connection, delegated.credential_id)
    service = keys.load(state / "keys").service
    assert service is not None
    names = (stored.owner_dn, stored.credential_id, stored.expire_time)
    der = Sealer(service).unseal(sealed, Secret(delegated.retrieval_key), *names).reveal()
    # The scalar alone is what matters of an EC key; it stands in the middle of the structure.
    forms = [der, der[36:68], base64.b64encode(der)[:60], der[36:68].hex().encode()]
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) > 5
    return any(form in path.read_bytes() for path in files for form in forms)


# the database and the disk


@pytest.fixture
def lease(owner: Client, pilot: Client, alice_proxy: Path) -> pilot_pb2.Lease:
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    return acquire(pilot, register(pilot))


def verified(rig: Rig) -> bool:
    return main(["audit", "verify", "--config", str(rig.config_path)]) == 0


def test_a_locked_database_is_told_and_spends_nothing(rig: Rig, pilot: Client, lease: pilot_pb2.Lease) -> None:
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert attempt(pilot, lease) is Reason.STORE_UNAVAILABLE
        other.execute("ROLLBACK")
    assert isinstance(attempt(pilot, lease), bytes)
    assert attempt(pilot, lease) is Reason.TOKEN_USED
    assert verified(rig)


@pytest.mark.root
def test_a_full_disk_is_told_and_loses_nothing(
    small_disk: Path, make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig = make_rig()
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    delegated = delegate(owner, load_identity(alice_proxy), kind=EC)
    submit(owner, delegated)
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    full = small_disk / "full"
    with full.open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), b"x" * 4096)
    # What is allocated already may still serve a few; then it says so.
    outcomes = [attempt(pilot, lease)]
    while isinstance(outcomes[-1], bytes) and len(outcomes) < 500:
        lease.credential_token = pilot.pilots.RefreshCredentialToken(
            pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
        ).credential_token
        outcomes.append(attempt(pilot, lease))
    assert outcomes[-1] is Reason.DISK_FULL
    full.unlink()
    assert isinstance(attempt(pilot, lease), bytes)
    assert attempt(pilot, lease) is Reason.TOKEN_USED
    spent, told = recorded(rig.state, lease)
    assert sorted(spent) == sorted(told)
    assert len(spent) == len(outcomes)
    assert not key_on_disk(rig.state, rig.state, delegated)
    rig.restart()
    assert verified(rig)


# the revocation lists


def test_a_stale_list_is_told_and_a_fresh_one_is_enough(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    grid = ToyGrid(tmp_path_factory.mktemp("stale"))
    rig = Rig(grid, tmp_path, grid.host("localhost", key="ec"))
    rig.start()
    try:
        fqans = ("/demo/Role=analysis", "/demo")
        alice = grid.voms_proxy(grid.user("Alice"), grid.root / "alice", fqans=fqans)
        robot = grid.voms_proxy(grid.robot("Robot"), grid.root / "robot", fqans=("/demo/Role=pilot", "/demo"))
        owner, pilot = rig.client(alice), rig.client(robot)
        submit(owner, delegate(owner, load_identity(alice), kind=EC))
        lease = acquire(pilot, register(pilot))
        grid.write_crl(days=-0.5)
        assert attempt(pilot, lease) is Reason.CRL_EXPIRED
        grid.write_crl()
        assert isinstance(attempt(pilot, lease), bytes)
        assert attempt(pilot, lease) is Reason.TOKEN_USED
        assert verified(rig)
    finally:
        rig.stop()


# the clock


def test_a_server_an_hour_ahead_serves_and_its_proxies_end_by_the_stored_one(
    rig: Rig, alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig.clock.turn(3600)
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    assert isinstance(attempt(pilot, acquire(pilot, register(pilot))), bytes)
    assert verified(rig)


def test_a_server_an_hour_behind_says_so_and_serves_once_its_clock_is_right(
    rig: Rig, alice_proxy: Path, pilot_proxy: Path, tmp_path: Path, grid: ToyGrid, alice: Identity
) -> None:
    rig.clock.turn(-3600)
    fresh = grid.voms_proxy(alice, tmp_path / "fresh", fqans=("/demo/Role=analysis", "/demo"))
    owner = rig.client(fresh)
    error = refused(owner.credentials.ListCredentials, pb.ListCredentialsRequest())
    assert re.search(r"CERTIFICATE_NOT_YET_VALID: .* begins in 3[0-9]{3} seconds", str(error))
    rig.clock.turn(3600)
    delegate(rig.client(fresh), load_identity(fresh), kind=EC)
    assert verified(rig)


def test_a_clock_put_back_by_minutes_refuses_older_tokens_and_serves_with_fresh_ones(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path
) -> None:
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    rig.clock.turn(-120)
    assert attempt(pilot, lease) is Reason.TOKEN_INVALID
    lease.credential_token = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    ).credential_token
    assert isinstance(attempt(pilot, lease), bytes)
    assert verified(rig)
