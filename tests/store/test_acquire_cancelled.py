"""Pilots that hang up while work is being leased to them: no job waits for nobody, and none loses an attempt by it."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from pilotage.states import JobState
from support.desks import OTHER_PILOT, PILOT, Desks

pytestmark = pytest.mark.asyncio


async def hang_up_while_leased(desks: Desks, pilot_id: str, tmp_path: Path) -> None:
    """Have a pilot acquire and go while another program holds the database: the write has begun then."""
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asking = asyncio.ensure_future(desks.take(pilot_id))
        await asyncio.sleep(0.2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        other.execute("ROLLBACK")
    await settled(desks)


async def settled(desks: Desks) -> None:
    """Let what is under way reach the disk, and what follows of it as well."""
    for _ in range(3):
        await desks.database.write(lambda _: None)
        await asyncio.sleep(0.05)


async def test_a_job_leased_to_a_pilot_that_had_gone_is_offered_again_at_once(desks: Desks, tmp_path: Path) -> None:
    job_id = await desks.submit()
    await hang_up_while_leased(desks, await desks.register(), tmp_path)
    assert (await desks.job(job_id)).state is JobState.ACTIVATED
    (grant,) = await desks.take(await desks.register(OTHER_PILOT), OTHER_PILOT)
    assert grant.job_id == job_id
    ((tries,),) = await desks.look("SELECT tries FROM job WHERE job_id = ?", job_id)
    assert tries == 0


async def test_a_pilot_that_waits_gets_what_was_leased_to_one_that_had_gone(desks: Desks, tmp_path: Path) -> None:
    gone, waits = await desks.register(), await desks.register(OTHER_PILOT)
    job_id = await desks.submit()
    await hang_up_while_leased(desks, gone, tmp_path)
    acquired = await desks.pilots.acquire(OTHER_PILOT, waits, 1, 5)
    assert [grant.job_id for grant in acquired.grants] == [job_id]


async def test_slots_of_a_pilot_that_hung_up_are_free_when_it_comes_back(desks: Desks, tmp_path: Path) -> None:
    pilot_id = await desks.register(slots=1)
    job_id = await desks.submit()
    await hang_up_while_leased(desks, pilot_id, tmp_path)
    (grant,) = await desks.take(pilot_id)
    assert grant.job_id == job_id


async def test_a_pilot_that_hangs_up_just_when_it_is_answered_loses_nothing(desks: Desks) -> None:
    """Cancelled at any turn of the loop: either it has the lease, or nobody has."""
    pilot_id = await desks.register(slots=100)
    for turns in range(12):
        job_id = await desks.submit()
        asking = asyncio.ensure_future(desks.take(pilot_id, PILOT))
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns > 6:
            # Time enough for the disk; the answer is there, and not taken yet.
            await asyncio.sleep(0.002 * (turns - 6))
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await settled(desks)
        has_it = not asking.cancelled()
        assert (await desks.job(job_id)).state is (JobState.SENT if has_it else JobState.ACTIVATED), turns
        if not has_it:
            assert len(await desks.take(pilot_id, PILOT)) == 1
