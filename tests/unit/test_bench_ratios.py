"""The benchmark's arithmetic: ratios of the same round, on numbers that anybody can check by head."""

import pytest
from bench import ratios
from bench.ratios import Goal, RateGoal
from bench.timing import Command

NAMES = ("peer", "ours")
# Three rounds; the machine is ten times slower in the second one, for both.
LINES = [
    "0 0 2000000 1000 500",
    "0 1 4000000 2000 1000",
    "1 1 30000000 2000 1000",
    "1 0 20000000 1000 500",
    "2 0 2000000 1000 500",
    "2 1 6000000 2000 1000",
]


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    times = ratios.read(LINES, NAMES)
    assert [sample.wall for sample in times["ours"]] == [4.0, 30.0, 6.0]
    assert ratios.ratio(times, "ours", "peer") == 2.0  # of 2.0, 1.5 and 3.0; the medians' ratio would be 3.0
    assert ratios.cpu_ratio(times, "ours", "peer") == 2.0


def test_the_first_rounds_may_be_left_out() -> None:
    times = ratios.read(LINES, NAMES, skip=2)
    assert ratios.ratio(times, "ours", "peer") == 3.0


@pytest.mark.parametrize("lines", [LINES[:-1], []])
def test_a_round_that_is_not_whole_is_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError, match="not whole"):
        ratios.read(lines, NAMES)


def test_quantiles_lie_between_the_nearest_values() -> None:
    assert ratios.quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert ratios.quantile([0.0, 10.0], 0.1) == 1.0
    assert ratios.quantile([5.0], 0.9) == 5.0


@pytest.mark.parametrize(("most", "word"), [(2.0, "met"), (1.9, "missed")])
def test_a_verdict_compares_the_ratio_with_the_goal(most: float, word: str) -> None:
    line = ratios.verdict(ratios.read(LINES, NAMES), Goal("ours", "peer", most))
    assert line == f"goal: ours <= {most} x peer: 2.00 {word} (CPU time 2.00)"


@pytest.mark.parametrize(("least", "word"), [(2.0, "met"), (2.1, "missed")])
def test_a_rate_is_compared_by_cpu_time(least: float, word: str) -> None:
    line = ratios.rate_verdict(ratios.read(LINES, NAMES), RateGoal("peer", "ours", least))
    assert line == f"goal: peer >= {least:g} x the rate of ours: 2.0 {word}"


def test_the_table_has_each_commands_median_spread_and_ratios() -> None:
    lines = ratios.table(ratios.read(LINES, NAMES), ["peer"]).splitlines()
    assert lines[1].split() == ["peer", "2.00", "2.00-16.40", "1.50", "1.00"]
    assert lines[2].split() == ["ours", "6.00", "4.40-25.20", "3.00", "2.00"]


def test_a_plan_is_one_line_a_command() -> None:
    assert Command("x", ("/bin/echo", "a b"), 5, 6).line() == "5\t6\t/dev/null\t/bin/echo\ta b\n"
    with pytest.raises(ValueError, match="tab"):
        Command("x", ("/bin/echo", "a\tb")).line()
