"""The asyncio SDK walks the owner's journey like the synchronous one."""

from pathlib import Path

import pytest
from toygrid import ToyGrid

from pilotage.aio_client import AsyncClient
from pilotage.errors import PilotageError
from pilotage.jobs import JobSpec
from pilotage.reasons import Reason
from pilotage.states import JobState
from pilotage.x509.files import load_identity
from pilotage_pilot.session import Session
from support.server_rig import LOOP, PILOT_ROLE, Rig


def test_the_asyncio_client_submits_watches_and_cancels(rig: Rig, alice_proxy: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1,2\n")
    talk: list[str] = []

    async def journey() -> None:
        async with AsyncClient(
            rig.target,
            ca_dir=rig.grid.ca_dir,
            identity=load_identity(alice_proxy),
            environ={"HOME": str(tmp_path)},
            say=talk.append,
        ) as client:
            assert (await client.whoami()).dn == "/O=Toy Grid/CN=Alice"
            spec = JobSpec(command=("/bin/true",), name="aio")
            (job_id,) = await client.submit([spec], members={"in/data.csv": data})
            (second,) = await client.submit([spec])
            assert len(talk) == 1
            job = await client.get(job_id)
            assert job.spec.input_sandbox
            assert [one.job_id async for one in client.list([JobState.ACTIVATED])] == [second, job_id]
            states = []
            async for change in client.watch([job_id], timeout=120):
                states.append(change.state)
                if not change.final:
                    await client.cancel([job_id])
            assert states == [JobState.ACTIVATED, JobState.CANCELLED]
            assert [event.to_state async for event in client.events(job_id)][-1] is JobState.CANCELLED
            assert b"".join([chunk.data async for chunk in client.logs(job_id)]) == b""
            with pytest.raises(PilotageError) as caught:
                await client.fetch(job_id, tmp_path / "out")
            assert caught.value.reason is Reason.SANDBOX_NOT_FOUND
            with pytest.raises(PilotageError) as caught:
                await client.get("no-such-job")
            assert caught.value.reason is Reason.JOB_NOT_FOUND
            credentials = [credential async for credential in client.list_credentials()]
            destroyed = await client.destroy_credential(credentials[0].credential_id)
            assert destroyed.destroy_time is not None

    LOOP.run(journey())


def test_a_pilot_whose_own_login_is_refused_does_not_take_it_for_an_owners(
    rig: Rig, grid: ToyGrid, tmp_path: Path
) -> None:
    robot = grid.robot("Robot - revoked")
    proxy = grid.voms_proxy(robot, tmp_path / "robot", fqans=(PILOT_ROLE, "/demo"))
    grid.revoke(robot)

    async def ask() -> None:
        async with Session(rig.target, ca_dir=grid.ca_dir, identity=load_identity(proxy)) as session:
            await session.acquire(1, 0.1)

    with pytest.raises(PilotageError) as caught:
        LOOP.run(ask())
    assert caught.value.reason is Reason.UNAUTHENTICATED
    assert "The pilot's own login is refused: CERTIFICATE_REVOKED" in caught.value.message
