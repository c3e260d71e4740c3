"""Jobs that are held for a fault of the service itself, which passes: nobody delegates anew for that."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from toygrid import ToyGrid

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.states import Outcome
from pilotage.v1 import credential_pb2 as pb
from pilotage.v1 import job_pb2, pilot_pb2
from pilotage.wire_errors import translated
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind
from pilotage_pilot.outcomes import judge_error
from pilotage_server.app import App
from support.journey import acquire, delegate, register, retrieve_request, submit
from support.server_rig import OWNER_ROLE, PILOT_ROLE, Rig
from support.shell import Shell

HELD, ACTIVATED = job_pb2.JOB_STATE_HELD, job_pb2.JOB_STATE_ACTIVATED


class World:
    """A grid of its own, whose revocation list may grow stale, with a server, an owner and a pilot."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.grid = ToyGrid(folder)
        self.rig = Rig(self.grid, state, self.grid.host("localhost", key="ec"))
        self.rig.start()
        alice = self.grid.voms_proxy(self.grid.user("Alice"), folder / "alice", fqans=(OWNER_ROLE, "/demo"))
        robot = self.grid.voms_proxy(self.grid.robot("Robot"), folder / "robot", fqans=(PILOT_ROLE, "/demo"))
        self.identity: LocalIdentity = load_identity(alice)
        self.owner, self.pilot = self.rig.client(alice), self.rig.client(robot)
        self.pilot_id = register(self.pilot)
        self.shell = Shell(self.rig, alice, state / "home")

    def state(self, job_id: str) -> tuple[int, str]:
        job = self.owner.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)).job
        return job.state, job.reason

    def lease(self, credential_seconds: int = 36000) -> pilot_pb2.Lease:
        delegated = delegate(self.owner, self.identity, kind=KeyKind.EC_P256, lifetime_seconds=credential_seconds)
        submit(self.owner, delegated)
        return acquire(self.pilot, self.pilot_id)

    def refused(self, lease: pilot_pb2.Lease) -> Reason:
        """Retrieve in vain, and end the attempt with what our pilot makes of that."""
        with pytest.raises(PilotageError) as caught, translated():
            self.pilot.credentials.RetrieveCredential(retrieve_request(lease))
        result = judge_error(caught.value).result
        assert result.outcome is Outcome.CREDENTIAL
        told = job_pb2.AttemptResult(outcome=job_pb2.OUTCOME_CREDENTIAL, reason=result.reason, message=result.message)
        finish = pilot_pb2.FinishJobRequest(pilot_id=self.pilot_id, lease_id=lease.lease_id, result=told)
        assert self.pilot.pilots.FinishJob(finish).state == HELD
        return caught.value.reason


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("grid"), tmp_path)
    yield made
    made.rig.stop()


def test_a_stale_list_holds_jobs_for_as_long_as_it_is_stale(world: World) -> None:
    leases = [world.lease() for _ in range(3)]
    world.grid.write_crl(days=-0.5)
    assert [world.refused(lease) for lease in leases] == [Reason.CRL_EXPIRED] * 3
    world.rig.call(App.prune)
    assert {world.state(lease.job_id) for lease in leases} == {(HELD, "CRL_EXPIRED")}
    # Nobody can log in by then; who looks as soon as that works again is told to wait, not to delegate.
    world.grid.write_crl()
    doctor = world.shell.run("doctor").out
    assert "3 jobs are held: CRL_EXPIRED" in doctor
    assert "tell the operators of the service" in doctor
    world.rig.call(App.prune)
    assert {world.state(lease.job_id) for lease in leases} == {(ACTIVATED, "")}
    again = acquire(world.pilot, world.pilot_id)
    assert again.attempt == 2
    world.pilot.credentials.RetrieveCredential(retrieve_request(again))


def test_a_job_whose_credential_went_meanwhile_is_held_for_that(world: World) -> None:
    destroyed, short = world.lease(), world.lease(credential_seconds=3 * 3600)
    world.grid.write_crl(days=-0.5)
    assert world.refused(destroyed) is Reason.CRL_EXPIRED
    assert world.refused(short) is Reason.CRL_EXPIRED
    world.owner.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=destroyed.credential_id))
    world.grid.write_crl()
    world.rig.clock.turn(2.5 * 3600)
    world.rig.call(App.prune)
    assert world.state(destroyed.job_id) == (HELD, "CREDENTIAL_DESTROYED")
    assert world.state(short.job_id) == (HELD, "CREDENTIAL_TOO_SHORT")


def test_a_job_that_is_held_for_its_owner_is_not_released(world: World) -> None:
    lease = world.lease()
    world.owner.credentials.DestroyCredential(pb.DestroyCredentialRequest(credential_id=lease.credential_id))
    assert world.refused(lease) is Reason.CREDENTIAL_DESTROYED
    world.rig.call(App.prune)
    assert world.state(lease.job_id) == (HELD, "CREDENTIAL_DESTROYED")
