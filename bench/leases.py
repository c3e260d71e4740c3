"""Time one mapping of the real `pilotage-map` among ten leases and among ten thousand; needs root.

    build/venv/bin/python bench/leases.py [--rounds N]

Each round asks both directories once for each kind of visit, in random order, and the printed ratio is the median of
the rounds' own ratios: what else the machine does meanwhile is in both. A whole process is timed, from its start to its
record. The issue's bound is 1.3 for what is usual: an owner who returns, and a first visit while the list of free
accounts holds; the third row is a first visit that must read the directory, which one in 48 does.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "deploy" / "demo")]

from support.crowd import crowd  # noqa: E402
from support.helper_rig import ANALYSIS  # noqa: E402
from support.lease_rig import Question  # noqa: E402

SMALL, LARGE = 10, 10_000
VISITS = ("returning", "first", "first, list of free accounts gone")
BOUND = 1.3


class Directory:
    """One installation of the mapper with its own gridmapdir."""

    def __init__(self, prefix: Path, names: list[str], leases: int) -> None:
        self.pool = prefix / f"gridmapdir-{leases}"
        self.mapper = prefix / f"pilotage-map-{leases}"
        config, mapfile = prefix / f"helper-{leases}.conf", prefix / "grid-mapfile"
        self._pool_name = names[0].rstrip("0123456789")
        mapfile.write_text(f'"{ANALYSIS}" .{self._pool_name}\n')
        config.write_text(f"[map]\ngrid_mapfile = {mapfile}\ngridmapdir = {self.pool}\n")
        tree = prefix / "build"
        options = [f"-DPILOTAGE_CONFIG={config}", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"]
        for words in (
            ["cmake", "-S", str(ROOT), "-B", str(tree), *options],
            ["cmake", "--build", str(tree), "--target", "pilotage-map"],
        ):
            subprocess.run(words, check=True, capture_output=True)
        shutil.copyfile(tree / "helper_c" / "pilotage-map", self.mapper)
        self.mapper.chmod(0o755)
        self.pool.mkdir(mode=0o755)
        # Only the two that are leased here need be real accounts: the others' leases are in the way, no more.
        for n in range(3, leases + 2):
            (self.pool / f"{self._pool_name}{n}").touch()
            os.link(self.pool / f"{self._pool_name}{n}", self.pool / f"%2fcn%3dsomebody%20{n}:{self._pool_name}")
        for name in names:
            (self.pool / name).touch()
        self.visit("returning")

    def visit(self, what: str) -> float:
        """Map one owner; seconds."""
        question = Question(self.mapper, f"/CN={what}")
        began = time.perf_counter()
        question.send()
        answer = question.answer()
        seconds = time.perf_counter() - began + question.start_seconds
        assert answer
        assert answer.reason == "", answer
        if what.startswith("first"):
            (self.pool / answer.lease).unlink()
        return seconds

    def prepare(self, what: str) -> None:
        """Make the list of free accounts, or remove it."""
        if what == VISITS[1]:
            self.visit(what)
        elif what == VISITS[2]:
            (self.pool / ".pilotage.free").unlink(missing_ok=True)


@contextmanager
def directories() -> Iterator[dict[int, Directory]]:
    """Install both, and remove them again."""
    prefix = Path(f"/opt/pilotage-bench-{os.getpid()}")
    prefix.mkdir(mode=0o755)
    try:
        with crowd(2, prefix) as names:
            yield {leases: Directory(prefix, names, leases) for leases in (SMALL, LARGE)}
    finally:
        shutil.rmtree(prefix)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    if os.geteuid() != 0:
        raise SystemExit("needs root: the leases are root's")
    times: dict[str, dict[int, list[float]]] = {what: {SMALL: [], LARGE: []} for what in VISITS}
    with directories() as both:
        for _ in range(rounds):
            for what in VISITS:
                for leases in random.sample([SMALL, LARGE], 2):
                    both[leases].prepare(what)
                    times[what][leases].append(both[leases].visit(what))
    for what, found in times.items():
        ratios = [large / small for small, large in zip(found[SMALL], found[LARGE], strict=True)]
        row = {
            "visit": what,
            "rounds": rounds,
            f"ms_{SMALL}": round(1000 * statistics.median(found[SMALL]), 2),
            f"ms_{LARGE}": round(1000 * statistics.median(found[LARGE]), 2),
            "ratio": round(statistics.median(ratios), 3),
            "bound": BOUND if what != VISITS[2] else None,
        }
        print(json.dumps(row))


if __name__ == "__main__":
    main()
