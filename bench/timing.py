"""Commands, and the small C program that times them in rounds."""

import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
from bench import ratios

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WARM_UP = 2


def load() -> str:
    """Return how busy the machine is: the load of the last minute on its CPUs."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"


class Command(msgspec.Struct, frozen=True):
    """One command, as which account it is started and what its descriptor 0 is."""

    name: str
    words: tuple[str, ...]
    uid: int = 0
    gid: int = 0
    stdin: str = "/dev/null"

    def line(self) -> str:
        """Return the command as a line of the timer's plan."""
        fields = [str(self.uid), str(self.gid), self.stdin, *self.words]
        if any(separator in field for field in fields for separator in "\t\n"):
            raise ValueError(f"{self.name}: no word of a plan may hold a tab or an end of line")
        return "\t".join(fields) + "\n"


def build(source: str, target: Path, *options: str, sources: Sequence[Path] = ()) -> Path:
    """Compile a C program of this folder."""
    words = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]
    includes = [f"-I{ROOT}/helper_c/include", f"-I{ROOT}/helper_c/src"]
    files = [str(HERE / source), *map(str, sources)]
    subprocess.run([*words, *includes, "-o", str(target), *files, *options], check=True, timeout=120)
    target.chmod(0o755)
    return target


def measure(timer: Path, commands: Sequence[Command], rounds: int, nice: int = 0) -> ratios.Times:
    """Run every command once in each round, the rounds in orders of their own, after two that do not count.

    Raises RuntimeError with the timer's words when a command does not end with 0.
    """
    plan = "".join(command.line() for command in commands)
    seed = random.SystemRandom().randrange(1 << 32)
    words = ["nice", "-n", str(nice), str(timer), str(rounds + WARM_UP), str(seed)]
    done = subprocess.run(words, input=plan, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{done.stderr.strip()} (seed {seed})")
    return ratios.read(done.stdout.splitlines(), [command.name for command in commands], WARM_UP)
