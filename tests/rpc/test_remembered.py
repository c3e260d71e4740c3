"""Chains that the server remembers: as good as verified at this moment, or not used."""

import os
from pathlib import Path

import pytest
from toygrid import ToyGrid

from pilotage.reasons import Reason
from pilotage.v1 import auth_pb2, pilot_pb2
from pilotage.x509.files import load_identity
from pilotage_helper import CacheState
from support.journey import acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.remembering import settle
from support.server_rig import OWNER_ROLE, Client, Rig

ME = auth_pb2.WhoAmIRequest()


def states(rig: Rig) -> tuple[CacheState, CacheState]:
    assert rig.app is not None
    return rig.app._verifier.remembered


@pytest.mark.parametrize("how", ["by rename", "in place with its old time"])
def test_a_revoked_owner_is_refused_at_the_next_retrieval_although_the_chain_is_remembered(
    rig: Rig, grid: ToyGrid, pilot: Client, tmp_path: Path, how: str
) -> None:
    who = grid.user(f"Remembered {how}")
    identity = load_identity(grid.voms_proxy(who, tmp_path / "proxy", fqans=(OWNER_ROLE, "/demo")))
    owner = rig.client(identity)
    kept = [(path, tmp_path / path.name, path.stat().st_mtime_ns) for path in sorted(grid.ca_dir.glob("*.r0"))]
    for path, link, _ in kept:
        os.link(path, link)
    settle(grid.ca_dir, grid.voms_dir)
    submit(owner, delegate(owner, identity))
    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    before = states(rig)[1]
    assert pilot.credentials.RetrieveCredential(retrieve_request(lease)).chain
    after = states(rig)[1]
    # It was verified when it was delegated; nothing of it has changed.
    assert (after.hits - before.hits, after.kept - before.kept) == (1, 0)
    again = pilot.pilots.RefreshCredentialToken(
        pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    )
    request = retrieve_request(lease)
    request.credential_token, request.retrieval_key = again.credential_token, again.retrieval_key
    grid.revoke(who)
    if how == "in place with its old time":
        for path, link, mtime in kept:
            text = path.read_bytes()
            link.replace(path)
            path.write_bytes(text)
            os.utime(path, ns=(mtime, mtime))
    assert reason(pilot.credentials.RetrieveCredential, request) is Reason.CREDENTIAL_REVOKED
    assert states(rig)[1].changed > after.changed


def test_a_second_login_with_the_same_chain_is_not_verified_anew(
    rig: Rig, grid: ToyGrid, alice_proxy: Path, tmp_path: Path
) -> None:
    settle(grid.ca_dir, grid.voms_dir)
    for _ in range(3):
        rig.client(alice_proxy).auth.WhoAmI(ME)
    assert (states(rig)[0].kept, states(rig)[0].hits) == (1, 2)
