"""Who goes next, and that the answer does not depend on how much waits."""

import datetime
import math
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from pilotage.states import JobState
from pilotage_server.jobs import Askers, askers, broker
from pilotage_server.jobs.job_class import class_id, fits
from pilotage_server.jobs.notices import Changes, Notices
from pilotage_server.retrieval import RetrievalPolicy, RetrievalRules
from pilotage_server.workload import JobSpec, Requirements
from support.desks import ALICE, BOB, OFFER, OK, OTHER_PILOT, PILOT, START, Desks, principal, spec

ANY = spec(cores=1).requirements(("demo",))
ALL = RetrievalPolicy().admitted(PILOT)
AMOUNTS = st.floats(min_value=1, max_value=1e9)
TIMES = st.integers(min_value=0, max_value=10**7).map(lambda seconds: START + datetime.timedelta(seconds=seconds))


def use(score: float, now: datetime.datetime) -> float:
    """Return the core-seconds, decayed to now, that a score stands for."""
    return 2 ** (score - now.timestamp() / broker.HALF_LIFE.total_seconds())


def test_use_is_halved_by_a_half_life() -> None:
    score = broker.charge(0.0, 1000, START)
    assert use(score, START) == pytest.approx(1000, rel=1e-6)
    assert use(score, START + broker.HALF_LIFE) == pytest.approx(500, rel=1e-6)


def test_uses_add_up() -> None:
    score = broker.charge(broker.charge(0.0, 1000, START), 24, START)
    assert use(score, START) == pytest.approx(1024, rel=1e-6)


@given(AMOUNTS, AMOUNTS, TIMES, TIMES)
def test_a_refund_undoes_a_charge(first: float, second: float, then: datetime.datetime, now: datetime.datetime) -> None:
    before = broker.charge(0.0, first, then)
    after = broker.refund(broker.charge(before, second, now), second, now)
    # Beside a use a billion times as large, a small one is lost in rounding; it may then count as none.
    assert after == pytest.approx(before, abs=1e-3) or use(before, now) < second * 1e-6


def test_a_refund_of_all_there_was_leaves_nothing() -> None:
    assert broker.refund(broker.charge(0.0, 3600, START), 3600, START) == 0.0
    assert broker.refund(0.0, 3600, START) == 0.0


@given(AMOUNTS, AMOUNTS, TIMES)
def test_the_one_who_used_more_goes_later_whenever_one_looks(
    first: float, second: float, now: datetime.datetime
) -> None:
    one, other = broker.charge(0.0, first, now), broker.charge(0.0, second, now)
    if not math.isclose(first, second, rel_tol=1e-6):
        assert (one < other) == (first < second)


def test_priority_is_worth_waiting_so_nobody_starves() -> None:
    old = broker.rank(0, START)
    assert broker.rank(5, START) < old
    assert broker.rank(5, START + 6 * broker.AGING) > old


@pytest.mark.parametrize(
    ("change", "fitting"),
    [
        ({}, True),
        ({"site": OFFER.site}, True),
        ({"site": "elsewhere"}, False),
        ({"cores": OFFER.cores}, True),
        ({"cores": OFFER.cores + 1}, False),
        ({"memory_bytes": OFFER.memory_bytes}, True),
        ({"memory_bytes": OFFER.memory_bytes + 1}, False),
        ({"disk_bytes": OFFER.disk_bytes + 1}, False),
        ({"wall_seconds": 1000}, True),
        ({"wall_seconds": 1001}, False),
        ({"tags": ("gpu",)}, True),
        ({"tags": ("gpu", "avx2")}, True),
        ({"tags": ("gpu", "quantum")}, False),
    ],
)
def test_a_slot_fits_when_it_offers_all_that_is_asked(change: dict[str, object], fitting: bool) -> None:
    assert fits(msgspec.structs.replace(ANY, **change), OFFER, 1000, ALL) is fitting


def test_equal_requirements_are_one_class_whatever_else_differs() -> None:
    one = spec(name="a", command=("x",), tags=("b", "a", "a"), priority=3)
    assert class_id(one.requirements(("demo",))) == class_id(spec(tags=("a", "b")).requirements(("demo",)))
    assert class_id(one.requirements(("demo",))) != class_id(spec(tags=("a",)).requirements(("demo",)))
    assert class_id(one.requirements(("demo",))) != class_id(one.requirements(("other",)))
    assert 0 <= class_id(ANY) < 2**63


@pytest_asyncio.fixture
async def made(tmp_path: Path) -> AsyncIterator[Desks]:
    desks = Desks(tmp_path)
    yield desks
    await desks.close()


@pytest.mark.asyncio
async def test_the_owner_with_the_least_recent_use_goes_first(made: Desks) -> None:
    pilot_id = await made.register(slots=100)
    await made.submit(ALICE, *[spec() for _ in range(5)])
    made.turn(1)
    await made.submit(BOB, *[spec() for _ in range(2)])
    order = [grant.owner_dn for grant in await made.take(pilot_id, slots=7)]
    assert order == [ALICE.dn, BOB.dn, ALICE.dn, BOB.dn] + [ALICE.dn] * 3


@pytest.mark.asyncio
async def test_use_is_settled_to_what_was_really_taken(made: Desks) -> None:
    pilot_id = await made.register()
    await made.submit(ALICE, spec(wall_seconds=86400), spec())
    await made.submit(BOB, spec(wall_seconds=600), spec())
    (long,) = await made.take(pilot_id)
    assert long.owner_dn == ALICE.dn
    await made.beat(pilot_id, long.lease_id, JobState.RUNNING)
    made.turn(10)
    await made.pilots.finish(PILOT, pilot_id, long.lease_id, OK)
    (short,) = await made.take(pilot_id)
    assert short.owner_dn == BOB.dn
    made.turn(60)
    await made.pilots.finish(PILOT, pilot_id, short.lease_id, OK)
    # Alice asked for a day and took ten seconds; Bob took a minute.
    assert [grant.owner_dn for grant in await made.take(pilot_id)] == [ALICE.dn]


@pytest.mark.asyncio
async def test_an_owners_jobs_go_by_priority_then_age(made: Desks) -> None:
    wanted = [("first", 0), ("second", 0), ("urgent", 50), ("later", -50)]
    for name, priority in wanted:
        await made.submit(ALICE, spec(name=name, priority=priority, cores=1 + len(name) % 2))
        made.turn(1)
    pilot_id = await made.register(slots=10)
    order = [grant.spec.name for grant in await made.take(pilot_id, slots=10)]
    assert order == ["urgent", "first", "second", "later"]


@pytest.mark.asyncio
async def test_jobs_that_do_not_fit_cost_a_match_nothing(made: Desks) -> None:
    """Count the steps of SQLite's machine, which no other load on this computer can change."""
    pilot_id = await made.register(slots=100)
    await made.submit(ALICE, *[spec(wall_seconds=700) for _ in range(10)])
    few = await steps_of_a_match(made, pilot_id)
    await made.submit(ALICE, *[spec(site="elsewhere", priority=100) for _ in range(500)])
    await made.submit(ALICE, *[spec(wall_seconds=700) for _ in range(500)])
    many = await steps_of_a_match(made, pilot_id)
    assert many < few * 1.5


@pytest.mark.asyncio
async def test_jobs_of_a_vo_that_refuses_the_pilot_cost_a_match_nothing(tmp_path: Path) -> None:
    closed = RetrievalPolicy(vos={"closed": RetrievalRules(targets=(OTHER_PILOT.dn,))})
    made = Desks(tmp_path, policy=closed)
    made.credentials.put(BOB, START + datetime.timedelta(days=20), vo="closed")
    pilot_id = await made.register(slots=100)
    await made.submit(ALICE, *[spec(wall_seconds=700) for _ in range(10)])
    await made.submit(BOB, spec(wall_seconds=700, priority=100))
    few = await steps_of_a_match(made, pilot_id)
    await made.submit(BOB, *[spec(wall_seconds=700, priority=100) for _ in range(500)])
    many = await steps_of_a_match(made, pilot_id)
    assert many < few * 1.5
    assert {grant.owner_dn for grant in await made.take(pilot_id, slots=50)} == {ALICE.dn}
    other = await made.register(OTHER_PILOT, slots=1)
    assert [grant.owner_dn for grant in await made.take(other, OTHER_PILOT)] == [BOB.dn]
    await made.close()


@pytest.mark.asyncio
async def test_a_job_that_no_pilot_may_serve_says_so_while_pilots_ask(tmp_path: Path) -> None:
    closed = RetrievalPolicy(vos={"closed": RetrievalRules(targets=(OTHER_PILOT.dn,))})
    made = Desks(tmp_path, policy=closed)
    made.credentials.put(BOB, START + datetime.timedelta(days=20), vo="closed")
    hers, his = await made.submit(ALICE, spec(site="elsewhere")), await made.submit(BOB)
    pilot_id = await made.register()
    # Nobody asked: nothing is known.
    assert (await made.job(his, BOB)).reason == ""
    assert await made.take(pilot_id) == ()
    waits = await made.job(his, BOB)
    assert (waits.state, waits.reason) == (JobState.ACTIVATED, "TARGET_REFUSED")
    assert waits.message.startswith("The policy lets no pilot that asked for work in the last hour have")
    assert (await made.job(hers)).reason == "NO_PILOT_FITS"
    made.turn(3601)
    assert (await made.job(his, BOB)).reason == ""
    assert await made.take(pilot_id) == ()
    assert (await made.job(his, BOB)).reason == "TARGET_REFUSED"
    other = await made.register(OTHER_PILOT, site="far")
    await made.submit(BOB, spec(priority=1))
    (grant,) = await made.take(other, OTHER_PILOT)
    assert (await made.job(grant.job_id, BOB)).reason == ""
    assert (await made.job(his, BOB)).reason == ""
    await made.close()


def test_as_many_pilots_as_there_are_leave_a_bounded_memory() -> None:
    asked = Askers(RetrievalPolicy(vos={"closed": RetrievalRules(targets=(PILOT.dn,))}), lambda: START)
    wanted = spec().requirements(("closed",))
    asked.admitted(PILOT, OFFER)
    for number in range(askers.MOST - 1):
        asked.admitted(principal(f"Pilot x{number}"), OFFER)
    assert len(asked._asked) == askers.MOST
    assert asked.why_not(spec(site="elsewhere").requirements(("closed",))) is not None
    asked.admitted(PILOT, OFFER)
    asked.admitted(principal("one more"), OFFER)
    # Who asked again is not the oldest.
    assert len(asked._asked) == askers.MOST
    assert asked.why_not(wanted) is None
    # What was forgotten may have fitted.
    assert asked.why_not(spec(site="elsewhere").requirements(("closed",))) is None


@pytest.mark.asyncio
async def test_a_job_that_nobodys_offer_fits_says_so_while_pilots_ask(tmp_path: Path) -> None:
    made = Desks(tmp_path)
    lost = await made.submit(ALICE, spec(site="nowhere"))
    huge = await made.submit(ALICE, spec(cores=5))
    named = await made.submit(ALICE, spec(tags=("gpu", "tpu")))
    fine = await made.submit(ALICE)
    assert [(await made.job(one)).reason for one in (lost, huge, named, fine)] == [""] * 4
    here = await made.register()
    for _ in range(2):
        await made.take(here)
    told = [await made.job(one) for one in (lost, huge, named)]
    assert {(one.state, one.reason) for one in told} == {(JobState.ACTIVATED, "NO_PILOT_FITS")}
    assert told[0].message == "No pilot of the site nowhere has asked for work in the last hour."
    assert told[1].message.startswith("No pilot that asked for work in the last hour offers what the job wants")
    assert (await made.job(fine)).reason == ""
    # What differs from node to node is one kind.
    await made.take(await made.register(worker_node="wn3", disk_bytes=OFFER.disk_bytes + 4096))
    assert len(made.askers._asked) == 1
    # A pilot of the same robot on a larger node.
    await made.take(await made.register(cores=8, worker_node="wn2"))
    assert (await made.job(huge)).reason == ""
    made.turn(3601)
    assert (await made.job(lost)).reason == ""
    await made.close()


async def steps_of_a_match(made: Desks, pilot_id: str) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    made.database._writer.set_progress_handler(count, 10)
    assert len(await made.take(pilot_id)) == 1
    made.database._writer.set_progress_handler(None, 0)
    return steps


def test_an_offered_job_wakes_one_waiting_pilot_that_it_fits() -> None:
    notices = Notices()
    small, large = (msgspec.structs.replace(OFFER, cores=cores) for cores in (1, 8))
    with (
        notices.waiting(lambda wanted: fits(wanted, small, 1e9, ALL), 1) as first,
        notices.waiting(lambda wanted: fits(wanted, large, 1e9, ALL), 1) as second,
        notices.waiting(lambda wanted: fits(wanted, large, 1e9, ALL), 1) as third,
    ):
        big: Requirements = spec(cores=8).requirements(("demo",))
        notices.tell(Changes(offered=[big]))
        assert [bool(place.called_for) for place in (first, second, third)] == [False, True, False]
        notices.tell(Changes(offered=[big]))
        assert [bool(place.called_for) for place in (first, second, third)] == [False, True, True]


def test_a_pilot_that_leaves_after_it_was_called_hands_the_call_on() -> None:
    notices = Notices()
    with notices.waiting(lambda _: True, 1) as stays:
        with notices.waiting(lambda _: True, 1) as other:
            notices.tell(Changes(offered=[ANY]))
            assert stays.called_for
            stays.served()
            with notices.waiting(lambda _: True, 1):
                pass
            assert not stays.called_for
            assert not other.called_for
            other.call(ANY)
        assert stays.called_for == [ANY]


def test_a_specification_knows_its_requirements() -> None:
    wanted: JobSpec = spec(cores=2, site="here", tags=("b", "a"))
    assert wanted.requirements(("demo",)) == Requirements("here", 2, 0, 0, 600, ("a", "b"), ("demo",))
