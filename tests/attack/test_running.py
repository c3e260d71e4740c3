"""Running, signals, ending: nothing of a payload outlives its run (checklist E)."""

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import ANALYSIS, PILOT, HelperRig
from support.pace import soon
from support.processes import monitor_of

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
PYTHON = os.path.realpath("/usr/bin/python3")


@pytest.fixture(autouse=True)
def _alone(rig: HelperRig) -> Iterator[None]:
    yield
    rig.end_calls()


@pytest.fixture(params=["auto", "off"])
def tracking(rig: HelperRig, request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways to find a payload's processes, each proven to be the one in use."""
    if request.param == "auto" and not has_control_groups():
        pytest.skip("needs a tree of control groups (version 2) in which groups can be made")
    with rig.configured(f"cgroup = {request.param}"):
        used = rig.run("/bin/true").line("start")["tracking"]
        assert used == ("cgroup2" if request.param == "auto" else "group")
        yield str(request.param)


def has_control_groups() -> bool:
    """Tell whether a group with `cgroup.kill` can be made below our own, wherever the tree is mounted."""
    own = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"), None)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        if own is None or kind.split()[0] != "cgroup2" or place.split()[3] != "/":
            continue
        probe = Path(place.split()[4]) / own.lstrip("/") / f"pilotage-probe-{os.getpid()}"
        with contextlib.suppress(OSError):
            probe.mkdir()
            try:
                return (probe / "cgroup.kill").exists()
            finally:
                probe.rmdir()
    return False


def started(rig: HelperRig, *payload: object, user: str = PILOT) -> "subprocess.Popen[bytes]":
    """Start a payload that says `ready`, and wait until it has."""
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", *map(str, payload)], user=user)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize(
    ("ends_with", "code"), [(0, 0), (1, 1), (200, 200), (201, 204), (202, 204), (203, 204), (204, 204), (205, 205)]
)
def test_exit_codes_pass_and_are_never_taken_for_the_helpers(rig: HelperRig, ends_with: int, code: int) -> None:
    done = rig.run(SH, "-c", f"exit {ends_with}")
    assert done.code == code
    assert done.line("end")["exit_code"] == ends_with


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_128_more(rig: HelperRig, number: signal.Signals) -> None:
    done = rig.run(SH, "-c", f"kill -{number.value} $$")
    assert done.code == 128 + number
    end = done.line("end")
    assert (end["exit_code"], end["signal"]) == (-1, number)


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "CONT"])
def test_signals_are_passed_on(rig: HelperRig, name: str) -> None:
    process = started(rig, SH, "-c", f"trap 'exit 33' {name}; echo ready; while :; do sleep 0.02; done")
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.wait(60) == 33


def test_a_payload_deaf_to_term_is_killed_after_the_grace(rig: HelperRig) -> None:
    def once() -> float:
        process = started(rig, rig.attack("hydra"), "heads", 3)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
        seconds = time.monotonic() - start
        assert (rig.processes(), rig.left()) == ([], [])
        return seconds

    with rig.configured("term_grace_seconds = 1"):
        soon(once, 3)


def test_what_the_payload_leaves_running_is_killed(rig: HelperRig, tracking: str) -> None:
    done = rig.run(rig.attack("hydra"), "leave", "6")
    assert done.code == 7
    assert done.line("end")["left_processes"] == 0
    assert (rig.processes(), rig.left()) == ([], [])


def test_the_whole_tree_is_gone_soon_after_the_front_is_killed(rig: HelperRig, tracking: str) -> None:
    def once() -> float:
        process = started(rig, rig.attack("hydra"), "heads", 6)
        assert rig.wait(lambda: len(rig.processes()) == 7)
        before = len(rig.audit())
        process.kill()
        start = time.monotonic()
        assert rig.wait(lambda: rig.processes() == [])
        seconds = time.monotonic() - start
        assert rig.wait(lambda: len(rig.audit()) > before)
        end = rig.audit()[-1]
        assert (end["event"], end["reason"]) == ("END", "FRONT_LOST")
        assert rig.wait(lambda: rig.left() == [])
        return seconds

    soon(once, 1.2)


def test_a_fork_bomb_is_gone_within_a_second(rig: HelperRig, tracking: str) -> None:
    def once() -> float:
        process = started(rig, rig.attack("hydra"), "bomb", 400)
        assert rig.wait(lambda: len(rig.processes()) > 300)
        with rig.configured(f"cgroup = {tracking}\nterm_grace_seconds = 0"):
            process.kill()
            start = time.monotonic()
            assert rig.wait(lambda: rig.processes() == [])
            seconds = time.monotonic() - start
        assert rig.wait(lambda: rig.left() == [])
        return seconds

    # The front's loss gives half a second of grace before the second that the kill may take.
    soon(once, 1.8)


def test_the_pilot_cannot_signal_the_monitor_nor_look_into_it(rig: HelperRig) -> None:
    process = started(rig, SH, "-c", "echo ready; sleep 300")
    monitor = monitor_of(process.pid)
    code = (
        "import os, sys\npid = int(sys.argv[1])\n"
        "for number in (9, 15, 19):\n"
        "  try: os.kill(pid, number); print('signalled', number)\n"
        "  except PermissionError: pass\n"
        "for name in ('mem', 'environ', 'maps', 'fd', 'exe'):\n"
        "  path = f'/proc/{pid}/{name}'\n"
        "  try: os.listdir(path) if name == 'fd' else os.readlink(path) if name == 'exe' else open(path).read(1)\n"
        "  except OSError: continue\n"
        "  print('read', name)\n"
    )
    for pid in (monitor, process.pid):
        looked = subprocess.run(
            ["/usr/bin/python3", "-c", code if pid == monitor else code.replace("(9, 15, 19)", "()"), str(pid)],
            user=rig.pilot.pw_uid,
            capture_output=True,
            text=True,
        )
        assert (looked.stdout, looked.stderr) == ("", "")
    process.kill()
    assert rig.wait(lambda: rig.left() == [])


def test_a_run_whose_monitor_died_is_buried_by_the_next(rig: HelperRig, tracking: str) -> None:
    process = started(rig, rig.attack("hydra"), "heads", 4)
    os.kill(monitor_of(process.pid), signal.SIGKILL)
    assert process.wait(60) == 202
    # The main process dies with the monitor; its orphans and files wait for the next run.
    assert len(rig.left()) >= 2
    assert rig.run("/usr/bin/id").code == 0
    assert (rig.processes(), rig.left()) == ([], [])


def test_fifty_runs_write_fifty_starts_and_ends_in_whole_lines(rig: HelperRig) -> None:
    before = len(rig.audit())
    proxies = [rig.proxy(n) for n in range(3)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        runs = list(pool.map(lambda n: rig.run("/usr/bin/true", proxy=proxies[n % 3]), range(50)))
    assert {done.code for done in runs} == {0}
    events = Counter(str(line["event"]) for line in rig.since(before))
    assert events == {"START": 50, "END": 50}
    assert len({line["run_id"] for line in rig.since(before)}) == 50
    assert rig.left() == []


def test_many_first_visits_give_each_owner_one_account(rig: HelperRig) -> None:
    rig.release_all()
    owners = len(rig.owners)
    while len(rig.owners) < 10:
        rig.owners.append(rig.grid.user(f"owner {len(rig.owners) + 1}", key="ec"))
    proxies = [rig.proxy(n) for n in range(10)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        runs = list(pool.map(lambda n: rig.run("/usr/bin/id", "-u", proxy=proxies[n % 10]), range(30)))
    assert {done.code for done in runs} == {0}
    pairs = {(str(done.line("start")["dn"]), done.out) for done in runs}
    assert len(pairs) == len({dn for dn, _ in pairs}) == len({uid for _, uid in pairs}) == 10
    leases = [path for path in rig.gridmapdir.iterdir() if path.name.startswith("%")]
    assert len(leases) == 10
    assert {path.stat().st_nlink for path in leases} == {2}
    del rig.owners[owners:]
    rig.release_all()


def test_two_owners_never_run_on_one_account_at_once(rig: HelperRig) -> None:
    account = rig.pools[0]
    with rig.mapped(f'"{ANALYSIS}" {account}\n'):
        process = started(rig, SH, "-c", "echo ready; sleep 300")
        other = rig.run("/usr/bin/id", proxy=rig.proxy(1))
        assert (other.code, other.reason, other.status[0]["retry"]) == (203, "ACCOUNT_IN_USE", True)
        same = rig.run(SH, "-c", "touch /tmp/pgt-kept-$$; echo $$", proxy=rig.proxy(0))
        assert same.code == 0
        # The account is shared with a living run, so its files and processes stay.
        assert Path(f"/tmp/pgt-kept-{same.out.strip()}").exists()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert rig.run("/usr/bin/id", proxy=rig.proxy(1)).code == 0
    assert rig.left() == []


def test_streams_are_whole_and_a_closed_one_stops_no_cleaning(rig: HelperRig) -> None:
    size = 10 * 1024 * 1024
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/cat"], stdin=subprocess.PIPE)
    data = os.urandom(size)
    out, _ = process.communicate(data, timeout=120)
    assert (process.returncode, out == data) == (0, True)
    before = len(rig.audit())
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "yes; exit 5"])
    assert process.stdout
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(60) == 5
    assert [line["event"] for line in rig.since(before)][-1] == "END"
    assert rig.left() == []


def test_the_callers_ends_close_with_the_payload(rig: HelperRig) -> None:
    words = ["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "exec >&-; read line"]
    process = rig.start(words, stdin=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    # Its end comes while the payload still lives, and waits for a line.
    assert process.stdout.read() == b""
    assert process.poll() is None
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait(60) == 0


def test_files_and_objects_of_the_account_are_removed(rig: HelperRig) -> None:
    script = (
        "mkdir -p /tmp/pgt-deep/a/b/c && touch /tmp/pgt-deep/a/b/c/f && chmod 0 /tmp/pgt-deep/a/b /tmp/pgt-deep;"
        "ln -s /etc/passwd /var/tmp/pgt-link; touch /dev/shm/pgt-file; ipcmk -M 4096 -S 2 -Q >/dev/null;"
        "d=$PILOTAGE_RUN_DIR/work; for i in $(seq 1 300); do d=$d/d; mkdir $d 2>/dev/null || break; done; exit 0"
    )
    done = rig.run(SH, "-c", script)
    assert done.code == 0
    assert done.line("end")["left_files"] == 0
    assert rig.left() == []
    uid = str(done.line("start")["uid"])
    for kind in ("shm", "msg", "sem"):
        rows = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
        column = rows[0].split().index("uid")
        assert [row for row in rows[1:] if row.split()[column] == uid] == []


def test_the_run_directory_is_what_the_interface_says(rig: HelperRig) -> None:
    done = rig.run(SH, "-c", "cd ..; pwd; stat -c '%a %U %n' . *; cat proxy")
    lines = done.out.splitlines()
    account, run_id = done.line("start")["account"], done.line("start")["run_id"]
    assert lines[0] == f"{rig.prefix}/home/{account}/pilotage-{run_id}"
    assert lines[1:5] == [f"700 {account} .", f"600 {account} proxy", f"700 {account} tmp", f"700 {account} work"]
    assert "\n".join(lines[5:]) + "\n" == rig.proxy().read_text()
    without = rig.run(SH, "-c", "ls ..; env", options=["--target-proxy", "none"])
    assert "proxy" not in without.out.split()
    assert "X509_USER_PROXY" not in without.out


def test_a_home_that_others_can_change_is_not_used(rig: HelperRig) -> None:
    account = str(rig.run("/usr/bin/id").line("start")["account"])
    home = rig.prefix / "home" / account
    uid = home.stat().st_uid
    for owner, mode in ((uid, 0o770), (uid, 0o702), (0, 0o755)):
        home.chmod(mode)
        os.chown(home, owner, uid)
        done = rig.run("/usr/bin/id")
        os.chown(home, uid, uid)
        home.chmod(0o700)
        assert (done.code, done.reason) == (203, "HOME_UNUSABLE")
    moved = home.with_name("moved")
    home.rename(moved)
    home.symlink_to("/etc")
    done = rig.run("/usr/bin/id")
    home.unlink()
    moved.rename(home)
    assert done.reason == "HOME_UNUSABLE"
    assert rig.run("/usr/bin/id").code == 0


def test_a_second_proxy_must_be_the_same_owners(rig: HelperRig) -> None:
    other = rig.run("/usr/bin/cat", "../proxy", options=["--source-proxy", str(rig.proxy(1))])
    assert (other.code, other.reason) == (201, "PROXY_FILE_UNUSABLE")
    second = rig.proxy(0, fqans=("/demo",))
    same = rig.run("/usr/bin/cat", "../proxy", options=["--source-proxy", str(second)])
    assert (same.code, same.out) == (0, second.read_text())


def test_map_leases_nothing(rig: HelperRig) -> None:
    rig.release_all()
    done = rig.run(verb="map")
    assert done.code == 0
    line = done.line("map")
    assert line["account"] == rig.pools[0]
    assert line["groups"] == [line["gid"]]
    assert str(line["lease"]).startswith("%2f%4f%3d%54oy%20%47rid")
    assert {path.name for path in rig.gridmapdir.glob("[!.]*")} == {*rig.pools}
    process = rig.start(["map", "--proxy", str(rig.proxy())])
    assert json.loads(process.communicate(timeout=120)[0])["event"] == "map"


def test_a_full_disk_under_the_log_refuses_the_run(rig: HelperRig) -> None:
    small = rig.prefix / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=755", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        log = small / "helper.jsonl"
        log.write_bytes(b"x" * 4096)
        with rig.configured(change=lambda text: text.replace(str(rig.log), str(log))):
            done = rig.run("/usr/bin/id")
        assert (done.code, done.reason, done.out) == (202, "AUDIT_UNAVAILABLE", "")
        assert (rig.processes(), rig.left()) == ([], [])
    finally:
        subprocess.run(["umount", str(small)], check=False)


def test_the_log_knows_who_ran_what(rig: HelperRig) -> None:
    before = len(rig.audit())
    done = rig.run("/usr/bin/id", options=["--job-id", "j-17"])
    start, end = rig.since(before)
    for line in (start, end):
        assert line["dn"] == rig.owners[0].dn
        assert line["caller"] == PILOT
        assert line["caller_uid"] == rig.pilot.pw_uid
        assert line["job_id"] == "j-17"
        assert line["fqan"] == ANALYSIS
        assert line["run_id"] == done.line("start")["run_id"]
        assert line["command"] == "/usr/bin/id"
    assert end["exit_code"] == 0
    assert "PRIVATE" not in rig.log.read_text()


def test_times_and_memory_reach_the_caller(rig: HelperRig) -> None:
    before = os.times()
    done = rig.run(PYTHON, "-c", "import os\nwhile os.times().user < 0.2: pass")
    used = os.times().children_user - before.children_user
    end = done.line("end")
    assert float(str(end["cpu_user_seconds"])) > 0.15
    assert used >= float(str(end["cpu_user_seconds"])) * 0.9
    assert float(str(end["wall_seconds"])) >= float(str(end["cpu_user_seconds"])) * 0.9
    assert int(str(end["max_rss_bytes"])) > 500_000


def test_nothing_is_left_at_the_end(rig: HelperRig) -> None:
    with contextlib.suppress(FileNotFoundError):
        assert rig.wait(lambda: rig.processes() == [] and rig.left() == [])
