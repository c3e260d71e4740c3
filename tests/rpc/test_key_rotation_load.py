"""Keys rotated under callers that go on: nobody is refused, the old key goes, a death in between loses nothing."""

import contextlib
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from pilotage.transport import open_channel
from pilotage.v1 import auth_pb2, job_pb2, pilot_pb2
from pilotage.x509.files import load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server import keys
from pilotage_server.commands import main
from support.doomed_server import ROTATION_STEPS
from support.dying_server import DyingServer
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.server_rig import Client, Rig

EC = KeyKind.EC_P256
OK = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_OK)


def rotate(rig: Rig, *kinds: str) -> None:
    """Rotate, and have the server look, as it does once a minute."""
    assert main(["keys", "rotate", *kinds, "--config", str(rig.config_path)]) == 0
    rig.call(lambda app: app.take_up_keys())


def old_keys(rig: Rig, kind: str) -> list[Path]:
    return sorted((rig.state / "keys").glob(f"{kind}-*.key"))


def answers(rig: Rig) -> list[str]:
    """Return how every call so far ended, by the server's own log: clients try some refused ones again."""
    lines = [json.loads(line) for line in rig.log_text.splitlines()]
    return [line["reason"] for line in lines if line["event"] == "call"]


class Load:
    """Callers in threads of their own, each doing one thing again and again until `stop`."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._rounds: list[threading.Semaphore] = []
        self.errors: list[Exception] = []

    def add(self, work: Callable[[], object]) -> None:
        """Begin one."""
        rounds = threading.Semaphore(0)

        def run() -> None:
            try:
                while not self._over.is_set():
                    work()
                    rounds.release()
            except Exception as error:
                self.errors.append(error)
                rounds.release(1000)

        self._rounds.append(rounds)
        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def go_on(self, times: int) -> None:
        """Wait until each has done its thing some more times."""
        for rounds in self._rounds:
            for _ in range(times):
                assert rounds.acquire(timeout=120)

    def stop(self) -> None:
        """End them all."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture
def load() -> Iterator[Load]:
    made = Load()
    yield made
    made.stop()


@pytest.mark.parametrize("kind", keys.ROTATED)
def test_a_key_is_rotated_under_load_and_nobody_is_refused(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path, pilot_proxy: Path, load: Load, kind: str
) -> None:
    identity = load_identity(alice_proxy)
    delegated = delegate(owner, identity, kind=EC)
    pilot_id = register(pilot, slots=8)
    waiting = [submit(owner, delegated) for _ in range(3)]

    def job() -> None:
        submit(owner, delegated)
        lease = acquire(pilot, pilot_id)
        fresh = pilot.pilots.RefreshCredentialToken(
            pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
        )
        assert fresh.retrieval_key == lease.retrieval_key == delegated.retrieval_key
        pilot.credentials.RetrieveCredential(retrieve_request(lease))
        pilot.pilots.FinishJob(pilot_pb2.FinishJobRequest(pilot_id=pilot_id, lease_id=lease.lease_id, result=OK))

    def login() -> None:
        with open_channel(rig.target, ca_dir=rig.grid.ca_dir, identity=identity) as channel:
            Client(channel).auth.WhoAmI(auth_pb2.WhoAmIRequest())

    load.add(job)
    load.add(login)
    load.add(lambda: owner.auth.WhoAmI(auth_pb2.WhoAmIRequest()))
    for _ in range(3):
        load.go_on(3)
        rotate(rig, kind)
    load.go_on(3)
    load.stop()
    assert load.errors == []
    assert set(answers(rig)) == {"OK"}
    assert waiting
    if kind == "wrap":
        rig.call(lambda app: app.rewrap())
    elif kind != "service":
        # What an old key signed is good to its end, and the key is kept as long; old service keys, to theirs.
        assert len(old_keys(rig, kind)) == 3
        rig.clock.turn(2 * 3600 + 60)
        rig.call(lambda app: app.prune())
    assert len(old_keys(rig, kind)) == (3 if kind == "service" else 0)
    assert not list((rig.state / "keys").glob(".*"))
    rig.call(lambda app: app.take_up_keys())
    # A pilot that said nothing for two hours has to come anew.
    pilot_id = register(pilot, slots=8)
    job()
    login()


def test_a_session_outlives_the_rotation_of_its_key_and_not_its_hour(rig: Rig, owner: Client) -> None:
    owner.auth.WhoAmI(auth_pb2.WhoAmIRequest())
    logins = rig.log_text.count('"session opened"')
    rotate(rig, "session")
    rig.clock.turn(3500)
    owner.auth.WhoAmI(auth_pb2.WhoAmIRequest())
    assert rig.log_text.count('"session opened"') == logins
    rig.clock.turn(200)
    # The client logs in anew by itself.
    owner.auth.WhoAmI(auth_pb2.WhoAmIRequest())
    assert rig.log_text.count('"session opened"') == logins + 1
    assert answers(rig).count("SESSION_EXPIRED") == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_keys_that_a_server_takes_up_late_refuse_nothing_that_it_signed_until_then(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path, pilot_proxy: Path, restarted: bool
) -> None:
    identity = load_identity(alice_proxy)
    present = rig.state / "keys" / "token.key"
    assert main(["keys", "rotate", "token", "session", "--config", str(rig.config_path)]) == 0
    present.chmod(0o644)
    for _ in range(3):
        rig.clock.turn(3600)
        rig.call(lambda app: app.prune())
    assert rig.log_text.count("new keys are not used") == 3
    submit(owner, delegate(owner, identity, kind=EC))
    lease = acquire(pilot, register(pilot))
    present.chmod(0o600)
    rig.call(lambda app: app.prune())
    assert '"keys taken up"' in rig.log_text
    if restarted:
        rig.restart()
        pilot = rig.client(pilot_proxy)
    else:
        owner.auth.WhoAmI(auth_pb2.WhoAmIRequest())
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    assert set(answers(rig)) == {"OK"}
    rig.clock.turn(2 * 3600 + 60)
    rig.call(lambda app: app.prune())
    assert [path.name for kind in keys.ROTATED for path in old_keys(rig, kind)] == []


def test_an_old_session_key_that_is_removed_ends_its_sessions_at_once(rig: Rig, owner: Client) -> None:
    owner.auth.WhoAmI(auth_pb2.WhoAmIRequest())
    logins = rig.log_text.count('"session opened"')
    rotate(rig, "session")
    for path in old_keys(rig, "session"):
        path.unlink()
    rig.call(lambda app: app.take_up_keys())
    owner.auth.WhoAmI(auth_pb2.WhoAmIRequest())
    assert answers(rig).count("SESSION_INVALID") == 1
    assert rig.log_text.count('"session opened"') == logins + 1


def test_jobs_that_waited_through_a_rotation_run_with_keys_wrapped_anew(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delegated = delegate(owner, load_identity(alice_proxy), kind=EC)
    for _ in range(3):
        submit(owner, delegated)
    held = acquire(pilot, pilot_id := register(pilot))
    (before,) = {(rig.state / "keys" / "wrap.key").read_bytes()}
    rotate(rig, "wrap")
    rig.call(lambda app: app.rewrap())
    assert old_keys(rig, "wrap") == []
    assert all(before not in path.read_bytes() for path in (rig.state / "keys").iterdir())
    capsys.readouterr()
    assert main(["keys", "list", "--config", str(rig.config_path)]) == 0
    assert "wraps 3 retrieval keys" in capsys.readouterr().out
    fresh = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=held.lease_id)
    )
    assert fresh.retrieval_key == delegated.retrieval_key
    assert '"lost":0' in rig.log_text
    rig.stop()
    with contextlib.closing(sqlite3.connect(rig.state / "jobs.sqlite")) as connection, connection:
        connection.execute("UPDATE job_key SET wrapped = substr(wrapped, 10) WHERE job_seq = 1")
    assert main(["keys", "list", "--config", str(rig.config_path)]) == 0
    told = capsys.readouterr().out
    assert "wraps 2 retrieval keys\n1 retrieval keys are wrapped in the older form" in told


# death in between


@pytest.fixture
def server(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[DyingServer]:
    made = DyingServer(grid, tmp_path, host)
    yield made
    made.close()


def run_all(server: DyingServer, pilot_proxy: Path, delegated: Delegated, count: int) -> None:
    """Take that many jobs and their proxies."""
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=load_identity(pilot_proxy)) as channel:
        pilot = Client(channel)
        pilot_id = register(pilot)
        for _ in range(count):
            lease = acquire(pilot, pilot_id)
            assert lease.retrieval_key == delegated.retrieval_key
            pilot.credentials.RetrieveCredential(retrieve_request(lease))


@pytest.mark.parametrize("step", ROTATION_STEPS)
def test_a_server_that_dies_while_keys_are_wrapped_anew_loses_none(
    server: DyingServer, alice_proxy: Path, pilot_proxy: Path, step: str
) -> None:
    server.step = step
    server.start()
    identity = load_identity(alice_proxy)
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=identity) as channel:
        owner = Client(channel)
        delegated = delegate(owner, identity, kind=EC)
        for _ in range(3):
            submit(owner, delegated)
    assert server.command("keys", "rotate", "wrap").returncode == 0
    server.signal(signal.SIGHUP)
    assert server.wait() == -signal.SIGKILL
    left = list((server.state / "keys").glob("wrap-*.key"))
    assert len(left) == (1 if step in ROTATION_STEPS[:2] else 0)
    server.step = ""
    server.start()
    deadline = time.monotonic() + 120
    while list((server.state / "keys").glob("wrap-*.key")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "wraps 3 retrieval keys" in server.command("keys", "list").stdout
    run_all(server, pilot_proxy, delegated, 3)


def test_a_server_that_is_killed_after_a_rotation_refuses_nothing_afterwards(
    server: DyingServer, alice_proxy: Path, pilot_proxy: Path
) -> None:
    server.start()
    identity = load_identity(alice_proxy)
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=identity) as channel:
        owner = Client(channel)
        delegated = delegate(owner, identity, kind=EC)
        submit(owner, delegated)
        submit(owner, delegated)
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=load_identity(pilot_proxy)) as channel:
        lease = acquire(Client(channel), register(Client(channel)))
    assert server.command("keys", "rotate").returncode == 0
    server.stop(signal.SIGKILL)
    server.start()
    with open_channel(server.target, ca_dir=server.grid.ca_dir, identity=load_identity(pilot_proxy)) as channel:
        Client(channel).credentials.RetrieveCredential(retrieve_request(lease))
    run_all(server, pilot_proxy, delegated, 1)
