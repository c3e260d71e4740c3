"""The bounds of the tests: a busy machine is given time, what is slow by its nature is not."""

from collections.abc import Iterator

import pytest

from support.pace import TRIES, at_once, slowness, soon


def test_what_was_slow_once_may_be_fast_the_next_time() -> None:
    times: Iterator[float] = iter([3, 2, 0.5])
    assert soon(lambda: next(times), 1) == 0.5
    assert list(times) == []


def test_what_is_slow_each_time_fails() -> None:
    measured: list[float] = []

    def slow() -> float:
        measured.append(1.0)
        return 1.0

    with pytest.raises(AssertionError, match="every time"):
        soon(slow, 1)
    assert len(measured) == TRIES


def test_work_gives_what_it_gave_when_it_was_in_time() -> None:
    assert at_once(lambda: "done", 60) == "done"
    with pytest.raises(AssertionError, match="every time"):
        at_once(lambda: "done", 0)


def test_no_machine_is_asked_to_be_faster_than_promised() -> None:
    assert slowness() >= 1
