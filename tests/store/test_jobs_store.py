"""What owners do: submit all or nothing and once, see their own and nobody else's, cancel, watch, read logs."""

import asyncio
import datetime
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import JobState
from pilotage_server.jobs import JobLimits, KeyWrap
from pilotage_server.jobs.logs import Stream
from pilotage_server.store import jobs as store
from support.desks import (
    ALICE,
    BOB,
    CREDENTIAL,
    OK,
    PILOT,
    RETRIEVAL_KEY,
    SPEC,
    START,
    Desks,
    principal,
    spec,
)

pytestmark = pytest.mark.asyncio


async def refused(awaitable: Awaitable[object]) -> Reason:
    """Return the reason with which something was refused."""
    with pytest.raises(PilotageError) as caught:
        await awaitable
    return caught.value.reason


# submit


async def test_a_job_is_stored_activated_with_its_first_events(desks: Desks) -> None:
    job = await desks.job(await desks.submit())
    assert job.state is JobState.ACTIVATED
    assert job.owner_dn == ALICE.dn
    assert (job.vo, job.fqan, job.credential_id) == ("demo", "/demo/Role=analysis", CREDENTIAL)
    assert job.spec == msgspec.structs.replace(SPEC, cores=1, max_attempts=3)
    assert job.create_time == START
    assert (job.end_time, job.result) == (None, None)
    assert await desks.states(job.job_id) == ["defined", "activated"]


async def test_a_repeated_request_answers_as_the_first_time_did(desks: Desks) -> None:
    first = await desks.jobs.submit(ALICE, "request", [SPEC, SPEC], CREDENTIAL, RETRIEVAL_KEY)
    desks.credentials.known.clear()
    assert await desks.jobs.submit(ALICE, "request", [SPEC, SPEC], CREDENTIAL, RETRIEVAL_KEY) == first
    assert len(await desks.jobs.list_jobs(ALICE, (), None, 100)) == 2


async def test_the_same_request_at_the_same_time_makes_its_jobs_once(desks: Desks) -> None:
    answers = await asyncio.gather(
        *(desks.jobs.submit(ALICE, "request", [SPEC], CREDENTIAL, RETRIEVAL_KEY) for _ in range(5))
    )
    assert len(set(answers)) == 1
    assert len(await desks.jobs.list_jobs(ALICE, (), None, 100)) == 1


async def test_a_request_id_is_not_good_for_something_else(desks: Desks) -> None:
    await desks.jobs.submit(ALICE, "request", [SPEC], CREDENTIAL, RETRIEVAL_KEY)
    other = desks.jobs.submit(ALICE, "request", [spec(cores=2)], CREDENTIAL, RETRIEVAL_KEY)
    assert await refused(other) is Reason.REQUEST_ID_REUSED
    assert await desks.jobs.submit(BOB, "request", [SPEC], CREDENTIAL, RETRIEVAL_KEY)


async def test_one_wrong_job_keeps_all_out(desks: Desks) -> None:
    wanted = [SPEC, spec(command=()), SPEC]
    with pytest.raises(PilotageError, match="Job 2 of 3") as caught:
        await desks.jobs.submit(ALICE, "request", wanted, CREDENTIAL, RETRIEVAL_KEY)
    assert caught.value.reason is Reason.JOB_SPEC_INVALID
    assert await desks.look("SELECT COUNT(*) FROM job") == [(0,)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"command": ()}, Reason.JOB_SPEC_INVALID),
        ({"command": ("",)}, Reason.JOB_SPEC_INVALID),
        ({"command": ("a\0b",)}, Reason.JOB_SPEC_INVALID),
        ({"command": ("x" * 200_000,)}, Reason.JOB_SPEC_INVALID),
        ({"command": ("x",) * 5000}, Reason.JOB_SPEC_INVALID),
        ({"name": "n" * 257}, Reason.JOB_SPEC_INVALID),
        ({"name": "bad\x1b[2J"}, Reason.JOB_SPEC_INVALID),
        ({"environment": {"": "x"}}, Reason.JOB_SPEC_INVALID),
        ({"environment": {"A=B": "x"}}, Reason.JOB_SPEC_INVALID),
        ({"environment": {"1A": "x"}}, Reason.JOB_SPEC_INVALID),
        ({"environment": {"A\n": "x"}}, Reason.JOB_SPEC_INVALID),
        ({"environment": {"A": "x\0"}}, Reason.JOB_SPEC_INVALID),
        ({"environment": {"LD_PRELOAD": "x"}}, Reason.JOB_SPEC_INVALID),
        ({"environment": {f"V{n}": "" for n in range(257)}}, Reason.JOB_SPEC_INVALID),
        ({"environment": {"A": "x" * 200_000}}, Reason.JOB_SPEC_INVALID),
        ({"outputs": ("/etc/passwd",)}, Reason.JOB_SPEC_INVALID),
        ({"outputs": ("a/../../b",)}, Reason.JOB_SPEC_INVALID),
        ({"outputs": ("..",)}, Reason.JOB_SPEC_INVALID),
        ({"outputs": ("",)}, Reason.JOB_SPEC_INVALID),
        ({"outputs": ("a\0",)}, Reason.JOB_SPEC_INVALID),
        ({"outputs": ("a",) * 257}, Reason.JOB_SPEC_INVALID),
        ({"input_sandbox": "../../etc/passwd"}, Reason.JOB_SPEC_INVALID),
        ({"input_sandbox": "A" * 64}, Reason.JOB_SPEC_INVALID),
        ({"input_sandbox": "a" * 64}, Reason.SANDBOX_NOT_FOUND),
        ({"site": "no such/site"}, Reason.JOB_SPEC_INVALID),
        ({"tags": ("",)}, Reason.JOB_SPEC_INVALID),
        ({"tags": tuple(f"t{n}" for n in range(33))}, Reason.JOB_SPEC_INVALID),
        ({"cores": 257}, Reason.JOB_TOO_LARGE),
        ({"memory_bytes": 2**63}, Reason.JOB_TOO_LARGE),
        ({"disk_bytes": 2**64 - 1}, Reason.JOB_TOO_LARGE),
        ({"wall_seconds": 8 * 86400}, Reason.JOB_TOO_LARGE),
        ({"max_attempts": 11}, Reason.JOB_TOO_LARGE),
        ({"priority": 101}, Reason.JOB_TOO_LARGE),
        ({"priority": -101}, Reason.JOB_TOO_LARGE),
    ],
)
async def test_a_job_that_cannot_be_is_refused(desks: Desks, change: dict[str, object], reason: Reason) -> None:
    assert await refused(desks.submit(ALICE, spec(**change))) is reason


async def test_the_names_ordinary_jobs_use_are_taken(desks: Desks) -> None:
    await desks.submit(
        ALICE,
        spec(
            name="Analyse für Ωmega",
            environment={"_X1": "ü = \n 1"},
            outputs=("*.csv", "plots/**/a..b.png", "..."),
            command=("sh", "-c", ""),
        ),
    )


async def test_a_limited_proxy_may_not_submit(desks: Desks) -> None:
    assert await refused(desks.submit(principal("Alice", limited=True))) is Reason.LIMITED_PROXY_REFUSED


async def test_a_call_submits_at_least_one_and_not_too_many(desks: Desks) -> None:
    for wanted in ([], [SPEC] * 1001):
        submit = desks.jobs.submit(ALICE, desks.request_id(), wanted, CREDENTIAL, RETRIEVAL_KEY)
        assert await refused(submit) is Reason.INVALID_ARGUMENT


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
async def test_a_retrieval_key_has_32_bytes(desks: Desks, key: bytes) -> None:
    submit = desks.jobs.submit(ALICE, "request", [SPEC], CREDENTIAL, Secret(key))
    assert await refused(submit) is Reason.INVALID_ARGUMENT


async def test_the_credential_must_be_the_owners_and_outlive_the_job(desks: Desks) -> None:
    submit = desks.jobs.submit(ALICE, "request", [SPEC], "another", RETRIEVAL_KEY)
    assert await refused(submit) is Reason.CREDENTIAL_NOT_FOUND
    needed = 600 + desks.limits.credential_margin_seconds
    desks.credentials.put(ALICE, START + datetime.timedelta(seconds=needed - 1))
    assert await refused(desks.submit()) is Reason.CREDENTIAL_TOO_SHORT
    desks.credentials.put(ALICE, START + datetime.timedelta(seconds=needed))
    await desks.submit()


async def test_an_owner_has_so_many_open_jobs_and_no_more(tmp_path: Path) -> None:
    small = Desks(tmp_path / "small", JobLimits(queued_jobs_per_owner=3))
    try:
        job_id = await small.submit(ALICE, SPEC, SPEC)
        assert await refused(small.submit(ALICE, SPEC, SPEC)) is Reason.QUEUE_LIMIT
        await small.submit(BOB, SPEC, SPEC, SPEC)
        await small.jobs.cancel(ALICE, [job_id])
        await small.submit(ALICE, SPEC, SPEC)
    finally:
        await small.close()


async def test_a_submit_that_is_abandoned_still_wakes_a_pilot(desks: Desks) -> None:
    pilot_id = await desks.register()
    waiting = asyncio.ensure_future(desks.pilots.acquire(PILOT, pilot_id, 1, 30))
    await asyncio.sleep(0.01)
    committing, loop = asyncio.Event(), asyncio.get_running_loop()
    desks.database._writer.set_trace_callback(
        lambda text: loop.call_soon_threadsafe(committing.set) if text == "COMMIT" else None
    )
    submitting = asyncio.ensure_future(desks.submit())
    await committing.wait()
    submitting.cancel()
    acquired = await asyncio.wait_for(waiting, 60)
    assert len(acquired.grants) == 1


# secrets


async def test_the_retrieval_key_is_nowhere_in_the_files(desks: Desks, tmp_path: Path) -> None:
    await desks.submit()
    for name in ("jobs.sqlite", "jobs.sqlite-wal"):
        assert RETRIEVAL_KEY.reveal() not in (tmp_path / name).read_bytes()


async def test_a_wrapped_key_opens_for_its_own_job_only(desks: Desks) -> None:
    of_alice = {"job_id": "1", "owner_dn": ALICE.dn, "credential_id": "c"}
    wrapped = desks.wrapping.wrap(RETRIEVAL_KEY, **of_alice)
    assert desks.wrapping.unwrap(wrapped, **of_alice) == RETRIEVAL_KEY
    for change in ({"job_id": "2"}, {"owner_dn": BOB.dn}, {"credential_id": "d"}):
        with pytest.raises(PilotageError) as caught:
            desks.wrapping.unwrap(wrapped, **(of_alice | change))
        assert caught.value.reason is Reason.RETRIEVAL_KEY_WRONG
    with pytest.raises(PilotageError):
        KeyWrap(Secret(bytes(32))).unwrap(wrapped, **of_alice)
    with pytest.raises(PilotageError):
        desks.wrapping.unwrap(wrapped[:5], **of_alice)


async def test_a_final_jobs_key_is_forgotten(desks: Desks) -> None:
    job_id = await desks.submit()
    await desks.jobs.cancel(ALICE, [job_id])
    assert await desks.look("SELECT COUNT(*) FROM job_key") == [(0,)]


# other owners


async def test_another_owners_job_is_one_that_never_was(desks: Desks) -> None:
    job_id = await desks.submit(ALICE)
    assert await refused(desks.job(job_id, BOB)) is Reason.JOB_NOT_FOUND
    assert await refused(desks.states(job_id, BOB)) is Reason.JOB_NOT_FOUND
    assert await refused(anext(desks.jobs.watch(BOB, [job_id]))) is Reason.JOB_NOT_FOUND
    log = desks.jobs.read_log(BOB, job_id, Stream.STDOUT, 0, 0, follow=False)
    assert await refused(anext(log)) is Reason.JOB_NOT_FOUND
    (result,) = await desks.jobs.cancel(BOB, [job_id])
    assert result.reason == "JOB_NOT_FOUND"
    assert await desks.jobs.list_jobs(BOB, (), None, 10) == []
    assert (await desks.job(job_id)).state is JobState.ACTIVATED


# list


async def test_jobs_are_listed_newest_first_page_by_page_and_by_state(desks: Desks) -> None:
    made = [await desks.submit() for _ in range(5)]
    await desks.submit(BOB)
    await desks.jobs.cancel(ALICE, [made[1], made[3]])
    first = await desks.jobs.list_jobs(ALICE, (), None, 2)
    rest = await desks.jobs.list_jobs(ALICE, (), first[-1][0], 10)
    assert [job.job_id for _, job in first + rest] == made[::-1]
    cancelled = await desks.jobs.list_jobs(ALICE, (JobState.CANCELLED,), None, 10)
    assert [job.job_id for _, job in cancelled] == [made[3], made[1]]


# cancel


async def test_a_waiting_job_is_cancelled_at_once_and_a_second_time_changes_nothing(desks: Desks) -> None:
    job_id = await desks.submit()
    for _ in range(2):
        (result,) = await desks.jobs.cancel(ALICE, [job_id])
        assert result.reason == ""
    job = await desks.job(job_id)
    assert (job.state, job.reason) == (JobState.CANCELLED, "CANCELLED_BY_OWNER")
    assert await desks.states(job_id) == ["defined", "activated", "cancelled"]
    assert await desks.take(await desks.register()) == ()


async def test_a_finished_job_cannot_be_cancelled_and_its_neighbours_still_are(desks: Desks) -> None:
    finished = await desks.submit()
    pilot_id = await desks.register()
    (grant,) = await desks.take(pilot_id)
    await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK)
    waiting = await desks.submit()
    results = await desks.jobs.cancel(ALICE, [finished, "no such job", waiting])
    assert [result.reason for result in results] == ["JOB_FINAL", "JOB_NOT_FOUND", ""]
    assert (await desks.job(finished)).state is JobState.FINISHED
    assert (await desks.job(waiting)).state is JobState.CANCELLED


# watch


async def until(condition: Callable[[], bool]) -> None:
    """Let the others go on until something has happened."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- what a generator has yielded wakes nobody
            await asyncio.sleep(0.001)


async def test_a_watcher_sees_every_job_at_once_and_each_change_until_all_are_final(desks: Desks) -> None:
    first, second = await desks.submit(), await desks.submit()
    seen: list[tuple[str, str]] = []

    async def watch() -> None:
        async for job in desks.jobs.watch(ALICE, [first, second]):
            seen.append((job.job_id, job.state.label))

    watching = asyncio.ensure_future(watch())
    await until(lambda: len(seen) >= 2)
    assert seen == [(first, "activated"), (second, "activated")]
    await desks.jobs.cancel(ALICE, [second])
    pilot_id = await desks.register()
    (grant,) = await desks.take(pilot_id)
    await until(lambda: len(seen) >= 4)
    await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK)
    await asyncio.wait_for(watching, 60)
    assert seen[2:] == [(second, "cancelled"), (first, "sent"), (first, "finished")]
    assert desks.notices._watchers == {}


async def test_a_watcher_is_told_when_the_server_stops(desks: Desks) -> None:
    job_id = await desks.submit()
    watch = desks.jobs.watch(ALICE, [job_id])
    await anext(watch)
    waiting = asyncio.ensure_future(refused(anext(watch)))
    await asyncio.sleep(0)
    desks.notices.close()
    assert await asyncio.wait_for(waiting, 60) is Reason.UNAVAILABLE


# logs


async def log_of(desks: Desks, job_id: str, offset: int = 0, attempt: int = 0, *, follow: bool = False) -> bytes:
    chunks = desks.jobs.read_log(ALICE, job_id, Stream.STDOUT, offset, attempt, follow=follow)
    return b"".join([chunk.data async for chunk in chunks])


async def test_a_log_is_followed_to_the_end_of_the_job_over_attempts(desks: Desks) -> None:
    job_id = await desks.submit()
    heard: list[bytes] = []

    async def follow() -> bytes:
        async for chunk in desks.jobs.read_log(ALICE, job_id, Stream.STDOUT, 0, 0, follow=True):
            heard.append(chunk.data)
        return b"".join(heard)

    following = asyncio.ensure_future(follow())
    pilot_id = await desks.register()
    for text in (b"one ", b"two "):
        (grant,) = await desks.take(pilot_id)
        await desks.pilots.append_log(PILOT, pilot_id, grant.lease_id, Stream.STDOUT, 0, text, truncated=False)
        await until(lambda text=text: b"".join(heard).endswith(text))  # type: ignore[misc]  # bound at once
        if text == b"one ":
            desks.turn(1000)
            await desks.pilots.sweep()
    await desks.pilots.append_log(PILOT, pilot_id, grant.lease_id, Stream.STDOUT, 4, b"end", truncated=False)
    await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK)
    assert await asyncio.wait_for(following, 60) == b"one two end"
    assert await log_of(desks, job_id) == b"two end"
    assert await log_of(desks, job_id, offset=4) == b"end"
    assert await log_of(desks, job_id, attempt=1) == b"one "
    assert await asyncio.wait_for(log_of(desks, job_id, attempt=1, follow=True), 60) == b"one "


# the store under the desk


async def test_a_move_from_what_is_no_more_is_refused_and_leaves_no_event(desks: Desks) -> None:
    job_id = await desks.submit()
    note = store.Note("server", START)

    def twice(connection: sqlite3.Connection) -> None:
        row = store.owned(connection, job_id, ALICE.dn)
        held = msgspec.structs.replace(row, state=JobState.HELD)
        store.move(connection, row, held, note)
        store.move(connection, row, held, note)

    assert await refused(desks.database.write(twice)) is Reason.TRANSITION_REFUSED
    assert await desks.states(job_id) == ["defined", "activated"]


async def test_the_database_itself_refuses_a_move_that_is_not_in_the_table(desks: Desks) -> None:
    job_id = await desks.submit()

    def forge(statement: str) -> Callable[[sqlite3.Connection], object]:
        return lambda c: c.execute(statement, (job_id,)).rowcount

    where = " WHERE job_id = ?"
    for statement in (
        "UPDATE job SET state = 13" + where,
        "UPDATE job SET state = 7" + where,
        "UPDATE job SET state = 9" + where,
        "INSERT INTO event (job_seq, time_us, from_state, to_state, attempt, actor, reason, message)"
        " SELECT job_seq, 0, 9, 3, 0, 'server', '', '' FROM job" + where,
    ):
        with pytest.raises(sqlite3.IntegrityError):
            await desks.database.write(forge(statement))


async def test_counters_agree_with_what_they_count(desks: Desks) -> None:
    made = [await desks.submit(ALICE, spec(cores=1 + number % 2)) for number in range(6)]
    pilot_id = await desks.register(slots=3)
    grants = await desks.take(pilot_id, slots=3)
    await desks.pilots.finish(PILOT, pilot_id, grants[0].lease_id, OK)
    await desks.pilots.release(PILOT, pilot_id, grants[1].lease_id, "", "")
    await desks.jobs.cancel(ALICE, made[-1:])
    queued = "SELECT class_id, SUM(state = 3) FROM job GROUP BY class_id ORDER BY class_id"
    assert await desks.look("SELECT class_id, queued FROM queue ORDER BY class_id") == await desks.look(queued)
    assert await desks.look("SELECT open_jobs FROM owner") == await desks.look("SELECT SUM(state < 9) FROM job")


async def test_two_sets_of_requirements_never_share_a_class(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotage_server.jobs.job_desk.class_id", lambda _: 42)
    await desks.submit(ALICE, spec(cores=1))
    assert await refused(desks.submit(ALICE, spec(cores=2))) is Reason.JOB_SPEC_INVALID
