"""What fails around a delegation and a destruction: the owner is told, nothing is half done, and the next try works."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from pilotage.v1 import credential_pb2 as pb
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server.commands import main
from support.journey import Delegated, acquire, complete_request, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_rig import Client, Rig

EC = KeyKind.EC_P256


@pytest.fixture
def identity(alice_proxy: Path) -> LocalIdentity:
    return load_identity(alice_proxy)


def stored(owner: Client) -> list[str]:
    """Return the owner's credentials, newest first."""
    return [one.credential_id for one in owner.credentials.ListCredentials(pb.ListCredentialsRequest()).credentials]


def gone(delegated: Delegated) -> pb.DestroyCredentialRequest:
    return pb.DestroyCredentialRequest(credential_id=delegated.credential_id)


def told(state: Path) -> dict[str, list[str]]:
    """Return what the audit says was done with each credential."""
    with contextlib.closing(sqlite3.connect(state / "credentials.sqlite")) as connection:
        rows = connection.execute("SELECT credential_id, act FROM audit WHERE act LIKE 'credential%' ORDER BY seq")
        found: dict[str, list[str]] = {}
        for credential_id, act in rows:
            found.setdefault(credential_id, []).append(act)
        return found


def works(rig: Rig, owner: Client, pilot: Client, identity: LocalIdentity, kept: Delegated) -> None:
    """Check that what was not destroyed serves, and that everything can be done again."""
    submit(owner, kept)
    pilot.credentials.RetrieveCredential(retrieve_request(acquire(pilot, register(pilot))))
    new = delegate(owner, identity, kind=EC)
    assert stored(owner)[0] == new.credential_id
    owner.credentials.DestroyCredential(gone(kept))
    assert kept.credential_id not in stored(owner)
    assert told(rig.state)[kept.credential_id] == ["credential stored", "credential destroyed"]
    assert main(["audit", "verify", "--config", str(rig.config_path)]) == 0


def test_a_locked_database_refuses_both_and_leaves_nothing_half_done(
    rig: Rig, owner: Client, pilot: Client, identity: LocalIdentity
) -> None:
    kept = delegate(owner, identity, kind=EC)
    half = complete_request(owner, identity, kind=EC)
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert reason(owner.credentials.DestroyCredential, gone(kept)) is Reason.STORE_UNAVAILABLE
        assert reason(owner.credentials.CompleteDelegation, half) is Reason.STORE_UNAVAILABLE
        other.execute("ROLLBACK")
    assert stored(owner) == [kept.credential_id]
    assert told(rig.state) == {kept.credential_id: ["credential stored"]}
    # The key of a delegation is forgotten with it, and a new one is begun.
    assert reason(owner.credentials.CompleteDelegation, half) is Reason.DELEGATION_NOT_FOUND
    works(rig, owner, pilot, identity, kept)


@pytest.mark.root
def test_a_full_disk_refuses_delegations_and_destroys_or_says_so(
    request: pytest.FixtureRequest,
    make_rig: Callable[..., Rig],
    alice_proxy: Path,
    pilot_proxy: Path,
    identity: LocalIdentity,
) -> None:
    disk: Path = request.getfixturevalue("small_disk")
    rig = make_rig()
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    kept, doomed = delegate(owner, identity, kind=EC), delegate(owner, identity, kind=EC)
    full = disk / "full"
    with full.open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), b"x" * 4096)
    # What is allocated already may still serve a few; then it says so.
    answers: list[Reason | None] = []
    while Reason.DISK_FULL not in answers:
        half = complete_request(owner, identity, kind=EC)
        try:
            answers.append(reason(owner.credentials.CompleteDelegation, half))
        except pytest.fail.Exception:
            answers.append(None)
        assert len(answers) < 500
    assert set(answers) <= {None, Reason.DISK_FULL}
    before = stored(owner)
    assert len(before) == 2 + answers.count(None)
    assert reason(owner.credentials.DestroyCredential, gone(doomed)) is Reason.DISK_FULL
    assert stored(owner) == before
    full.unlink()
    owner.credentials.DestroyCredential(gone(doomed))
    assert set(told(rig.state)) == set(before)
    works(rig, owner, pilot, identity, kept)
