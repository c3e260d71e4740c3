"""When renewals fall, and how they are spread."""

import datetime

from pilotage_server.jobs.renewal import next_try, renewal_time

START = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)
LIFE = datetime.timedelta(hours=12)
LATER = START + datetime.timedelta(days=7)


def test_renewals_of_jobs_that_began_together_are_spread_around_two_thirds() -> None:
    times = [renewal_time(f"lease-{number}", START, START + LIFE, LATER) for number in range(1000)]
    shares = sorted((time - START) / LIFE for time in times if time is not None)
    assert len(shares) == 1000
    assert 0.6 <= shares[0] < 0.605
    assert 0.728 < shares[-1] <= 0.7334
    assert 0.65 < shares[500] < 0.68


def test_a_lease_keeps_its_time() -> None:
    assert renewal_time("a", START, START + LIFE, LATER) == renewal_time("a", START, START + LIFE, LATER)


def test_nothing_is_renewed_for_a_few_minutes() -> None:
    minute = datetime.timedelta(minutes=1)
    assert renewal_time("a", START, START + LIFE, START + LIFE + 9 * minute) is None
    assert renewal_time("a", START, START + LIFE, START + LIFE + 10 * minute) is not None


def test_a_refused_renewal_is_tried_again_sooner_the_less_time_is_left() -> None:
    def minutes(left: float) -> float | None:
        again = next_try(START, START + datetime.timedelta(minutes=left))
        return None if again is None else (again - START).total_seconds() / 60

    assert [minutes(left) for left in (240, 40, 20, 4, 2, 1, 0)] == [10, 10, 5, 1, 1, None, None]
