"""Jobs that want VOMS attributes which their credential has not: which pilots get them, and what cannot be wanted."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from pilotage.v1 import job_pb2 as pb
from pilotage.v1 import pilot_pb2
from pilotage.x509.files import load_identity
from support.journey import Delegated, acquire, delegate, register
from support.refusals import reason
from support.server_rig import OWNER_ROLE, PILOT_ROLE, Client, Rig

HIGGS = "/other/higgs/Role=production"


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(roles={"owner": [OWNER_ROLE, "/O=Toy Grid/CN=Carol"], "pilot": [PILOT_ROLE]})


@pytest.fixture
def carol(rig: Rig, plain_proxy: Path) -> tuple[Client, Delegated]:
    """One whose credential has no attributes."""
    client = rig.client(plain_proxy)
    return client, delegate(client, load_identity(plain_proxy))


def submit(who: tuple[Client, Delegated], *fqans: str) -> str:
    owner, delegated = who
    request = pb.SubmitJobsRequest(
        request_id=str(uuid.uuid4()),
        specs=[pb.JobSpec(command=["/bin/true"], fqans=fqans)],
        credential_id=delegated.credential_id,
        retrieval_key=delegated.retrieval_key,
    )
    return str(owner.jobs.SubmitJobs(request).job_ids[0])


def work(pilot: Client, pilot_id: str) -> list[str]:
    """Return the jobs that a pilot gets at once."""
    leases = pilot.pilots.AcquireJobs(pilot_pb2.AcquireJobsRequest(pilot_id=pilot_id, slots=4)).leases
    return [lease.job_id for lease in leases]


def test_only_a_pilot_that_adds_attributes_of_that_vo_gets_the_job(
    carol: tuple[Client, Delegated], pilot: Client
) -> None:
    job_id = submit(carol, HIGGS, "/other/Role=NULL/Capability=NULL")
    for tags in ((), ("voms:demo",), ("voms:others",)):
        assert work(pilot, register(pilot, tags=tags)) == []
    lease = acquire(pilot, register(pilot, tags=("voms:demo", "voms:other")))
    assert lease.job_id == job_id
    # In the spelling that everybody compares.
    assert list(lease.spec.fqans) == [HIGGS, "/other"]
    told = carol[0].jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job.spec
    assert list(told.fqans) == [HIGGS, "/other"]
    assert list(told.tags) == []


def test_a_job_that_wants_none_goes_to_any(carol: tuple[Client, Delegated], pilot: Client) -> None:
    job_ids = [submit(carol), submit(carol)]
    assert work(pilot, register(pilot)) == job_ids


def test_where_the_credential_has_attributes_nobody_needs_to_add_any(
    owner: Client, alice_proxy: Path, pilot: Client
) -> None:
    who = owner, delegate(owner, load_identity(alice_proxy))
    job_id = submit(who, OWNER_ROLE)
    assert work(pilot, register(pilot)) == [job_id]
    # Those of another VO cannot be added to it.
    assert reason(submit, who, HIGGS) is Reason.JOB_SPEC_INVALID


@pytest.mark.parametrize(
    "fqans",
    [
        ("other",),
        ("",),
        ("/other", "/demo"),
        ("/other/Role=a b",),
        ("/other/Role=x&lifetime=1",),
        ("/" + "o" * 60,),
        tuple(f"/other/{number:040}" for number in range(20)),
    ],
)
def test_what_no_server_of_a_vo_could_be_asked_is_refused(
    carol: tuple[Client, Delegated], fqans: tuple[str, ...]
) -> None:
    assert reason(submit, carol, *fqans) is Reason.JOB_SPEC_INVALID
