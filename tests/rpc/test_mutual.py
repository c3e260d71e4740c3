"""The mutual-TLS port: end-entity certificates, verified again by our verifier."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage.v1 import auth_pb2, credential_pb2
from pilotage.x509.files import LocalIdentity, load_identity
from support.journey import delegate
from support.refusals import reason
from support.server_rig import Client, Rig, local_identity

ME = auth_pb2.WhoAmIRequest()


@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_a_certificate_is_identity_enough(rig: Rig, grid: ToyGrid, key: str) -> None:
    who = grid.user("Service user", key=key)
    me = rig.mutual_client(local_identity(who)).auth.WhoAmI(ME)
    assert me.principal.dn == who.dn
    assert me.principal.proof == auth_pb2.PROOF_KIND_MUTUAL_TLS
    assert list(me.roles) == []


def test_roles_come_from_the_subject(rig: Rig, admin: LocalIdentity) -> None:
    assert list(rig.mutual_client(admin).auth.WhoAmI(ME).roles) == ["admin"]


def test_a_host_certificate_works_too(rig: Rig, host: Identity) -> None:
    assert rig.mutual_client(local_identity(host)).auth.WhoAmI(ME).principal.dn == host.dn


def test_a_proxy_is_refused_by_the_handshake(rig: Rig, alice_proxy: Path) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        rig.mutual_client(load_identity(alice_proxy)).auth.WhoAmI(ME, timeout=60)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_an_unknown_authority_is_refused_by_the_handshake(rig: Rig, tmp_path: Path) -> None:
    elsewhere = ToyGrid(tmp_path / "elsewhere", "Other Grid")
    foreign = local_identity(elsewhere.user("Mallory"))
    with pytest.raises(grpc.RpcError) as caught:
        rig.mutual_client(foreign).auth.WhoAmI(ME, timeout=60)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_nobody_comes_to_the_mutual_port_without_a_certificate(rig: Rig, grid: ToyGrid) -> None:
    roots = grpc.ssl_channel_credentials((grid.root / "ca.pem").read_bytes())
    with grpc.secure_channel(rig.mutual_target, roots) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            Client(channel).auth.BeginLogin(auth_pb2.BeginLoginRequest(), timeout=60)
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_on_the_login_port_proves_nothing(rig: Rig, admin: LocalIdentity) -> None:
    from pilotage.transport import mutual_credentials

    with grpc.secure_channel(rig.target, mutual_credentials(rig.grid.ca_dir, admin)) as channel:
        assert reason(Client(channel).auth.WhoAmI, ME) is Reason.UNAUTHENTICATED


def test_a_revoked_certificate_is_refused_within_a_minute(rig: Rig, grid: ToyGrid) -> None:
    who = grid.user("Leaving service")
    client = rig.mutual_client(local_identity(who))
    client.auth.WhoAmI(ME)
    grid.revoke(who)
    rig.clock.turn(61)
    assert reason(client.auth.WhoAmI, ME) is Reason.CERTIFICATE_REVOKED


def test_a_clock_that_is_put_back_keeps_no_revoked_certificate_in(rig: Rig, grid: ToyGrid) -> None:
    who = grid.user("Leaving in autumn")
    client = rig.mutual_client(local_identity(who))
    rig.clock.turn(1800)
    client.auth.WhoAmI(ME)
    grid.revoke(who)
    rig.clock.turn(-1700)
    assert reason(client.auth.WhoAmI, ME) is Reason.CERTIFICATE_REVOKED


def test_a_certificate_that_ends_while_connected_is_refused(rig: Rig, grid: ToyGrid) -> None:
    client = rig.mutual_client(local_identity(grid.user("Short", days=1)))
    client.auth.WhoAmI(ME)
    rig.clock.turn(86400 + 10)
    assert reason(client.auth.WhoAmI, ME) is Reason.CERTIFICATE_EXPIRED


def test_a_bad_token_is_not_made_good_by_a_certificate(rig: Rig, admin: LocalIdentity) -> None:
    client = rig.mutual_client(admin)
    call = lambda request: client.auth.WhoAmI(request, metadata=(("authorization", "Bearer x"),))  # noqa: E731
    assert reason(call, ME) is Reason.SESSION_INVALID


def test_an_owner_can_delegate_over_the_mutual_port(make_rig: Callable[..., Rig], alice: Identity) -> None:
    rig = make_rig(roles={"owner": [alice.dn]})
    identity = local_identity(alice)
    client = rig.mutual_client(identity)
    stored = delegate(client, identity).message
    assert stored.owner_dn == alice.dn
    listed = rig.client(identity).credentials.ListCredentials(credential_pb2.ListCredentialsRequest())
    assert [found.credential_id for found in listed.credentials] == [stored.credential_id]
