"""Figures of interleaved rounds: medians, and ratios of what was measured in the same round.

A machine that does other work is now fast, now slow, and both commands of one round meet the same machine. So
the ratio of two commands is the median of their ratios round by round, never the ratio of two medians.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """One command in one round: wall and CPU time in milliseconds, of it and of all that it waited for."""

    wall: float
    cpu: float


Times = Mapping[str, Sequence[Sample]]


class Goal(msgspec.Struct, frozen=True):
    """What a command may take at most, as a part of another's time."""

    command: str
    peer: str
    most: float


class RateGoal(msgspec.Struct, frozen=True):
    """How many times another's rate per processor a command must reach at least."""

    command: str
    peer: str
    least: float


def read(lines: Iterable[str], names: Sequence[str], skip: int = 0) -> Times:
    """Return each command's samples, round by round, from what the timer wrote; the first rounds are left out.

    Raises ValueError when a command is missing in a round.
    """
    found: dict[str, list[Sample]] = {name: [] for name in names}
    for line in lines:
        turn, which, wall, user, system = map(int, line.split())
        if turn >= skip:
            found[names[which]].append(Sample(wall / 1e6, (user + system) / 1e3))
    if len({len(samples) for samples in found.values()}) != 1 or not found[names[0]]:
        raise ValueError("the rounds are not whole")
    return found


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which that part of the values lies, linearly between the two nearest."""
    ordered = sorted(values)
    at = part * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def ratio(times: Times, command: str, peer: str) -> float:
    """Return the median of the ratios of two commands' wall times, round by round."""
    pairs = zip(times[command], times[peer], strict=True)
    return statistics.median(one.wall / other.wall for one, other in pairs)


def cpu_ratio(times: Times, command: str, peer: str) -> float:
    """Return the ratio of two commands' CPU time over all rounds, which waiting for a CPU does not change."""
    return sum(sample.cpu for sample in times[command]) / sum(sample.cpu for sample in times[peer])


def row(times: Times, command: str, peers: Sequence[str]) -> str:
    """Return a command's line of the table: median, tenth to ninetieth percentile, CPU, ratio to each peer."""
    walls = [sample.wall for sample in times[command]]
    cpu = statistics.mean(sample.cpu for sample in times[command])
    spread = f"{quantile(walls, 0.1):.2f}-{quantile(walls, 0.9):.2f}"
    ratios = "".join(f"{ratio(times, command, peer):8.2f}" for peer in peers)
    return f"{command:32} {statistics.median(walls):8.2f} {spread:>15} {cpu:8.2f}{ratios}"


def table(times: Times, peers: Sequence[str]) -> str:
    """Return all commands' lines below a heading."""
    ratios = "".join(f"{'/ ' + peer:>8.8}" for peer in peers)
    head = f"{'milliseconds':32} {'median':>8} {'p10-p90':>15} {'cpu':>8}{ratios}"
    return "\n".join([head, *(row(times, command, peers) for command in times)])


def verdict(times: Times, goal: Goal) -> str:
    """Return the line that says whether a goal is met."""
    found = ratio(times, goal.command, goal.peer)
    word = "met" if found <= goal.most else "missed"
    cpu = cpu_ratio(times, goal.command, goal.peer)
    return f"goal: {goal.command} <= {goal.most} x {goal.peer}: {found:.2f} {word} (CPU time {cpu:.2f})"


def rate_verdict(times: Times, goal: RateGoal) -> str:
    """Return the line that says whether a goal of rates is met: what one processor does in a second, by CPU time."""
    found = cpu_ratio(times, goal.peer, goal.command)
    word = "met" if found >= goal.least else "missed"
    return f"goal: {goal.command} >= {goal.least:g} x the rate of {goal.peer}: {found:.1f} {word}"
