"""The installed helper under strace: which process did what, and with which rights."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from support.helper_rig import PILOT, HelperRig

# What tells who a process is and what it runs; always traced.
BASE = "execve,clone,clone3,fork,vfork,setresuid"
LINE = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+|\?|0x\w+)(.*)$", re.DOTALL)
NOBODY_CHANGES = 0xFFFFFFFF


class Call(msgspec.Struct, frozen=True):
    """One system call; `root` is whether its process was effectively root."""

    pid: int
    program: str
    root: bool
    name: str
    arguments: str
    result: int

    @property
    def paths(self) -> list[str]:
        """The texts among the arguments."""
        return re.findall(r'"((?:[^"\\]|\\.)*)"', self.arguments)


class Traced(msgspec.Struct, frozen=True):
    """One traced run."""

    code: int
    out: str
    err: str
    calls: tuple[Call, ...]

    def of(self, *names: str) -> list[Call]:
        """The calls of these names that the helper and its programs made."""
        return [call for call in self.calls if call.name in names and call.program]


def traced(
    rig: HelperRig,
    arguments: Sequence[str],
    calls: str = "open,openat,openat2",
    *,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = (),
    seconds: float = 240,
) -> Traced:
    """Run the helper as the pilot, behind `program`; `calls` are traced beside those that say who is who."""
    folder = Path(tempfile.mkdtemp(prefix="trace-", dir=rig.prefix))
    words = ["strace", "-ff", "-s", "4096", "-u", PILOT, "-o", str(folder / "t"), "-e", f"trace={BASE},{calls}"]
    done = subprocess.run(
        [*words, *program, str(rig.program), *arguments],
        capture_output=True,
        text=True,
        env=environment if environment is not None else {"PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        check=False,
    )
    assert any(folder.iterdir()), done.stderr
    files = {int(path.suffix[1:]): path.read_text(errors="replace").splitlines() for path in folder.iterdir()}
    shutil.rmtree(folder)
    children = {int(number) for lines in files.values() for number in re.findall(r"= (\d+)$", "\n".join(forks(lines)))}
    first = min(set(files) - children, default=min(files))
    found = tuple(walk(files, first, str(rig.program), uid=rig.pilot.pw_uid, program=""))
    return Traced(done.returncode, done.stdout, done.stderr, found)


def forks(lines: Sequence[str]) -> Iterator[str]:
    yield from (line for line in lines if re.match(r"(clone3?|v?fork)\(", line))


def walk(files: Mapping[int, Sequence[str]], pid: int, helper: str, *, uid: int, program: str) -> Iterator[Call]:
    """Go through a process and, where it forks, its children."""
    for line in files.get(pid, ()):
        found = LINE.match(line)
        if found is None:
            continue
        name, arguments, result = found.group(1), found.group(2), found.group(3)
        number = 0 if result == "?" else int(result, 16 if result[:2] == "0x" else 10)
        yield Call(pid, program, uid == 0, name, arguments, number)
        if number < 0:
            continue
        if name == "execve":
            program = re.findall(r'"([^"]*)"', arguments)[0]
            uid = 0 if program == helper else uid
        elif name == "setresuid":
            effective = int(arguments.split(",")[1]) & NOBODY_CHANGES
            uid = uid if effective == NOBODY_CHANGES else effective
        elif name in ("clone", "clone3", "fork", "vfork") and number > 0:
            yield from walk(files, number, helper, uid=uid, program=program)
