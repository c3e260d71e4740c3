"""A person with two names: the pilot runs the payload as the name whose credential it is, whoever submitted it."""

from pathlib import Path

import pytest

from pilotage.jobs import JobSpec
from pilotage.states import JobState
from support.pilot_rig import PilotRig, host, make_node, node

__all__ = ["host", "make_node", "node"]

pytestmark = pytest.mark.root


def test_a_job_submitted_by_a_linked_name_runs_as_the_credentials_owner(node: PilotRig, tmp_path: Path) -> None:
    pilot = node.start()
    submitter, other = node.owner(0), node.owner(1)
    mine, theirs = submitter.whoami().dn, other.whoami().dn
    submitter.credentials.link(theirs)
    assert other.credentials.link(mine)
    own = node.wait(other, node.submit(other, "/usr/bin/id", "-un"))
    command = ("/bin/sh", "-c", 'id -un; openssl x509 -in "$X509_USER_PROXY" -noout -subject; cp data.txt out.txt')
    data = tmp_path / "data.txt"
    data.write_text("of the submitter\n")
    spec = JobSpec(command=command, wall_seconds=600, outputs=("out.txt",))
    (job_id,) = submitter.submit([spec], members={"data.txt": data}, credential_owner=theirs)
    job = node.wait(submitter, job_id)
    assert (job.state, job.reason) == (JobState.FINISHED, ""), pilot.log
    assert job.owner_dn == theirs
    assert job.result is not None
    assert own.result is not None
    assert job.result.account == own.result.account
    account, subject = node.printed(submitter, job_id).splitlines()
    assert account == own.result.account
    assert theirs.rpartition("CN=")[2] in subject
    submitter.fetch(job_id, tmp_path / "fetched")
    assert (tmp_path / "fetched" / "out.txt").read_text() == "of the submitter\n"
    assert pilot.stop() == 0
