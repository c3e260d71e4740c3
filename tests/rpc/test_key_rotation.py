"""Keys rotated under a server that runs: nothing is lost, nobody waits, and the old keys are let go of."""

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage.transport import open_channel
from pilotage.v1 import admin_pb2, auth_pb2, pilot_pb2
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server import keys
from pilotage_server.commands import main
from pilotage_server.credentials.sealing import key_id
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_process import ServerProcess
from support.server_rig import Client, Rig

EC = KeyKind.EC_P256


def command(rig: Rig, *words: str) -> int:
    return main([*words, "--config", str(rig.config_path)])


def take_up(rig: Rig) -> None:
    rig.call(lambda app: app.take_up_keys())


def sealed_with(rig: Rig, delegated: Delegated) -> str:
    """Return the id of the service key that a credential is sealed with."""
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as connection:
        query = "SELECT hex(substr(sealed, 2, 8)) FROM credentials WHERE credential_id = ?"
        return str(connection.execute(query, (delegated.credential_id,)).fetchone()[0]).lower()


def present(rig: Rig) -> str:
    return key_id(keys.read_key(rig.state / "keys" / "service.key")).hex()


def test_what_old_keys_sealed_and_signed_serves_and_is_sealed_anew_at_its_use(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path, admin: LocalIdentity, capsys: pytest.CaptureFixture[str]
) -> None:
    used, unused = (delegate(owner, load_identity(alice_proxy), kind=EC) for _ in range(2))
    submit(owner, used)
    lease = acquire(pilot, register(pilot))
    before = present(rig)
    assert command(rig, "keys", "rotate") == 0
    take_up(rig)
    after = present(rig)
    assert before != after
    assert (sealed_with(rig, used), sealed_with(rig, unused)) == (before, before)
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    assert (sealed_with(rig, used), sealed_with(rig, unused)) == (after, before)
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_USED
    assert sealed_with(rig, delegate(owner, load_identity(alice_proxy), kind=EC)) == after
    capsys.readouterr()
    assert command(rig, "keys", "list") == 0
    told = capsys.readouterr().out
    assert f"service.key  {after}  seals 2 credentials" in told
    assert f"{before}  seals 1 credentials" in told
    submit(owner, used)
    pilot.credentials.RetrieveCredential(retrieve_request(acquire(pilot, register(pilot))))
    found = rig.mutual_client(admin).admin.QueryAudit(admin_pb2.QueryAuditRequest(act="keys in use")).entries
    assert [row.facts["service"] for row in found] == [after, before]
    assert command(rig, "audit", "verify") == 0


def test_the_audit_is_anchored_with_the_new_key_and_the_old_one_goes(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path
) -> None:
    assert command(rig, "keys", "rotate", "token") == 0
    assert command(rig, "audit", "verify") == 0
    take_up(rig)
    (old,) = (rig.state / "keys").glob("token-*.key")
    rig.clock.turn(3700)
    rig.call(lambda app: app.prune())
    assert not old.exists()
    assert command(rig, "audit", "verify") == 0
    rig.restart()
    assert command(rig, "audit", "verify") == 0


def test_a_token_outlives_the_rotation_and_not_its_five_minutes(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path
) -> None:
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    command(rig, "keys", "rotate", "token")
    take_up(rig)
    fresh = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    )
    new = retrieve_request(lease)
    new.credential_token = fresh.credential_token
    pilot.credentials.RetrieveCredential(new)
    rig.clock.turn(310)
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_EXPIRED
    rig.clock.turn(120)
    # Now not even its signature is believed, whatever date it shows.
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.TOKEN_INVALID


def test_keys_that_others_may_read_are_not_taken_up_and_the_old_ones_serve_on(
    rig: Rig, owner: Client, pilot: Client, alice_proxy: Path
) -> None:
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    command(rig, "keys", "rotate")
    (rig.state / "keys" / "service.key").chmod(0o644)
    rig.call(lambda app: app.prune())
    assert '"new keys are not used"' in rig.log_text
    lease = acquire(pilot, register(pilot))
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    (rig.state / "keys" / "service.key").chmod(0o600)
    rig.call(lambda app: app.prune())
    assert '"keys taken up"' in rig.log_text


def test_a_kind_that_does_not_exist_is_told_and_a_lost_key_is_seen(
    rig: Rig, owner: Client, alice_proxy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(rig, "keys", "rotate", "host") == 2
    delegated = delegate(owner, load_identity(alice_proxy), kind=EC)
    lost = sealed_with(rig, delegated)
    command(rig, "keys", "rotate", "service")
    (old,) = (rig.state / "keys").glob("service-*.key")
    old.unlink()
    assert command(rig, "keys", "list") == 1
    assert f"MISSING  {lost}  seals 1 credentials" in capsys.readouterr().out


def test_a_server_takes_rotated_keys_up_at_sighup_and_a_killed_one_at_its_start(
    grid: ToyGrid, host: Identity, tmp_path: Path, alice_proxy: Path, pilot_proxy: Path
) -> None:
    server = ServerProcess(grid, tmp_path, host)
    try:
        server.start()
        identity = load_identity(alice_proxy)
        for how in (signal.SIGHUP, signal.SIGKILL):
            with (
                open_channel(server.target, ca_dir=grid.ca_dir, identity=identity) as one,
                open_channel(server.target, ca_dir=grid.ca_dir, identity=load_identity(pilot_proxy)) as two,
            ):
                owner, pilot = Client(one), Client(two)
                submit(owner, delegate(owner, identity, kind=EC))
                lease = acquire(pilot, register(pilot))
                assert server.command("keys", "rotate").returncode == 0
                if how is signal.SIGHUP:
                    server.signal(how)
                    server.wait_for('"keys taken up"')
                    pilot.credentials.RetrieveCredential(retrieve_request(lease))
                    continue
            server.stop(how)
            server.start()
            with open_channel(server.target, ca_dir=grid.ca_dir, identity=load_identity(pilot_proxy)) as two:
                Client(two).credentials.RetrieveCredential(retrieve_request(lease))
        assert server.command("audit", "verify").returncode == 0
    finally:
        server.close()


def test_a_file_that_cannot_be_removed_does_not_end_the_server(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch, alice_proxy: Path
) -> None:
    """What looks like the rest of a rotation that was killed, and is a directory."""
    monkeypatch.setattr("pilotage_server.app.HOUSEKEEPING_SECONDS", 0.05)
    rig = make_rig()
    odd = rig.state / "keys" / ".session.key.copies"
    odd.mkdir()
    os.utime(odd, (0, 0))
    end = time.monotonic() + 20
    while rig.log_text.count('"housekeeping failed') < 2:
        assert rig.app is not None
        assert not rig.app.failed, rig.log_text
        assert time.monotonic() < end
        time.sleep(0.05)
    rig.client(alice_proxy).auth.WhoAmI(auth_pb2.WhoAmIRequest())
