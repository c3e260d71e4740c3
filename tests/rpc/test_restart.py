"""The server as a process: stopped and started, it is the same server."""

import contextlib
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import grpc
import pytest
from toygrid import Identity, ToyGrid

from pilotage.login import sign_challenge
from pilotage.reasons import Reason
from pilotage.transport import open_channel
from pilotage.v1 import auth_pb2, credential_pb2, job_pb2, pilot_pb2
from pilotage.x509.files import load_identity
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_process import ServerProcess
from support.server_rig import AUDIENCE, Client


@pytest.fixture
def server(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(grid, tmp_path, host)
    yield made
    made.close()


@contextlib.contextmanager
def client_of(server: ServerProcess, proxy: Path | None) -> Iterator[Client]:
    identity = None if proxy is None else load_identity(proxy)
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=identity) as channel:
        yield Client(channel)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_keeps_credentials_and_jobs(server: ServerProcess, alice_proxy: Path, number: signal.Signals) -> None:
    identity = load_identity(alice_proxy)
    server.start()
    with client_of(server, alice_proxy) as owner, client_of(server, None) as stranger:
        delegated: Delegated = delegate(owner, identity)
        job_id = submit(owner, delegated)
        begun = stranger.auth.BeginLogin(auth_pb2.BeginLoginRequest())
        signature, algorithm = sign_challenge(identity.key, AUDIENCE, begun.challenge)
        request = auth_pb2.LoginRequest(
            chain=identity.chain_der, challenge=begun.challenge, signature=signature, algorithm=algorithm
        )
        stranger.auth.Login(request)
    code = server.stop(number)
    assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    server.start()
    with client_of(server, alice_proxy) as owner, client_of(server, None) as stranger:
        found = owner.credentials.ListCredentials(credential_pb2.ListCredentialsRequest())
        assert [credential.credential_id for credential in found.credentials] == [delegated.credential_id]
        job = owner.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)).job
        assert job.credential_id == delegated.credential_id
        assert reason(stranger.auth.Login, request) is Reason.CHALLENGE_INVALID


def test_a_killed_server_honours_a_token_once_before_or_after(
    server: ServerProcess, alice_proxy: Path, pilot_proxy: Path
) -> None:
    server.start()
    with client_of(server, alice_proxy) as owner, client_of(server, pilot_proxy) as pilot:
        delegated = delegate(owner, load_identity(alice_proxy))
        for _ in range(2):
            submit(owner, delegated)
        pilot_id = register(pilot)
        used, unused = acquire(pilot, pilot_id), acquire(pilot, pilot_id)
        pilot.credentials.RetrieveCredential(retrieve_request(used))
    server.stop(signal.SIGKILL)
    server.start()
    with client_of(server, pilot_proxy) as pilot:
        assert reason(pilot.credentials.RetrieveCredential, retrieve_request(used)) is Reason.TOKEN_USED
        pilot.credentials.RetrieveCredential(retrieve_request(unused))
        assert reason(pilot.credentials.RetrieveCredential, retrieve_request(unused)) is Reason.TOKEN_USED


def test_sigterm_lets_a_call_end_and_closes_the_databases(server: ServerProcess) -> None:
    server.start()
    assert server.stop() == 0
    for name in ("jobs", "credentials"):
        assert not (server.state / f"{name}.sqlite-wal").exists()
        with contextlib.closing(sqlite3.connect(server.state / f"{name}.sqlite")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert "stopped" in server.log_path.read_text()


def test_sigterm_ends_long_polls_and_streams_soon(server: ServerProcess, alice_proxy: Path, pilot_proxy: Path) -> None:
    server.start()
    with client_of(server, alice_proxy) as owner, client_of(server, pilot_proxy) as pilot:
        job_id = submit(owner, delegate(owner, load_identity(alice_proxy)))
        watch = owner.jobs.WatchJobs(job_pb2.WatchJobsRequest(job_ids=[job_id]))
        assert next(watch).job.job_id == job_id
        pilot_id = register(pilot)
        acquire(pilot, pilot_id)
        request = pilot_pb2.AcquireJobsRequest(pilot_id=pilot_id, slots=1)
        request.wait.FromSeconds(30)
        with ThreadPoolExecutor(1) as threads:
            polled = threads.submit(pilot.pilots.AcquireJobs, request)
            assert not wait([polled], timeout=0.5).done
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 15
            with contextlib.suppress(grpc.RpcError):
                assert not polled.result(15).leases


def test_a_taken_port_stops_the_start(server: ServerProcess, grid: ToyGrid, host: Identity, tmp_path: Path) -> None:
    server.start()
    (tmp_path / "second").mkdir()
    second = ServerProcess(grid, tmp_path / "second", host)
    taken = f'listen = "127.0.0.1:{server.port}"'
    second.config.write_text(second.config.read_text().replace('listen = "127.0.0.1:0"', taken, 1))
    done = second.command("run")
    assert done.returncode == 5
    assert f"cannot listen on 127.0.0.1:{server.port}" in done.stderr


def test_a_second_server_on_the_same_state_is_refused(server: ServerProcess) -> None:
    server.start()
    second = server.command("run")
    assert second.returncode != 0
    assert "STORE_UNAVAILABLE" in second.stderr


def test_init_makes_the_keys_once_and_nobody_else_can_read_them(server: ServerProcess) -> None:
    first = server.command("init")
    assert first.returncode == 0, first.stderr
    keys = {path.name: path.read_bytes() for path in (server.state / "keys").iterdir()}
    assert set(keys) == {"session.key", "token.key", "wrap.key", "service.key"}
    assert len(set(keys.values())) == 4
    for path in (server.state / "keys").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert "nothing was missing" in server.command("init").stdout
    assert keys == {path.name: path.read_bytes() for path in (server.state / "keys").iterdir()}
    assert server.command("check-config").returncode == 0


def test_a_state_directory_of_the_release_that_kept_challenges_starts_and_loses_their_key(
    server: ServerProcess, alice_proxy: Path
) -> None:
    assert server.command("init").returncode == 0
    folder = server.state / "keys"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("challenge.key", "challenge-20261128T120000.000000Z.key"):
        (folder / name).write_bytes(b"c" * 32)
        (folder / name).chmod(0o600)
    server.start()
    server.stop()
    with contextlib.closing(sqlite3.connect(server.state / "credentials.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE used_challenges (nonce BLOB PRIMARY KEY, expire_time INTEGER NOT NULL)")
        connection.execute("CREATE INDEX used_challenges_by_end ON used_challenges (expire_time)")
        connection.execute("INSERT INTO used_challenges VALUES (x'00', 1)")
        connection.execute("UPDATE alembic_version SET version_num = 'c0007_vopolicy'")
    server.start()
    assert "keys of an earlier release destroyed" in server.log_path.read_text()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with client_of(server, alice_proxy) as owner:
        assert owner.auth.WhoAmI(auth_pb2.WhoAmIRequest()).principal.dn
    server.stop()
    with contextlib.closing(sqlite3.connect(server.state / "credentials.sqlite")) as connection:
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'used_challenges%'").fetchall() == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("chmod", "others may use it"),
        ("short", "a key has 32 bytes"),
        ("remove", "cannot be opened"),
    ],
)
def test_a_spoilt_key_stops_the_start(server: ServerProcess, spoil: str, says: str) -> None:
    server.start()
    server.stop()
    key = server.state / "keys" / "service.key"
    if spoil == "chmod":
        key.chmod(0o640)
    elif spoil == "short":
        key.write_bytes(b"short")
    else:
        key.unlink()
    for verb in ("run", "check-config"):
        done = server.command(verb)
        assert done.returncode == 2
        assert "CONFIG_INVALID" in done.stderr
        assert says in done.stderr
    assert key.exists() is (spoil != "remove")


def test_a_mistake_in_the_configuration_is_told_with_its_place(server: ServerProcess) -> None:
    text = server.config.read_text()
    for wrong, place in (
        (text.replace("[roles]", "[roles]\nowners = []"), "owners"),
        (text.replace('listen = "127.0.0.1:0"', "listen = 7643"), "$.server.listen"),
        (text + "\n[leases]\nlease_seconds = 10\n", "leases.heartbeat_seconds"),
    ):
        server.config.write_text(wrong)
        done = server.command("check-config")
        assert done.returncode == 2
        assert "CONFIG_INVALID" in done.stderr
        assert place in done.stderr


def test_systemd_is_told_when_the_server_serves(server: ServerProcess, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        os.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        try:
            server.start()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert listener.recv(100) == b"READY=1"
        server.stop()
        assert listener.recv(100) == b"STOPPING=1"
