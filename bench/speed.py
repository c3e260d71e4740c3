"""Measure what the helper costs, against its peers on the same machine in the same rounds.

Run by root as `bench/helper`; bench/README.md says what is measured and what was found.
"""

import argparse
import os
import sys
from pathlib import Path

from bench import ratios, timing
from bench.place import Place, place
from bench.ratios import Goal

PEERS = ("fork+exec", "sudo")
# Mapping only, on both sides: LCMAPS without its plug-in for verifying proxies. It verifies attributes itself when it
# reads them, so with them ours verifies, too.
GOALS = (
    Goal("pilotage-exec run", "sudo", 2.0),
    Goal("map alone to_account", "LCMAPS only_to_account", 0.5),
    Goal("map alone to_pool", "LCMAPS only_to_pool", 0.5),
    Goal("verify and map to_voms", "LCMAPS only_to_voms", 0.2),
)
# Beyond the goals: verifying and mapping, and the whole verb, against LCMAPS that verifies as well.
PARTS = (
    ("verify and map to_account", "LCMAPS to_account"),
    ("verify and map to_pool", "LCMAPS to_pool"),
    ("verify and map to_voms", "LCMAPS to_voms"),
    ("pilotage-exec map to_voms", "LCMAPS to_voms"),
    ("map alone to_voms", "LCMAPS to_voms"),
)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="bench/helper", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100, help="rounds to measure (100)")
    parser.add_argument("--nice", type=int, default=0, help="nice value of all commands (0)")
    parser.add_argument("--quick", action="store_true", help="only the runs of /bin/true, not the mappings")
    return parser.parse_args(arguments)


def report(here: Place, rounds: int, nice: int, quick: bool) -> str:
    """Measure, and return the tables and verdicts."""
    before = timing.load()
    commands = here.runs() if quick else [*here.runs(), *here.mappings(), *here.mapper_alone()]
    times = timing.measure(here.timer, commands, rounds, nice)
    lines = [
        f"{rounds} rounds, nice {nice}, {before} before and {timing.load()} after",
        "",
        ratios.table(times, PEERS),
        "",
    ]
    lines += [ratios.verdict(times, goal) for goal in GOALS if goal.command in times]
    lines += [
        f"part: {command} is {ratios.ratio(times, command, peer):.2f} x {peer}"
        for command, peer in PARTS
        if command in times
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Set everything up, measure, say what was found, and remove everything."""
    options = parse(arguments)
    if os.geteuid() != 0:
        print("bench/helper needs root: it makes accounts and installs a setuid program", file=sys.stderr)
        return 1
    with place(Path(f"/opt/pilotage-rig-{os.getpid()}")) as here:
        print(report(here, options.rounds, options.nice, options.quick))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
