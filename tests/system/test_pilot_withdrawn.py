"""A credential that is withdrawn while a payload runs with a proxy of it: what the pilot does, in real parts."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from toygrid import Identity

from pilotage.client import Client
from pilotage.errors import PilotageError
from pilotage.states import JobState, Outcome
from pilotage.x509.files import LocalIdentity, load_identity
from support.helper_rig import ANALYSIS
from support.pilot_rig import PilotRig, host, make_node
from support.server_rig import ADMIN_CN, local_identity

__all__ = ["host", "make_node"]

pytestmark = pytest.mark.root

CHECK_SECONDS = 1
STUBBORN = """
trap '' TERM
setsid sh -c 'trap "" TERM; exec sleep 300' &
[ $PILOTAGE_ATTEMPT = 1 ] || exit 0
echo ready
while :; do sleep 1; done
"""
"""A payload that will not go by itself, with a child in a session of its own."""


@pytest.fixture
def node(make_node: Callable[..., PilotRig]) -> PilotRig:
    return make_node(credentials={"check_seconds": CHECK_SECONDS})


class Owner:
    """Somebody with a certificate of their own, which may be revoked without harm to other tests."""

    def __init__(self, node: PilotRig, folder: Path) -> None:
        self.who: Identity = node.helper.grid.user(f"leaver {folder.name}")
        proxy = node.helper.grid.voms_proxy(self.who, folder / "leaver.proxy", fqans=(ANALYSIS, "/demo"))
        self.client = client_of(node, load_identity(proxy), folder)


def client_of(node: PilotRig, identity: LocalIdentity, home: Path) -> Client:
    ca_dir = node.helper.grid.ca_dir
    return Client(node.server.target, ca_dir=ca_dir, identity=identity, environ={"HOME": str(home)})


@pytest.fixture
def owner(node: PilotRig, tmp_path: Path) -> Iterator[Owner]:
    made = Owner(node, tmp_path)
    yield made
    made.client.close()


def stored_state(node: PilotRig, job_id: str) -> tuple[int, str]:
    """Return a job's state and reason as the database has them: whoever is revoked is told nothing any more."""
    with contextlib.closing(sqlite3.connect(node.server.state / "jobs.sqlite")) as connection:
        found: tuple[int, str] = connection.execute(
            "SELECT state, reason FROM job WHERE job_id = ?", (job_id,)
        ).fetchone()
    return found


def by_its_owner(_node: PilotRig, owner: Owner, credential_id: str, _folder: Path) -> None:
    owner.client.credentials.destroy(credential_id)


def by_an_admin(node: PilotRig, _owner: Owner, credential_id: str, folder: Path) -> None:
    admin = local_identity(node.helper.grid.user(ADMIN_CN))
    with client_of(node, admin, folder / "admin") as client:
        client.credentials.destroy(credential_id)


def by_its_authority(node: PilotRig, owner: Owner, _credential_id: str, _folder: Path) -> None:
    node.helper.grid.revoke(owner.who)


@pytest.mark.parametrize(
    ("withdraw", "reason"),
    [
        (by_its_owner, "CREDENTIAL_DESTROYED"),
        (by_an_admin, "CREDENTIAL_DESTROYED"),
        (by_its_authority, "CREDENTIAL_REVOKED"),
    ],
)
def test_a_payload_whose_credential_is_withdrawn_is_ended_and_nothing_of_its_proxy_is_left(
    node: PilotRig,
    owner: Owner,
    withdraw: Callable[[PilotRig, Owner, str, Path], None],
    reason: str,
    tmp_path: Path,
) -> None:
    pilot = node.start()
    job_id = node.submit(owner.client, "/bin/sh", "-c", STUBBORN)
    node.running(owner.client, job_id)
    credential_id = owner.client.get(job_id).credential_id
    assert any(path.name == "proxy" for path in pilot.private_files())
    withdraw(node, owner, credential_id, tmp_path)
    node.until(lambda: stored_state(node, job_id) == (int(JobState.HELD), reason))
    assert f"the server wants it ended: {reason}" in pilot.log
    node.nothing_left()
    if withdraw is by_its_authority:
        with pytest.raises(PilotageError, match="CERTIFICATE_REVOKED"):
            owner.client.get(job_id)
        return
    job = owner.client.get(job_id)
    assert job.result is not None
    assert (job.result.outcome, job.result.reason) == (Outcome.KILLED, reason), pilot.log
    (issued,) = owner.client.credentials.issuances(credential_id)
    assert issued.job_id == job_id
    # A new delegation is all that is wanted of the owner: the job goes on, and this attempt did not count.
    owner.client.credentials.delegate(timedelta(hours=10))
    again = node.wait(owner.client, job_id)
    assert (again.state, again.attempt) == (JobState.FINISHED, 2), pilot.log
    node.nothing_left()
