"""Leases: one pilot, one attempt, one result; what is late, old or somebody else's changes nothing."""

import asyncio
import datetime
from collections.abc import Awaitable
from pathlib import Path

import msgspec
import pytest

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import JobState, Outcome
from pilotage_server import tokens
from pilotage_server.jobs import JobLimits, KeyWrap
from pilotage_server.jobs.logs import LogStore, Stream
from pilotage_server.jobs.moves import RELEASES
from pilotage_server.principal import Principal
from pilotage_server.store import pilots
from pilotage_server.workload import AttemptResult, Grant, Report, Usage
from support.desks import (
    ALICE,
    BOB,
    CREDENTIAL,
    OFFER,
    OK,
    OTHER_PILOT,
    PILOT,
    RETRIEVAL_KEY,
    SPEC,
    START,
    Desks,
    ended,
    principal,
    spec,
)

pytestmark = pytest.mark.asyncio

SAME_NAME_OTHER_KEY = principal("Pilot 1", "second")
INFRASTRUCTURE = ended(Outcome.INFRASTRUCTURE, Reason.WORKSPACE_UNUSABLE)


async def refused(awaitable: Awaitable[object]) -> Reason:
    """Return the reason with which something was refused."""
    with pytest.raises(PilotageError) as caught:
        await awaitable
    return caught.value.reason


async def leased(desks: Desks, phase: JobState | None = None, **changes: object) -> tuple[str, Grant]:
    """Submit a job, lease it and bring it to a phase; return the pilot's id and the lease."""
    await desks.submit(ALICE, spec(**changes))
    pilot_id = await desks.register()
    (grant,) = await desks.take(pilot_id)
    if phase is not None:
        assert await desks.beat(pilot_id, grant.lease_id, phase) == "CONTINUE"
    return pilot_id, grant


# register


async def test_a_repeated_registration_is_the_same_pilot(desks: Desks) -> None:
    first = await desks.pilots.register(PILOT, "one", OFFER)
    assert await desks.pilots.register(PILOT, "one", OFFER) == first
    assert await desks.pilots.register(PILOT, "two", OFFER) != first
    assert await desks.pilots.register(OTHER_PILOT, "one", OFFER) != first
    other = msgspec.structs.replace(OFFER, slots=9)
    assert await refused(desks.pilots.register(PILOT, "one", other)) is Reason.REQUEST_ID_REUSED


@pytest.mark.parametrize(
    "change",
    [
        {"slots": 0},
        {"slots": 5000},
        {"cores": 0},
        {"wall_seconds": 0},
        {"memory_bytes": 2**64 - 1},
        {"site": ""},
        {"tags": ("no good",)},
        {"worker_node": "x" * 300},
        {"version": "\x1b[2J"},
    ],
)
async def test_an_offer_that_makes_no_sense_is_refused(desks: Desks, change: dict[str, object]) -> None:
    assert await refused(desks.register(**change)) is Reason.INVALID_ARGUMENT


async def test_a_pilot_is_its_name_and_its_key(desks: Desks) -> None:
    pilot_id = await desks.register()
    await desks.submit()
    for stranger in (OTHER_PILOT, SAME_NAME_OTHER_KEY):
        assert await refused(desks.take(pilot_id, stranger)) is Reason.PILOT_NOT_REGISTERED
        assert await refused(desks.pilots.heartbeat(stranger, pilot_id, [])) is Reason.PILOT_NOT_REGISTERED
        assert await refused(desks.pilots.deregister(stranger, pilot_id)) is Reason.PILOT_NOT_REGISTERED
    # Logged in again with the same key, it is the same pilot.
    again = msgspec.structs.replace(PILOT, expire_time=PILOT.expire_time + datetime.timedelta(days=1))
    assert len(await desks.take(pilot_id, again)) == 1


# acquire


async def test_a_lease_carries_what_the_pilot_needs_and_a_token_for_nothing_else(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, name="mine")
    assert grant.spec == spec(name="mine", cores=1, max_attempts=3)
    assert (grant.attempt, grant.owner_dn, grant.credential_id) == (1, ALICE.dn, CREDENTIAL)
    assert grant.expire_time == START + datetime.timedelta(seconds=90)
    assert grant.retrieval_key == RETRIEVAL_KEY
    claims = tokens.verify(grant.token.reveal_text(), desks.token_key.public_key(), START)
    assert (claims.lease_id, claims.job_id, claims.attempt) == (grant.lease_id, grant.job_id, 1)
    assert (claims.owner_dn, claims.credential_id) == (ALICE.dn, CREDENTIAL)
    assert (claims.pilot_dn, claims.pilot_thumbprint) == (PILOT.dn, PILOT.thumbprint.hex())
    text = repr(grant)
    assert grant.token.reveal_text() not in text
    assert repr(RETRIEVAL_KEY.reveal()) not in text
    assert pilot_id


async def test_a_pilot_never_holds_more_leases_than_it_has_slots(desks: Desks) -> None:
    await desks.submit(ALICE, *[SPEC] * 5)
    pilot_id = await desks.register(slots=2)
    grants = await desks.take(pilot_id, slots=5)
    assert len(grants) == 2
    assert await refused(desks.take(pilot_id)) is Reason.TOO_MANY_LEASES
    await desks.pilots.finish(PILOT, pilot_id, grants[0].lease_id, OK)
    assert len(await desks.take(pilot_id, slots=5)) == 1


async def test_two_calls_at_once_do_not_get_more_than_the_slots(desks: Desks) -> None:
    await desks.submit(ALICE, *[SPEC] * 9)
    pilot_id = await desks.register(slots=2)
    got = await asyncio.gather(*(desks.take(pilot_id, slots=2) for _ in range(3)), return_exceptions=True)
    assert sum(len(grants) for grants in got if isinstance(grants, tuple)) == 2


async def test_no_job_is_leased_twice(desks: Desks) -> None:
    await desks.submit(ALICE, *[SPEC] * 10)
    ids = [await desks.register(pilot, slots=10) for pilot in (PILOT, OTHER_PILOT)]
    got = await asyncio.gather(desks.take(ids[0], PILOT, 10), desks.take(ids[1], OTHER_PILOT, 10))
    jobs = [grant.job_id for grants in got for grant in grants]
    assert len(jobs) == len(set(jobs)) == 10


async def test_a_waiting_pilot_is_woken_by_a_submit(desks: Desks) -> None:
    ids = [await desks.register(pilot) for pilot in (PILOT, OTHER_PILOT)]
    waiting = [
        asyncio.ensure_future(desks.pilots.acquire(pilot, pilot_id, 1, 30))
        for pilot, pilot_id in zip((PILOT, OTHER_PILOT), ids, strict=True)
    ]
    await asyncio.sleep(0.02)
    job_id = await desks.submit()
    done, pending = await asyncio.wait(waiting, timeout=120, return_when=asyncio.FIRST_COMPLETED)
    assert [grant.job_id for task in done for grant in task.result().grants] == [job_id]
    second = await desks.submit()
    (last,) = pending
    assert [grant.job_id for grant in (await asyncio.wait_for(last, 60)).grants] == [second]


async def test_a_pilot_that_waits_in_vain_gets_nothing(desks: Desks) -> None:
    pilot_id = await desks.register()
    await desks.submit(ALICE, spec(site="elsewhere"))
    acquired = await desks.pilots.acquire(PILOT, pilot_id, 1, 0.02)
    assert acquired.grants == ()
    assert not acquired.drain
    assert not desks.notices._places


async def test_a_pilot_too_near_its_end_gets_no_long_job(desks: Desks) -> None:
    pilot_id = await desks.register(wall_seconds=1000)
    await desks.submit(ALICE, spec(wall_seconds=600))
    desks.turn(401)
    assert await desks.take(pilot_id) == ()
    desks.turn(-1)
    assert len(await desks.take(pilot_id)) == 1


async def test_a_draining_pilot_gets_nothing_and_is_told(desks: Desks) -> None:
    pilot_id = await desks.register()
    await desks.submit()
    await desks.database.write(lambda c: pilots.set_drain(c, pilot_id, True))
    assert (await desks.pilots.acquire(PILOT, pilot_id, 1, 30)).drain
    assert (await desks.pilots.heartbeat(PILOT, pilot_id, [])).drain


async def test_a_job_whose_credential_would_end_first_is_held_instead(desks: Desks) -> None:
    desks.credentials.put(ALICE, START + datetime.timedelta(hours=2))
    tight = await desks.submit(ALICE, spec(wall_seconds=3600))
    short = await desks.submit(ALICE, spec(wall_seconds=60))
    desks.turn(3600)
    pilot_id = await desks.register(slots=5)
    assert [grant.job_id for grant in await desks.take(pilot_id, slots=5)] == [short]
    held = await desks.job(tight)
    assert (held.state, held.reason) == (JobState.HELD, "CREDENTIAL_TOO_SHORT")


async def test_a_job_whose_key_cannot_be_unwrapped_is_held_and_the_next_one_runs(desks: Desks) -> None:
    broken = await desks.submit()
    good = await desks.submit()
    await desks.database.write(lambda c: c.execute("UPDATE job_key SET wrapped = x'00' WHERE job_seq = 1").rowcount)
    pilot_id = await desks.register()
    assert [grant.job_id for grant in await desks.take(pilot_id)] == [good]
    assert (await desks.job(broken)).reason == "RETRIEVAL_KEY_WRONG"


async def test_a_row_moved_to_another_job_does_not_give_its_key(desks: Desks) -> None:
    """Somebody who writes to the database cannot have one owner's key given out for another's job."""
    await desks.submit(ALICE)
    mine = await desks.submit(BOB)
    steal = "UPDATE job_key SET wrapped = (SELECT wrapped FROM job_key WHERE job_seq = 1) WHERE job_seq = 2"
    await desks.database.write(lambda c: c.execute(steal).rowcount)
    pilot_id = await desks.register(slots=5)
    assert {grant.owner_dn for grant in await desks.take(pilot_id, slots=5)} == {ALICE.dn}
    assert (await desks.job(mine, BOB)).state is JobState.HELD


# heartbeat


async def test_reports_move_the_job_forward_and_prolong_the_lease(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.STARTING)
    for phase in (JobState.RUNNING, JobState.RUNNING, JobState.STARTING, JobState.HOLDING):
        desks.turn(170)
        assert await desks.pilots.sweep() == 0
        assert await desks.beat(pilot_id, grant.lease_id, phase) == "CONTINUE"
    assert await desks.states(grant.job_id) == ["defined", "activated", "sent", "starting", "running", "holding"]
    assert (await desks.job(grant.job_id)).start_time == START + datetime.timedelta(seconds=170)


async def test_a_first_report_may_be_late_in_the_attempt(desks: Desks) -> None:
    _, grant = await leased(desks, JobState.HOLDING)
    assert await desks.states(grant.job_id) == ["defined", "activated", "sent", "starting", "running", "holding"]


async def test_one_call_answers_each_lease_on_its_own(desks: Desks) -> None:
    await desks.submit(ALICE, SPEC, SPEC)
    pilot_id = await desks.register()
    mine, cancelled = await desks.take(pilot_id, slots=2)
    other_id = await desks.register(OTHER_PILOT)
    await desks.submit()
    (foreign,) = await desks.take(other_id, OTHER_PILOT)
    await desks.jobs.cancel(ALICE, [cancelled.job_id])
    told = [
        Report(lease_id, JobState.RUNNING)
        for lease_id in (mine.lease_id, cancelled.lease_id, foreign.lease_id, "no such lease")
    ]
    answers = (await desks.pilots.heartbeat(PILOT, pilot_id, told)).answers
    assert [(answer.order.name, answer.reason) for answer in answers] == [
        ("CONTINUE", ""),
        ("KILL", "CANCELLED_BY_OWNER"),
        ("LOST", "LEASE_FOREIGN"),
        ("LOST", "LEASE_NOT_FOUND"),
    ]
    assert (await desks.job(foreign.job_id)).state is JobState.SENT


@pytest.mark.parametrize("usage", [Usage(wall_seconds=float("nan")), Usage(cpu_user_seconds=-1.0)])
async def test_usage_that_cannot_be_is_refused(desks: Desks, usage: Usage) -> None:
    pilot_id, grant = await leased(desks)
    beat = desks.pilots.heartbeat(PILOT, pilot_id, [Report(grant.lease_id, JobState.RUNNING, usage)])
    assert await refused(beat) is Reason.INVALID_ARGUMENT


# finish


async def test_a_finish_records_how_it_ended(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    desks.turn(30)
    assert await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK) is JobState.FINISHED
    job = await desks.job(grant.job_id)
    assert job.result == OK
    assert job.end_time == START + datetime.timedelta(seconds=30)


async def test_a_payload_that_was_quick_needs_no_report_before_its_end(desks: Desks) -> None:
    pilot_id, grant = await leased(desks)
    assert await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK) is JobState.FINISHED
    assert await desks.states(grant.job_id) == ["defined", "activated", "sent", "starting", "running", "finished"]


async def test_the_same_result_again_answers_the_same_and_another_is_refused(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    for _ in range(3):
        assert await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK) is JobState.FINISHED
    other = msgspec.structs.replace(OK, exit_code=1)
    again = desks.pilots.finish(PILOT, pilot_id, grant.lease_id, other)
    assert await refused(again) is Reason.OUTCOME_ALREADY_RECORDED
    assert (await desks.job(grant.job_id)).result == OK
    assert (await desks.states(grant.job_id)).count("finished") == 1


@pytest.mark.parametrize(
    ("result", "state", "reason"),
    [
        (ended(Outcome.PAYLOAD, exit_code=3), JobState.FAILED, "PAYLOAD_FAILED"),
        (ended(Outcome.LIMIT, Reason.LIMIT_MEMORY), JobState.FAILED, "LIMIT_MEMORY"),
        (ended(Outcome.IDENTITY, Reason.NO_MAPPING), JobState.FAILED, "NO_MAPPING"),
        (ended(Outcome.CREDENTIAL, Reason.CREDENTIAL_DESTROYED), JobState.HELD, "CREDENTIAL_DESTROYED"),
        (ended(Outcome.KILLED, Reason.PILOT_DRAINING), JobState.FAILED, "PILOT_DRAINING"),
        (INFRASTRUCTURE, JobState.ACTIVATED, ""),
    ],
)
@pytest.mark.parametrize("phase", [None, JobState.STARTING, JobState.RUNNING, JobState.HOLDING])
async def test_the_outcome_says_what_becomes_of_the_job(
    desks: Desks, result: AttemptResult, state: JobState, reason: str, phase: JobState | None
) -> None:
    pilot_id, grant = await leased(desks, phase)
    assert await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, result) is state
    job = await desks.job(grant.job_id)
    assert (job.state, job.reason) == (state, reason)
    assert job.result is not None
    assert job.result.outcome is result.outcome


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (ended(Outcome.KILLED), JobState.CANCELLED),
        (INFRASTRUCTURE, JobState.CANCELLED),
        (ended(Outcome.CREDENTIAL, Reason.CREDENTIAL_EXPIRED), JobState.CANCELLED),
        (OK, JobState.FINISHED),
        (ended(Outcome.PAYLOAD, exit_code=1), JobState.FAILED),
    ],
)
async def test_once_the_owner_asked_for_the_end_nothing_is_tried_again(
    desks: Desks, result: AttemptResult, state: JobState
) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    for _ in range(2):
        assert [item.reason for item in await desks.jobs.cancel(ALICE, [grant.job_id])] == [""]
    assert (await desks.job(grant.job_id)).cancel_requested
    assert await desks.beat(pilot_id, grant.lease_id, None) == "KILL CANCELLED_BY_OWNER"
    assert await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, result) is state


async def test_attempts_come_to_an_end(desks: Desks) -> None:
    job_id = await desks.submit(ALICE, spec(max_attempts=3))
    pilot_id = await desks.register()
    states = []
    for _ in range(3):
        (grant,) = await desks.take(pilot_id)
        states.append(await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, INFRASTRUCTURE))
    assert states == [JobState.ACTIVATED, JobState.ACTIVATED, JobState.FAILED]
    job = await desks.job(job_id)
    assert (job.attempt, job.reason) == (3, "ATTEMPTS_EXHAUSTED")
    assert "WORKSPACE_UNUSABLE" in job.message


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "NO_SUCH_REASON"},
        {"outcome": Outcome.LOST, "reason": "PILOT_LOST"},
        {"outcome": Outcome.INFRASTRUCTURE},
        {"output_sandbox": "../x"},
        {"account": "a\nb"},
        {"worker_node": "\x1b"},
        {"usage": Usage(wall_seconds=float("inf"))},
    ],
)
async def test_a_result_that_cannot_be_is_refused_and_may_be_put_right(desks: Desks, change: dict[str, object]) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    wrong = msgspec.structs.replace(OK, **change)
    assert await refused(desks.pilots.finish(PILOT, pilot_id, grant.lease_id, wrong)) is Reason.INVALID_ARGUMENT
    assert await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK) is JobState.FINISHED


async def test_a_message_cannot_play_tricks_on_the_owners_terminal(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    result = ended(Outcome.PAYLOAD, message="a\x1b[2Jb\n" + "x" * 5000)
    await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, result)
    message = (await desks.job(grant.job_id)).message
    assert message.startswith("a [2Jb x")
    assert len(message) == 1000


async def test_outputs_must_have_come_first(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.HOLDING)
    result = msgspec.structs.replace(OK, output_sandbox="b" * 64)
    assert await refused(desks.pilots.finish(PILOT, pilot_id, grant.lease_id, result)) is Reason.SANDBOX_NOT_FOUND
    assert (await desks.job(grant.job_id)).state is JobState.HOLDING


# fences


@pytest.mark.parametrize("other", [OTHER_PILOT, SAME_NAME_OTHER_KEY])
async def test_nobody_else_can_touch_a_lease(desks: Desks, other: Principal) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    their_id = await desks.register(other)
    for claimed in (pilot_id, their_id):
        desk = desks.pilots
        for attack in (
            desk.finish(other, claimed, grant.lease_id, OK),
            desk.release(other, claimed, grant.lease_id, "", ""),
            desk.append_log(other, claimed, grant.lease_id, Stream.STDOUT, 0, b"x", truncated=False),
            desk.refresh_token(other, claimed, grant.lease_id),
        ):
            assert await refused(attack) is Reason.LEASE_FOREIGN
    assert not await desks.pilots.is_live(grant.lease_id, OTHER_PILOT.dn)
    assert (await desks.job(grant.job_id)).state is JobState.RUNNING


async def test_a_lease_is_bound_to_the_registration_it_was_given_to(desks: Desks) -> None:
    _, grant = await leased(desks, JobState.RUNNING)
    second_id = await desks.register(PILOT)
    assert await refused(desks.pilots.finish(PILOT, second_id, grant.lease_id, OK)) is Reason.LEASE_FOREIGN


async def test_what_a_lost_pilot_still_sends_is_refused(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    desks.turn(181)
    assert await desks.pilots.sweep() == 1
    other_id = await desks.register(OTHER_PILOT)
    (second,) = await desks.take(other_id, OTHER_PILOT)
    assert (second.job_id, second.attempt) == (grant.job_id, 2)
    desk = desks.pilots
    for late in (
        desk.finish(PILOT, pilot_id, grant.lease_id, OK),
        desk.release(PILOT, pilot_id, grant.lease_id, "", ""),
        desk.append_log(PILOT, pilot_id, grant.lease_id, Stream.STDOUT, 0, b"x", truncated=False),
        desk.refresh_token(PILOT, pilot_id, grant.lease_id),
    ):
        assert await refused(late) is Reason.LEASE_EXPIRED
    assert await desks.beat(pilot_id, grant.lease_id, JobState.RUNNING) == "LOST LEASE_EXPIRED"
    assert await desk.finish(OTHER_PILOT, other_id, second.lease_id, OK) is JobState.FINISHED
    assert await refused(desk.finish(PILOT, pilot_id, grant.lease_id, OK)) is Reason.LEASE_EXPIRED
    assert (await desks.job(grant.job_id)).state is JobState.FINISHED


# expiry


@pytest.mark.parametrize(("phase", "seconds"), [(None, 90), (JobState.STARTING, 180), (JobState.RUNNING, 180)])
async def test_a_lease_that_expires_is_offered_again(desks: Desks, phase: JobState | None, seconds: int) -> None:
    _, grant = await leased(desks, phase)
    desks.turn(seconds - 1)
    assert await desks.pilots.is_live(grant.lease_id, PILOT.dn)
    assert await desks.pilots.sweep() == 0
    desks.turn(1)
    assert not await desks.pilots.is_live(grant.lease_id, PILOT.dn)
    assert await desks.pilots.sweep() == 1
    job = await desks.job(grant.job_id)
    assert job.state is JobState.ACTIVATED
    assert job.result is not None
    assert (job.result.outcome, job.result.reason) == (Outcome.LOST, "PILOT_LOST")
    assert job.result.worker_node == "wn1"


async def test_a_job_that_is_lost_too_often_fails(desks: Desks) -> None:
    job_id = await desks.submit(ALICE, spec(max_attempts=2))
    pilot_id = await desks.register()
    for state in (JobState.ACTIVATED, JobState.FAILED):
        assert len(await desks.take(pilot_id)) == 1
        desks.turn(90)
        await desks.pilots.sweep()
        assert (await desks.job(job_id)).state is state
    assert (await desks.job(job_id)).reason == "ATTEMPTS_EXHAUSTED"


async def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(desks: Desks) -> None:
    _, grant = await leased(desks, JobState.RUNNING)
    await desks.jobs.cancel(ALICE, [grant.job_id])
    desks.turn(181)
    await desks.pilots.sweep()
    assert (await desks.job(grant.job_id)).state is JobState.CANCELLED


async def test_a_report_that_is_late_but_before_the_sweep_saves_the_lease(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    desks.turn(1000)
    assert await desks.beat(pilot_id, grant.lease_id, JobState.RUNNING) == "CONTINUE"
    assert await desks.pilots.sweep() == 0


async def test_a_sweep_takes_more_than_one_batch(desks: Desks) -> None:
    await desks.submit(ALICE, *[SPEC] * 450)
    pilot_id = await desks.register(slots=450)
    assert len(await desks.take(pilot_id, slots=450)) == 450
    desks.turn(90)
    assert await desks.pilots.sweep() == 450


async def test_an_expired_lease_wakes_a_waiting_pilot(desks: Desks) -> None:
    _, grant = await leased(desks)
    other_id = await desks.register(OTHER_PILOT)
    waiting = asyncio.ensure_future(desks.pilots.acquire(OTHER_PILOT, other_id, 1, 30))
    await asyncio.sleep(0.01)
    desks.turn(90)
    await desks.pilots.sweep()
    assert [again.job_id for again in (await asyncio.wait_for(waiting, 60)).grants] == [grant.job_id]


async def test_a_job_that_runs_while_the_server_is_down_ends_once_and_correctly(desks: Desks, tmp_path: Path) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    await desks.close()
    desks.turn(3600)
    desks.open()
    await desks.pilots.start()
    assert await desks.pilots.sweep() == 0
    assert await desks.beat(pilot_id, grant.lease_id, JobState.RUNNING) == "CONTINUE"
    assert await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK) is JobState.FINISHED
    assert (await desks.states(grant.job_id)).count("finished") == 1


async def test_a_pilot_that_died_with_the_server_is_still_found_out(desks: Desks) -> None:
    _, grant = await leased(desks, JobState.RUNNING)
    await desks.close()
    desks.turn(3600)
    desks.open()
    await desks.pilots.start()
    desks.turn(180)
    assert await desks.pilots.sweep() == 1
    assert (await desks.job(grant.job_id)).state is JobState.ACTIVATED


# release and deregister


@pytest.mark.parametrize("phase", [None, JobState.STARTING])
async def test_a_job_given_back_unstarted_is_offered_again_and_loses_no_attempt(
    desks: Desks, phase: JobState | None
) -> None:
    pilot_id, grant = await leased(desks, phase, max_attempts=1)
    for _ in range(2):
        await desks.pilots.release(PILOT, pilot_id, grant.lease_id, "PILOT_DRAINING", "leaving")
    (again,) = await desks.take(pilot_id)
    assert (again.job_id, again.attempt) == (grant.job_id, 2)
    assert await refused(desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK)) is Reason.LEASE_ENDED
    assert await desks.pilots.finish(PILOT, pilot_id, again.lease_id, OK) is JobState.FINISHED


async def test_a_job_that_runs_cannot_be_given_back(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    release = desks.pilots.release(PILOT, pilot_id, grant.lease_id, "", "")
    assert await refused(release) is Reason.TRANSITION_REFUSED
    finish = desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK)
    assert await finish is JobState.FINISHED
    assert await refused(desks.pilots.release(PILOT, pilot_id, grant.lease_id, "", "")) is Reason.LEASE_ENDED


async def test_a_job_given_back_for_ever_fails_in_the_end(desks: Desks) -> None:
    job_id = await desks.submit(ALICE, spec(max_attempts=1))
    pilot_id = await desks.register()
    for _ in range(1 + RELEASES):
        (grant,) = await desks.take(pilot_id)
        await desks.pilots.release(PILOT, pilot_id, grant.lease_id, "", "")
    assert (await desks.job(job_id)).reason == "ATTEMPTS_EXHAUSTED"


async def test_a_cancelled_job_given_back_is_cancelled(desks: Desks) -> None:
    pilot_id, grant = await leased(desks)
    await desks.jobs.cancel(ALICE, [grant.job_id])
    await desks.pilots.release(PILOT, pilot_id, grant.lease_id, "", "")
    assert (await desks.job(grant.job_id)).state is JobState.CANCELLED


async def test_what_a_pilot_that_leaves_still_holds_is_offered_again(desks: Desks) -> None:
    await desks.submit(ALICE, SPEC, SPEC)
    pilot_id = await desks.register()
    begun, unstarted = await desks.take(pilot_id, slots=2)
    await desks.beat(pilot_id, begun.lease_id, JobState.RUNNING)
    for _ in range(2):
        await desks.pilots.deregister(PILOT, pilot_id)
    assert await refused(desks.take(pilot_id)) is Reason.PILOT_NOT_REGISTERED
    for grant, tries in ((begun, 1), (unstarted, 0)):
        assert (await desks.job(grant.job_id)).state is JobState.ACTIVATED
        assert await desks.look("SELECT tries FROM job WHERE job_id = ?", grant.job_id) == [(tries,)]
    assert await refused(desks.pilots.finish(PILOT, pilot_id, begun.lease_id, OK)) is Reason.LEASE_EXPIRED


# tokens and logs


async def test_a_fresh_token_is_for_the_same_lease_and_another_use(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)
    fresh = await desks.pilots.refresh_token(PILOT, pilot_id, grant.lease_id)
    public = desks.token_key.public_key()
    first, second = (tokens.verify(token.reveal_text(), public, START) for token in (grant.token, fresh.token))
    assert first.jti != second.jti
    assert msgspec.structs.replace(first, jti=second.jti) == second
    assert fresh.retrieval_key == RETRIEVAL_KEY
    await desks.pilots.finish(PILOT, pilot_id, grant.lease_id, OK)
    assert await refused(desks.pilots.refresh_token(PILOT, pilot_id, grant.lease_id)) is Reason.LEASE_ENDED


async def test_a_wrong_wrapping_key_gives_nothing_out(desks: Desks) -> None:
    job_id = await desks.submit()
    desks.wrapping = KeyWrap(Secret(b"x" * 32))
    await desks.close()
    desks.open()
    pilot_id = await desks.register()
    assert await desks.take(pilot_id) == ()
    assert (await desks.job(job_id)).reason == "RETRIEVAL_KEY_WRONG"


async def test_a_log_is_appended_once_whatever_is_sent_twice(desks: Desks) -> None:
    pilot_id, grant = await leased(desks, JobState.RUNNING)

    async def append(offset: int, data: bytes) -> int:
        return await desks.pilots.append_log(
            PILOT, pilot_id, grant.lease_id, Stream.STDOUT, offset, data, truncated=False
        )

    assert await append(0, b"hello ") == 6
    assert await append(0, b"hello ") == 6
    assert await append(3, b"lo world") == 11
    assert await append(2, b"l") == 11
    assert await refused(append(12, b"gap")) is Reason.LOG_OFFSET
    assert await refused(append(0, bytes(300 * 1024))) is Reason.INVALID_ARGUMENT
    assert await refused(append(2**63, b"x")) is Reason.INVALID_ARGUMENT
    stored = await desks.logs.read(grant.job_id, 1, Stream.STDOUT, 0)
    assert (stored.data, stored.truncated) == (b"hello world", False)
    assert (await desks.logs.read(grant.job_id, 1, Stream.STDERR, 0)).data == b""


async def test_a_log_stops_at_its_limit_and_says_so(tmp_path: Path) -> None:
    small = Desks(tmp_path / "small", JobLimits(log_bytes=10))
    try:
        pilot_id, grant = await leased(small, JobState.RUNNING)
        ends = [
            await small.pilots.append_log(
                PILOT, pilot_id, grant.lease_id, Stream.STDERR, offset, b"12345678", truncated=False
            )
            for offset in (0, 8, 16)
        ]
        assert ends == [8, 16, 24]
        stored = await small.logs.read(grant.job_id, 1, Stream.STDERR, 0)
        assert (stored.data, stored.truncated) == (b"1234567812", True)
    finally:
        await small.close()


async def test_a_log_that_is_beyond_a_lowered_limit_does_not_grow(tmp_path: Path) -> None:
    job_id = "0190a1b2-0000-7000-8000-000000000001"
    before = LogStore(tmp_path, JobLimits(log_bytes=100))
    await before.append(job_id, 1, Stream.STDOUT, 0, b"x" * 50, truncated=False)
    lowered = LogStore(tmp_path, JobLimits(log_bytes=10))
    assert await lowered.append(job_id, 1, Stream.STDOUT, 50, b"y" * 200, truncated=False) == 250
    kept = await lowered.read(job_id, 1, Stream.STDOUT, 0)
    assert (kept.data, kept.truncated) == (b"x" * 50, True)
