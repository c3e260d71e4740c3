"""Wrapping retrieval keys anew: in batches, beside everything else, cut off anywhere and begun again."""

import sqlite3

import pytest

from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import JobState
from pilotage_server.jobs import rewrapping
from pilotage_server.jobs.rewrapping import Rewrapped, rewrap
from pilotage_server.jobs.wrapping import PREFIX_BYTES
from pilotage_server.store import job_keys
from support.desks import ALICE, BOB, RETRIEVAL_KEY, Desks, spec

pytestmark = pytest.mark.asyncio

FIRST, SECOND, THIRD = (Secret(letter * 32) for letter in (b"w", b"x", b"y"))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrapping, "BATCH", 2)


async def prefixes(desks: Desks) -> dict[bytes, int]:
    return await desks.database.read(job_keys.wrapped_with)


async def all_run(desks: Desks, count: int) -> None:
    """Lease every job that waits, with its key."""
    grants = await desks.take(await desks.register(slots=count), slots=count)
    assert [grant.retrieval_key for grant in grants] == [RETRIEVAL_KEY] * count


async def test_every_key_is_wrapped_anew_and_opens_with_the_new_key_alone(desks: Desks) -> None:
    for owner in (ALICE, BOB):
        await desks.submit(owner, *[spec() for _ in range(3)])
    desks.wrapping.replace(SECOND, [FIRST])
    assert await rewrap(desks.database, desks.wrapping) == Rewrapped(done=6, lost=0)
    assert await prefixes(desks) == {desks.wrapping.current_prefix: 6}
    assert await rewrap(desks.database, desks.wrapping) == Rewrapped(done=0, lost=0)
    desks.wrapping.replace(SECOND)
    await all_run(desks, 6)


async def test_keys_of_the_older_form_are_wrapped_anew_as_well(desks: Desks) -> None:
    await desks.submit(ALICE, spec(), spec())

    def shorten(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE job_key SET wrapped = substr(wrapped, ?)", (PREFIX_BYTES + 1,))

    await desks.database.write(shorten)
    assert await rewrap(desks.database, desks.wrapping) == Rewrapped(done=2, lost=0)
    await all_run(desks, 2)


async def test_a_key_that_nothing_opens_is_counted_and_holds_up_no_other(desks: Desks) -> None:
    (spoilt, *_) = [await desks.submit() for _ in range(5)]

    def spoil(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE job_key SET wrapped = zeroblob(69) WHERE job_seq = 1")

    await desks.database.write(spoil)
    desks.wrapping.replace(SECOND, [FIRST])
    assert await rewrap(desks.database, desks.wrapping) == Rewrapped(done=4, lost=1)
    desks.wrapping.replace(SECOND)
    await all_run(desks, 4)
    job = await desks.job(spoilt)
    assert (job.state, job.reason) == (JobState.HELD, Reason.RETRIEVAL_KEY_WRONG.name)


async def test_a_pass_that_is_cut_off_goes_on_at_the_next(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    await desks.submit(ALICE, *[spec() for _ in range(5)])
    old = desks.wrapping.current_prefix
    desks.wrapping.replace(SECOND, [FIRST])
    real, calls = job_keys.replace, 0

    def fail(connection: sqlite3.Connection, job_seq: int, wrapped: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError("cut off")
        real(connection, job_seq, wrapped)

    with monkeypatch.context() as broken:
        broken.setattr(job_keys, "replace", fail)
        with pytest.raises(OSError, match="cut off"):
            await rewrap(desks.database, desks.wrapping)
    assert await prefixes(desks) == {desks.wrapping.current_prefix: 2, old: 3}
    assert await rewrap(desks.database, desks.wrapping) == Rewrapped(done=3, lost=0)
    desks.wrapping.replace(SECOND)
    await all_run(desks, 5)


async def test_a_rotation_in_the_middle_of_a_pass_leaves_nothing_with_the_key_before(
    desks: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desks.submit(ALICE, *[spec() for _ in range(5)])
    desks.wrapping.replace(SECOND, [FIRST])
    real, calls = job_keys.replace, 0

    def rotate(connection: sqlite3.Connection, job_seq: int, wrapped: bytes) -> None:
        nonlocal calls
        calls += 1
        real(connection, job_seq, wrapped)
        if calls == 3:
            desks.wrapping.replace(THIRD, [FIRST, SECOND])

    monkeypatch.setattr(job_keys, "replace", rotate)
    found = await rewrap(desks.database, desks.wrapping)
    assert found.lost == 0
    assert await prefixes(desks) == {desks.wrapping.current_prefix: 5}
    desks.wrapping.replace(THIRD)
    await all_run(desks, 5)


async def test_jobs_that_come_and_go_during_a_pass_are_wrapped_with_the_new_key(desks: Desks) -> None:
    (first, *_) = [await desks.submit() for _ in range(4)]
    desks.wrapping.replace(SECOND, [FIRST])
    work = rewrap(desks.database, desks.wrapping)
    await desks.jobs.cancel(ALICE, [first])
    await desks.submit()
    assert await work == Rewrapped(done=3, lost=0)
    assert await prefixes(desks) == {desks.wrapping.current_prefix: 4}
