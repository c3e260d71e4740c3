"""A pilot whose control group a batch system has handed on to it (systemd's Delegate=): what it may not do with it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import HelperRig
from support.processes import monitor_of

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
NAMES = (".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


def tree() -> Path:
    """Where version 2 is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    pytest.skip("no control groups of version 2 here")


def own() -> Path:
    (line,) = [line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    return tree() / line[len("0::") :].lstrip("/")


@pytest.fixture
def delegated(rig: HelperRig) -> Iterator[Path]:
    """A group of the pilot's in one of root's; this process, and so what it starts, is in it."""
    before = own()
    outer = tree() / f"pilotage-delegated-{os.getpid()}"
    group = outer / "pilots"
    group.mkdir(parents=True)
    for name in NAMES:
        os.chown(group / name, rig.pilot.pw_uid, rig.pilot.pw_gid)
    (group / "cgroup.procs").write_text("0")
    try:
        yield group
    finally:
        (before / "cgroup.procs").write_text("0")
        rig.end_calls()
        assert rig.wait(lambda: not any((path / "cgroup.procs").read_text() for path in outer.glob("**/")))
        for path in sorted(outer.glob("**/"), reverse=True):
            path.rmdir()


def as_pilot(rig: HelperRig, script: str) -> "subprocess.CompletedProcess[str]":
    words = [SH, "-c", script]
    return subprocess.run(
        words, user=rig.pilot.pw_uid, group=rig.pilot.pw_gid, cwd="/", capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("file", ["cgroup.kill", "cgroup.freeze"])
def test_the_pilot_cannot_take_the_monitor_into_a_group_of_its_own(rig: HelperRig, delegated: Path, file: str) -> None:
    before = len(rig.audit())
    run = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; read line; exit 7"], stdin=-1)
    assert run.stdout
    assert run.stdout.readline() == b"ready\n"
    monitor = monitor_of(run.pid)
    tried = as_pilot(rig, f"cd {delegated}; mkdir mine; echo {monitor} > mine/cgroup.procs && echo 1 > mine/{file}")
    assert tried.returncode != 0
    assert (delegated / "mine" / "cgroup.procs").read_text() == ""
    # What the pilot can move there is its own.
    assert as_pilot(rig, f"cd {delegated}; echo {run.pid} > mine/cgroup.procs").returncode == 0
    run.communicate(b"go on\n")
    assert run.returncode == 7
    assert [line["event"] for line in rig.since(before)] == ["START", "END"]
    assert rig.left() == []


def test_a_payload_that_the_pilot_takes_out_of_its_group_dies_with_the_run(rig: HelperRig, delegated: Path) -> None:
    run = rig.start(["run", "--proxy", str(rig.proxy()), "--", str(rig.attack("hydra")), "heads", "4"])
    assert run.stdout
    assert run.stdout.readline() == b"ready\n"
    assert rig.wait(lambda: len(rig.processes()) >= 5)
    moves = "".join(f"echo {pid} > mine/cgroup.procs;" for pid in rig.processes())
    as_pilot(rig, f"cd {delegated}; mkdir mine; {moves}")
    run.kill()
    assert rig.wait(lambda: rig.processes() == [], 2)
    assert rig.wait(lambda: rig.left() == [])


def test_in_a_group_of_roots_the_monitor_stays(rig: HelperRig, delegated: Path) -> None:
    """It costs a run some ten milliseconds to go, which only those pay whose groups are not root's."""
    for name in NAMES:
        os.chown(delegated / name, 0, 0)
    run = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; read line"], stdin=-1)
    assert run.stdout
    assert run.stdout.readline() == b"ready\n"
    assert str(monitor_of(run.pid)) in (delegated / "cgroup.procs").read_text().split()
    run.communicate(b"go on\n")
