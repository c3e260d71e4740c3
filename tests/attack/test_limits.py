"""Bounds by control group: set, kept, reported, and not to be left (checklist E6)."""

import os
import signal
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from support.groups import GROUPS, has
from support.helper_rig import HelperRig

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
PYTHON = os.path.realpath("/usr/bin/python3")
MIB = 1024 * 1024
BOUND_AND_DYING = 65 * MIB
"""A bound of 64 MiB, and the few pages more that the kernel lets a process have that it is just killing."""
VERSION_2 = (GROUPS / "cgroup.controllers").exists()
"""Is the one tree of version 2 all that this machine has?"""
needs_controllers = pytest.mark.skipif(
    not all(map(has, ("memory", "pids", "cpu"))), reason="this machine hands on no memory, pids and cpu controllers"
)


def section(*lines: str) -> str:
    return "\n".join(["", "[isolation]", *lines])


@pytest.fixture(params=["off", "required"])
def spaces(request: pytest.FixtureRequest) -> str:
    """Bounds hold with and without namespaces."""
    return str(request.param)


def eat(mebibytes: int) -> list[str]:
    return [PYTHON, "-c", f"x = bytearray({mebibytes} * 1024 * 1024); print(len(x))"]


@needs_controllers
def test_a_payload_that_takes_too_much_memory_is_killed_and_it_is_said(rig: HelperRig, spaces: str) -> None:
    with rig.configured(section("memory_bytes = 67108864", f"namespaces = {spaces}")):
        before = len(rig.audit())
        done = rig.run(*eat(300))
        assert done.line("start")["memory_bytes"] == 64 * MIB
        end = done.line("end")
        assert (done.code, end["signal"]) == (128 + signal.SIGKILL, signal.SIGKILL)
        assert (end["reason"], end["number"]) == (Reason.LIMIT_MEMORY.name, Reason.LIMIT_MEMORY.value)
        assert 32 * MIB < int(str(end["peak_memory_bytes"])) < BOUND_AND_DYING
        start, logged = rig.since(before)
        assert (start["memory_bytes"], logged["reason"]) == (64 * MIB, "LIMIT_MEMORY")
        within = rig.run(*eat(20))
        assert (within.code, within.line("end")["reason"]) == (0, "")
    assert rig.left() == []


@needs_controllers
def test_memory_that_a_child_took_is_said_though_the_command_ended_well(rig: HelperRig, spaces: str) -> None:
    with rig.configured(section("memory_bytes = 67108864", f"namespaces = {spaces}")):
        done = rig.run(SH, "-c", '"$@" 2>/dev/null; test $? = 137 && exit 0', "sh", *eat(300))
    end = done.line("end")
    assert (done.code, end["exit_code"], end["reason"]) == (0, 0, Reason.LIMIT_MEMORY.name)
    assert rig.left() == []


@needs_controllers
def test_the_private_directories_count_as_memory(rig: HelperRig) -> None:
    """Nobody gets around the bound by files in memory; also what is left in them goes with the run."""
    with rig.configured(section("memory_bytes = 67108864", "namespaces = required", "tmp_bytes = 268435456")):
        done = rig.run("/usr/bin/dd", "if=/dev/zero", "of=/dev/shm/large", "bs=1M", "count=200")
    assert done.code != 0
    assert int(str(done.line("end")["peak_memory_bytes"])) < BOUND_AND_DYING
    assert rig.left() == []


def test_bounds_of_version_2_are_the_kernels(rig: HelperRig) -> None:
    """Where the one tree of version 2 has the controllers; the files are tried in helper_c/tests/test_keep_bound.c."""
    tree = GROUPS if VERSION_2 else GROUPS / "unified"
    listed = tree / "cgroup.controllers"
    lacking = {"memory", "pids", "cpu"} - set(listed.read_text().split() if listed.exists() else [])
    if lacking:
        rows = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()[1:]]
        bound = {name: f"{groups} groups in hierarchy {number}" for name, number, groups, _ in rows if number != "0"}
        why = [f"{name} ({bound.get(name, 'not in this kernel, or not handed down')})" for name in sorted(lacking)]
        pytest.skip(f"version 2 lacks {', '.join(why)}: one that version 1 has mounted cannot be in both")
    parent = tree / f"pgt-v2-{os.getpid()}"
    (tree / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    parent.mkdir()
    try:
        bounds = section(f"cgroup_parent = /{parent.name}", "memory_bytes = 67108864", "pids = 9", "cpu_percent = 50")
        with rig.configured("cgroup = required" + bounds):
            process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; exec sleep 300"])
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            (group,) = parent.glob("pilotage-*")
            read = {name: (group / name).read_text().strip() for name in ("memory.max", "pids.max", "cpu.max")}
            process.kill()
            process.wait(60)
        assert read == {"memory.max": "67108864", "pids.max": "9", "cpu.max": "50000 100000"}
        assert rig.wait(lambda: rig.left() == [])
    finally:
        parent.rmdir()


@needs_controllers
def test_bounds_of_version_1_are_the_kernels(rig: HelperRig) -> None:
    if not (GROUPS / "memory").is_dir():
        pytest.skip("this machine has no trees of version 1")
    with rig.configured(section("memory_bytes = 67108864", "pids = 9", "cpu_percent = 50")):
        process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; exec sleep 300"])
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        name = f"pilotage-{rig.audit()[-1]['run_id']}"
        (payload,) = rig.processes()
        found = {}
        for controller, file in (
            ("memory", "memory.limit_in_bytes"),
            ("pids", "pids.max"),
            ("cpu", "cpu.cfs_quota_us"),
        ):
            (group,) = [Path(top) for top, _, _ in os.walk(GROUPS / controller) if Path(top).name == name]
            found[file] = (group / file).read_text().strip()
            assert (group / "cgroup.procs").read_text().split() == [str(payload)]
        process.kill()
        process.wait(60)
    assert found == {"memory.limit_in_bytes": "67108864", "pids.max": "9", "cpu.cfs_quota_us": "50000"}
    assert rig.wait(lambda: rig.left() == [])


@needs_controllers
@pytest.mark.parametrize(("asked", "got"), [(33554432, 33554432), (1 << 40, 67108864)])
def test_the_caller_can_ask_for_less_but_not_for_more(rig: HelperRig, asked: int, got: int) -> None:
    with rig.configured(section("memory_bytes = 67108864", "pids = 50")):
        done = rig.run("/usr/bin/true", options=["--memory-bytes", str(asked), "--pids", "7"])
        assert (done.line("start")["memory_bytes"], done.line("start")["pids"]) == (got, 7)
        assert rig.run("/usr/bin/true", options=["--pids", "51"]).line("start")["pids"] == 50
    done = rig.run(*eat(300), options=["--memory-bytes", str(asked)])
    assert (done.code == 137) is (asked < 300 * MIB)


@pytest.mark.parametrize("value", ["0", "-1", "+1", "1k", "", "1" * 19, " 1"])
def test_a_bound_is_a_number(rig: HelperRig, value: str) -> None:
    assert rig.run("/usr/bin/true", options=["--memory-bytes", value]).reason == "HELPER_USAGE"
    assert rig.run("/usr/bin/true", options=["--pids", value]).reason == "HELPER_USAGE"


@needs_controllers
def test_a_payload_cannot_have_more_processes(rig: HelperRig, spaces: str) -> None:
    count = (
        "import os, time\nn = 0\n"
        "try:\n  while n < 100:\n    if os.fork() == 0: time.sleep(9); os._exit(0)\n    n += 1\n"
        "except BlockingIOError: pass\nprint(n)"
    )
    with rig.configured(section("pids = 20", f"namespaces = {spaces}")):
        done = rig.run(PYTHON, "-c", count)
    # One is the payload itself; in namespaces another is their init.
    assert int(done.out) == (19 if spaces == "off" else 18)
    assert done.line("end")["peak_pids"] == 20
    assert done.line("end")["left_processes"] == 0
    assert rig.left() == []


@needs_controllers
def test_a_payload_cannot_use_more_of_a_core(rig: HelperRig, spaces: str) -> None:
    spin = "import time\nend = time.monotonic() + 1.2\nwhile time.monotonic() < end: pass"
    with rig.configured(section("cpu_percent = 20", f"namespaces = {spaces}")):
        end = rig.run(PYTHON, "-c", spin).line("end")
    used = float(str(end["cpu_user_seconds"])) + float(str(end["cpu_system_seconds"]))
    assert used < 0.5 * float(str(end["wall_seconds"]))


def test_the_time_of_processes_that_nobody_waited_for_is_counted(rig: HelperRig) -> None:
    busy = (
        "import os, time\nreader, writer = os.pipe()\nif os.fork() == 0:\n  os.setsid()\n"
        "  while os.times().user < 0.3: pass\n  os.write(writer, b'.')\n  while True: pass\nos.read(reader, 1)"
    )
    end = rig.run(PYTHON, "-c", busy).line("end")
    assert float(str(end["cpu_user_seconds"])) > 0.2


@needs_controllers
def test_bounds_hold_without_a_group_to_track_by(rig: HelperRig) -> None:
    """The trees of version 1 bound by themselves; the one of version 2 is off with the tracking, and so is the run."""
    with rig.configured("cgroup = off" + section("memory_bytes = 67108864")):
        done = rig.run(*eat(300))
    if VERSION_2:
        assert (done.code, done.reason) == (202, "CGROUP_FAILED")
    else:
        assert (done.line("start")["tracking"], done.line("end")["reason"]) == ("group", "LIMIT_MEMORY")
    assert rig.left() == []


def test_a_bound_that_cannot_be_set_refuses(rig: HelperRig) -> None:
    with rig.configured(section("memory_bytes = 67108864", "cgroup_parent = /pilotage-no-such-group")):
        done = rig.run("/usr/bin/true")
        assert (done.code, done.reason, done.status[0]["retry"]) == (202, "CGROUP_FAILED", True)
    with rig.configured(section("cgroup_parent = /pilotage-no-such-group")):
        done = rig.run("/usr/bin/true", options=["--pids", "9"])
        assert (done.code, done.reason) == (202, "CGROUP_FAILED")
        assert rig.run("/usr/bin/true").line("start")["tracking"] == "group"
    with rig.configured("cgroup = required" + section("cgroup_parent = /pilotage-no-such-group")):
        assert rig.run("/usr/bin/true").reason == "CGROUP_FAILED"
    assert rig.left() == []


@needs_controllers
def test_the_site_can_set_a_group_apart(rig: HelperRig) -> None:
    name = f"pgt-parent-{os.getpid()}"
    trees = [GROUPS / tree for tree in ("unified", "memory", "pids", "cpu") if (GROUPS / tree).is_dir()] or [GROUPS]
    for tree in trees:
        (tree / name).mkdir()
    try:
        with rig.configured("cgroup = required" + section(f"cgroup_parent = /{name}", "pids = 9", "cpu_percent = 90")):
            done = rig.run("/usr/bin/cat", "/proc/self/cgroup")
        run = done.line("start")["run_id"]
        assert f":/{name}/pilotage-{run}\n" in done.out
        assert done.out.count(f"/{name}/") == (4 if len(trees) == 4 else 1)
        assert rig.left() == []
    finally:
        for tree in trees:
            (tree / name).rmdir()


def test_a_payload_cannot_leave_its_groups_nor_change_them(rig: HelperRig, spaces: str) -> None:
    bounds = ["memory_bytes = 268435456", "pids = 40"] if has("memory") else []
    with rig.configured(section(f"namespaces = {spaces}", *bounds)):
        script = f"mkdir -p $TMPDIR/g; {rig.attack('escape_group')} /sys/fs/cgroup $TMPDIR/g; cat /proc/self/cgroup"
        done = rig.run(SH, "-c", script)
        assert done.code == 0
        wrote = [line for line in done.out.splitlines() if line.startswith(("wrote", "made", "found"))]
        assert wrote == []
        assert f"/pilotage-{done.line('start')['run_id']}" in done.out
    assert rig.left() == []


@needs_controllers
def test_the_groups_of_a_dead_monitor_go_with_the_next_run(rig: HelperRig) -> None:
    with rig.configured(section("memory_bytes = 268435456", "pids = 40", "cpu_percent = 150")):
        process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; sleep 300"])
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        (monitor,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(monitor), signal.SIGKILL)
        assert process.wait(60) == 202
        assert len([path for path in rig.left() if str(path).startswith("/sys")]) == (1 if VERSION_2 else 4)
        assert rig.run("/usr/bin/true").code == 0
    assert rig.left() == []


def test_bounds_are_read_strictly(rig: HelperRig) -> None:
    for wrong in ("memory_bytes = 1", "pids = 1", "cpu_percent = 0", "cgroup_parent = slice", "memory_bytes = 64M"):
        with rig.configured(section(wrong)):
            assert rig.run("/usr/bin/id").reason == "HELPER_CONFIG_INVALID", wrong
