"""Rates in the store: so many a minute, whatever the clock does; and strikes."""

import datetime
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server.store import bans, migrate, rates
from pilotage_server.store.bans import Ban
from pilotage_server.store.migrate import Kind
from pilotage_server.store.rates import Rate, Scope
from support.desks import START

FIVE = Rate(Scope.PILOT_ISSUES, "somebody", 5)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    migrate.upgrade(tmp_path / "credentials.sqlite", Kind.CREDENTIALS)
    opened = sqlite3.connect(tmp_path / "credentials.sqlite")
    yield opened
    opened.close()


def at(seconds: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


def taken(connection: sqlite3.Connection, seconds: float, rate: Rate = FIVE) -> bool:
    try:
        rates.take(connection, [rate], at(seconds))
    except PilotageError as error:
        return error.reason is not Reason.RATE_LIMITED
    return True


def test_a_minutes_worth_may_come_at_once_and_then_at_the_rate(connection: sqlite3.Connection) -> None:
    assert [taken(connection, 0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [taken(connection, seconds) for seconds in (11.9, 12, 12.1, 24)] == [False, True, False, True]
    assert [taken(connection, 3600) for _ in range(6)] == [True] * 5 + [False]


def test_looking_takes_nothing(connection: sqlite3.Connection) -> None:
    for _ in range(20):
        rates.check(connection, [FIVE], at(0))
    assert [taken(connection, 0) for _ in range(6)] == [True] * 5 + [False]
    with pytest.raises(PilotageError, match=r"Try again in 12\.0 s"):
        rates.check(connection, [FIVE], at(0))


def test_subjects_and_scopes_are_apart(connection: sqlite3.Connection) -> None:
    one = Rate(Scope.PILOT_ISSUES, "x", 1)
    assert taken(connection, 0, one)
    assert not taken(connection, 0, one)
    assert taken(connection, 0, Rate(Scope.PILOT_ISSUES, "y", 1))
    assert taken(connection, 0, Rate(Scope.OWNER_ISSUES, "x", 1))


def test_a_clock_put_back_blocks_nobody(connection: sqlite3.Connection) -> None:
    assert [taken(connection, 3600) for _ in range(5)] == [True] * 5
    assert [taken(connection, 0) for _ in range(6)] == [True] * 5 + [False]


def test_pruning_forgets_only_what_says_nothing(connection: sqlite3.Connection) -> None:
    for _ in range(5):
        taken(connection, 0)
    rates.prune(connection, at(30))
    assert not all(taken(connection, 30) for _ in range(5))
    rates.prune(connection, at(200))
    assert connection.execute("SELECT count(*) FROM rates").fetchone() == (0,)


@given(st.lists(st.floats(0, 120), min_size=1, max_size=60))
def test_no_minute_sees_more_than_twice_the_rate(moments: list[float]) -> None:
    """The bucket's bound: what was saved up, and what accrues meanwhile."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE rates (scope TEXT, subject TEXT, whole INTEGER, PRIMARY KEY (scope, subject))")
    granted = [moment for moment in sorted(moments) if taken(connection, moment)]
    connection.close()
    for begin in granted:
        assert sum(begin <= moment < begin + 60 for moment in granted) <= 10
        assert sum(begin <= moment < begin + 1e-6 for moment in granted) <= 5


def test_strikes_are_counted_by_key_and_by_name_within_the_time(connection: sqlite3.Connection) -> None:
    assert bans.strike(connection, "/CN=x", "k1", at(0), at(-60)) == (1, 1)
    assert bans.strike(connection, "/CN=x", "k2", at(1), at(-60)) == (1, 2)
    assert bans.strike(connection, "/CN=x", "k1", at(2), at(-60)) == (2, 3)
    assert bans.strike(connection, "/CN=y", "k1", at(2), at(-60)) == (1, 1)
    assert bans.strike(connection, "/CN=x", "k1", at(61), at(1)) == (2, 2)
    bans.prune_strikes(connection, at(2))
    assert connection.execute("SELECT count(*) FROM strikes").fetchone() == (1,)


def test_lifting_lifts_every_key_and_forgets_the_strikes(connection: sqlite3.Connection) -> None:
    for key in ("", "k1", "k2"):
        assert bans.add(connection, Ban("/CN=x", key, "why.", "", START))
        assert not bans.add(connection, Ban("/CN=x", key, "another.", "", START))
    bans.strike(connection, "/CN=x", "k1", START, at(-60))
    assert [ban.key for ban in bans.page(connection, "/CN=x", "", 10)] == ["k1", "k2"]
    assert bans.lift(connection, "/CN=x")
    assert not bans.lift(connection, "/CN=x")
    assert bans.everyone(connection) == []
    assert bans.strike(connection, "/CN=x", "k1", START, at(-60)) == (1, 1)
