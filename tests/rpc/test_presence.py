"""A caller whose certificate is revoked while a session of theirs goes on."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.v1 import auth_pb2, job_pb2, pilot_pb2
from pilotage.wire_errors import translated
from pilotage.x509.files import LocalIdentity, load_identity, write_proxy
from pilotage.x509.keys import KeyKind
from pilotage.x509.proxies import sign_proxy
from pilotage_server.app import App
from pilotage_server.auth.login import principal_of
from pilotage_server.auth.sessions import LIFETIME
from pilotage_server.principal import Principal, Proof
from support.journey import acquire, delegate, register, retrieve_request, submit
from support.server_rig import PILOT_ROLE, Client, Rig

EC = KeyKind.EC_P256


class Robot:
    """A pilot with a certificate of its own, and a lease."""

    def __init__(self, rig: Rig, owner: Client, alice: LocalIdentity, folder: Path) -> None:
        self.who: Identity = rig.grid.robot(f"Robot of {folder.name}")
        self.proxy = rig.grid.voms_proxy(self.who, folder / "robot.proxy", fqans=(PILOT_ROLE, "/demo"))
        self.client = rig.client(self.proxy)
        submit(owner, delegate(owner, alice, kind=EC))
        self.pilot_id = register(self.client)
        self.lease = acquire(self.client, self.pilot_id)

    def ask(self) -> pilot_pb2.RefreshCredentialTokenRequest:
        return pilot_pb2.RefreshCredentialTokenRequest(pilot_id=self.pilot_id, lease_id=self.lease.lease_id)


@pytest.fixture
def robot(rig: Rig, owner: Client, alice_proxy: Path, tmp_path: Path) -> Robot:
    return Robot(rig, owner, load_identity(alice_proxy), tmp_path)


@pytest.fixture
def unharmed(grid: ToyGrid) -> Iterator[None]:
    """Let the list of the session's grid be current again at the end."""
    yield
    grid.write_crl()


def opened(rig: Rig) -> int:
    return rig.log_text.count('"session opened"')


def test_a_pilot_that_is_revoked_gets_no_more_of_anybody_although_its_session_would_go_on(
    rig: Rig, grid: ToyGrid, owner: Client, robot: Robot
) -> None:
    robot.client.pilots.RefreshCredentialToken(robot.ask())
    grid.revoke(robot.who)
    before = opened(rig)
    rig.call(App.check_credentials)
    for call in (
        lambda: robot.client.credentials.RetrieveCredential(retrieve_request(robot.lease)),
        lambda: robot.client.pilots.RefreshCredentialToken(robot.ask()),
        lambda: robot.client.pilots.AcquireJobs(pilot_pb2.AcquireJobsRequest(pilot_id=robot.pilot_id, slots=1)),
    ):
        # The session is refused, the client logs in anew, and that tells why.
        with pytest.raises(PilotageError, match="CERTIFICATE_REVOKED"), translated():
            call()
    # Everybody else goes on, with the session they have.
    owner.jobs.ListJobs(job_pb2.ListJobsRequest())
    assert opened(rig) == before


def test_a_login_as_somebody_else_by_the_same_key_brings_no_revoked_session_back(
    rig: Rig, grid: ToyGrid, alice_proxy: Path, robot: Robot, tmp_path: Path
) -> None:
    """Anybody who is not revoked can make a proxy for the key of one who is."""
    grid.revoke(robot.who)
    rig.call(App.check_credentials)
    alice, key = load_identity(alice_proxy), load_identity(robot.proxy).key
    hour, now = datetime.timedelta(hours=1), datetime.datetime.now(datetime.UTC)
    proxy = sign_proxy(alice.chain, alice.key, key.public_key(), lifetime=hour, now=now)
    write_proxy(tmp_path / "same-key.proxy", (proxy, *alice.chain), key)
    same_key = rig.client(tmp_path / "same-key.proxy")
    for _ in range(2):
        assert same_key.auth.WhoAmI(auth_pb2.WhoAmIRequest()).principal.dn.endswith("CN=Alice")
        with pytest.raises(PilotageError, match="CERTIFICATE_REVOKED"), translated():
            robot.client.pilots.RefreshCredentialToken(robot.ask())
        rig.call(App.check_credentials)


def test_a_login_that_was_under_way_when_the_list_was_changed_is_seen_at_the_next_look(
    rig: Rig, grid: ToyGrid, robot: Robot
) -> None:
    """It was verified against the list before, and is noted after the look that saw the new one."""
    identity = load_identity(robot.proxy)
    seen = rig.call(lambda app: caller_of(app, identity))
    grid.revoke(robot.who)
    rig.call(App.check_credentials)
    rig.call(lambda app: note(app, seen, identity))
    robot.client.pilots.RefreshCredentialToken(robot.ask())
    rig.call(App.check_credentials)
    with pytest.raises(PilotageError, match="CERTIFICATE_REVOKED"), translated():
        robot.client.pilots.RefreshCredentialToken(robot.ask())


def test_a_revoked_key_is_shut_out_for_as_long_as_any_session_of_it_can_last(
    rig: Rig, grid: ToyGrid, robot: Robot
) -> None:
    """Its newest session may have been one of a proxy that ended soon."""
    identity = load_identity(robot.proxy)
    caller = rig.call(lambda app: caller_of(app, identity))
    soon = msgspec.structs.replace(caller, expire_time=rig.clock() + datetime.timedelta(minutes=2))
    rig.call(lambda app: note(app, soon, identity))
    grid.revoke(robot.who)
    rig.call(App.check_credentials)
    rig.clock.turn(600)
    rig.call(App.check_credentials)
    with pytest.raises(PilotageError, match="CERTIFICATE_REVOKED"), translated():
        robot.client.pilots.RefreshCredentialToken(robot.ask())


async def caller_of(app: App, identity: LocalIdentity) -> Principal:
    """Return whom a login with a chain makes the caller, with the end of a session of an hour."""
    found = principal_of(await app._verifier.chain(identity.chain_der), Proof.SESSION)
    return msgspec.structs.replace(found, expire_time=app.clock() + LIFETIME)


async def note(app: App, caller: Principal, identity: LocalIdentity) -> None:
    """Have a login noted that was verified some time ago."""
    app._presence.note(caller, identity.chain_der)


def test_a_list_that_is_stale_shuts_nobody_out(rig: Rig, grid: ToyGrid, robot: Robot, unharmed: None) -> None:
    grid.write_crl(days=-0.5)
    rig.call(App.check_credentials)
    robot.client.pilots.RefreshCredentialToken(robot.ask())


def test_a_session_that_has_ended_is_forgotten(rig: Rig, robot: Robot) -> None:
    assert rig.app is not None
    before = len(rig.app._presence)
    assert before > 0
    rig.clock.turn(3700)
    rig.call(App.check_credentials)
    assert len(rig.app._presence) == 0
    robot.client.auth.WhoAmI(auth_pb2.WhoAmIRequest())
    assert len(rig.app._presence) == 1
