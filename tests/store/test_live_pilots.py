"""How many pilots may be registered with one key, and which of them are there."""

from pathlib import Path

import pytest
import pytest_asyncio

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.states import JobState
from pilotage_server.jobs import JobLimits, SilentPilots
from pilotage_server.principal import Principal
from support.desks import ALICE, OFFER, OTHER_PILOT, PILOT, Desks, principal, spec

pytestmark = pytest.mark.asyncio

SAME_NAME_OTHER_KEY = principal("Pilot 1", "second")
HOUR = 3600
COUNTS = "SELECT dn, live FROM pilot_count ORDER BY live"
TRUTH = """
SELECT dn, COUNT(*) FROM live_pilot JOIN pilot USING (pilot_id) GROUP BY dn, thumbprint ORDER BY COUNT(*)
"""


@pytest_asyncio.fixture
async def few(tmp_path: Path) -> Desks:
    """A server that allows two pilots of one key."""
    return Desks(tmp_path, JobLimits(pilots_per_key=2))


async def too_many(desks: Desks, pilot: Principal = PILOT) -> bool:
    """Try to register one more; tell whether that is too many, and nothing else was wrong."""
    try:
        await desks.register(pilot)
    except PilotageError as error:
        if error.reason is not Reason.TOO_MANY_PILOTS:
            raise
        return True
    return False


async def test_one_key_has_as_many_pilots_as_it_may(few: Desks) -> None:
    first = await few.register()
    assert not await too_many(few)
    assert await too_many(few)
    assert not await too_many(few, SAME_NAME_OTHER_KEY)
    assert not await too_many(few, OTHER_PILOT)
    # What was refused left nothing behind, and what is there can be asked for again.
    assert await few.look("SELECT COUNT(*) FROM pilot") == [(4,)]
    await few.pilots.heartbeat(PILOT, first, [])
    assert await few.look(COUNTS) == await few.look(TRUTH)
    await few.close()


async def test_a_repeated_request_is_no_more_pilots(few: Desks) -> None:
    pilot_id = await few.pilots.register(PILOT, "one", OFFER)
    for _ in range(5):
        assert await few.pilots.register(PILOT, "one", OFFER) == pilot_id
    assert await few.look(COUNTS) == [(PILOT.dn, 1)]
    await few.close()


async def test_who_says_good_bye_makes_room_once(few: Desks) -> None:
    first, _ = await few.register(), await few.register()
    for _ in range(2):
        await few.pilots.deregister(PILOT, first)
    assert not await too_many(few)
    assert await too_many(few)
    assert await few.look(COUNTS) == await few.look(TRUTH) == [(PILOT.dn, 2)]
    await few.close()


async def test_who_is_silent_makes_room_and_may_come_back_while_there_is_some(few: Desks) -> None:
    silent = SilentPilots(few.database, few.clock)
    gone = await few.pilots.register(PILOT, "gone", OFFER)
    heard = await few.register()
    few.turn(HOUR - 1)
    assert await silent.forget() == 0
    await few.pilots.heartbeat(PILOT, heard, [])
    few.turn(2)
    assert await silent.forget() == 1
    assert await silent.forget() == 0
    with pytest.raises(PilotageError, match="PILOT_NOT_REGISTERED"):
        await few.pilots.heartbeat(PILOT, gone, [])
    with pytest.raises(PilotageError, match="PILOT_NOT_REGISTERED"):
        await few.take(gone)
    third = await few.register()
    with pytest.raises(PilotageError, match="TOO_MANY_PILOTS"):
        await few.pilots.register(PILOT, "gone", OFFER)
    await few.pilots.deregister(PILOT, third)
    assert await few.pilots.register(PILOT, "gone", OFFER) == gone
    # It is heard of again, and so not silent at the next look.
    assert await silent.forget() == 0
    await few.pilots.heartbeat(PILOT, gone, [])
    assert await few.look(COUNTS) == await few.look(TRUTH) == [(PILOT.dn, 2)]
    await few.pilots.deregister(PILOT, gone)
    await few.pilots.deregister(PILOT, heard)
    assert await few.look(COUNTS) == await few.look(TRUTH) == []
    await few.close()


async def test_who_holds_a_lease_is_there(few: Desks) -> None:
    """After hours without the server its lease was spared, and it will report."""
    await few.submit(ALICE, spec())
    pilot_id = await few.register()
    (grant,) = await few.take(pilot_id)
    few.turn(2 * HOUR)
    silent = SilentPilots(few.database, few.clock)
    assert await silent.forget() == 0
    await few.pilots.start()
    assert await few.beat(pilot_id, grant.lease_id, JobState.STARTING) == "CONTINUE"
    few.turn(2 * HOUR)
    await few.pilots.sweep()
    assert await silent.forget() == 1
    await few.close()


async def test_a_silent_pilot_says_good_bye(few: Desks) -> None:
    pilot_id = await few.register()
    few.turn(2 * HOUR)
    assert await SilentPilots(few.database, few.clock).forget() == 1
    await few.pilots.deregister(PILOT, pilot_id)
    assert await few.look(COUNTS) == []
    await few.close()
