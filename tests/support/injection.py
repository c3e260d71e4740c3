"""Let single system calls of the installed helper fail, and look at what it makes of that."""

import errno
import functools
import re
import subprocess
from collections.abc import Sequence

import msgspec

from support.helper_rig import HelperRig, Outcome


@functools.cache
def numbers() -> dict[str, int]:
    """The numbers of this machine's system calls, as the compiler knows them."""
    text = subprocess.run(
        ["gcc", "-E", "-dM", "-"], input="#include <sys/syscall.h>", capture_output=True, text=True, check=True
    ).stdout
    return {name: int(value) for name, value in re.findall(r"#define __NR_(\w+) (\d+)", text)}


@functools.cache
def names() -> dict[int, str]:
    """The names of the system calls."""
    return {number: name for name, number in numbers().items()}


class Call(msgspec.Struct, frozen=True):
    """One system call of the helper; `where` is P.K, the K-th of its P-th process."""

    where: str
    name: str
    failed: bool


class Fault(msgspec.Struct, frozen=True):
    """What the helper made of one fault."""

    call: str
    done: Outcome
    events: tuple[str, ...]
    at_once: int
    in_the_end: int
    links: frozenset[int]

    @property
    def ran(self) -> bool:
        """Whether the payload ran."""
        return self.done.out != ""


class Injector:
    """Runs the helper as the pilot's account, with a fault."""

    def __init__(self, rig: HelperRig) -> None:
        self.rig = rig
        self.report = rig.prefix / "inject.report"
        self.witness = rig.attack("witness")

    def run(
        self, which: str = "-", error: int = errno.EPERM, *, payload: Sequence[str] = (), seconds: float = 120
    ) -> Outcome:
        """Run a payload, by default the witness; the calls that `which` names fail."""
        rig = self.rig
        groups = ",".join(str(gid) for gid in rig.groups)
        exes = f"{rig.program},{rig.keeper},{rig.keeper.with_name('pilotage-logonly')}"
        program = [rig.attack("inject"), exes, self.report, error, which, rig.pilot.pw_uid, groups]
        words = payload or (self.witness,)
        return rig.run(*words, user="root", program=[str(word) for word in program], seconds=seconds)

    def calls(self) -> list[Call]:
        """The calls of the run before."""
        lines = [line.split() for line in self.report.read_text().splitlines()]
        return [Call(line[0], names()[int(line[1])], len(line) > 2) for line in lines]

    def places(self) -> list[Call]:
        """The calls of a good run; of the same one after the same one, the first."""
        assert self.run().code == 0
        return self.chosen()

    def chosen(self) -> list[Call]:
        """The same of the run before."""
        found: list[Call] = []
        for process in range(16):
            mine = [call for call in self.calls() if call.where.startswith(f"{process}.")]
            if process == 0:
                # What the loader does is before the program.
                mine = mine[next(n for n, call in enumerate(mine) if call.name == "rt_sigprocmask") - 6 :]
            seen = set()
            for before, call in zip([None, *mine], mine, strict=False):
                pair = (before.name if before else "", call.name)
                if pair not in seen:
                    found.append(call)
                seen.add(pair)
        return found

    def fault(self, which: str, error: int) -> Fault:
        """Let it happen, and then let one good run follow."""
        rig, before = self.rig, len(self.rig.audit())
        done = self.run(which, error)
        failed = {call.name for call in self.calls() if call.failed}
        events = tuple(str(line["event"]) for line in rig.since(before))
        # What lies on the machine, at once and after one more run, which must be able to tidy up.
        at_once = len(rig.left()) + len(rig.processes())
        if at_once:
            assert rig.run("/usr/bin/true").code == 0
        in_the_end = len(rig.left()) + len(rig.processes())
        links = frozenset(path.stat().st_nlink for path in rig.gridmapdir.iterdir())
        what = f"{which} {' '.join(sorted(failed)) or 'not met'} {errno.errorcode[error]}"
        return Fault(what, done, events, at_once, in_the_end, links)
