"""The demo, as the README tells people to run it: two owners, one pilot, and nothing left behind."""

import contextlib
import json
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import pytest
from demo import PREFIX
from journey import accounts
from journey.processes import start_ticks
from journey.steps import DemoError

from pilotage.reasons import Reason
from support.pace import slowness

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "build" / "demo" / "report.json"
ACCOUNTS = accounts.Accounts(PREFIX / "home")

pytestmark = [pytest.mark.root, pytest.mark.interop]


class JobRow(TypedDict):
    """One job of the report."""

    job_id: str
    owner_dn: str
    account: str
    uid: int
    pilot_uid: int
    exit_code: int
    wall_seconds: float
    cpu_seconds: float
    outputs: list[str]


class LeftBehind(TypedDict):
    """What the payloads left."""

    processes: list[str]
    files: list[str]
    proxies: list[str]


class Report(TypedDict):
    """`build/demo/report.json`."""

    jobs: list[JobRow]
    left_behind: LeftBehind


@dataclass(frozen=True)
class Demo:
    """A demo that ended well: what it printed, how long it took, and how slow the machine was."""

    text: str
    seconds: float
    slowness: float


def make(target: str, *, limit: float, keep: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a target as a person would."""
    environ = {name: value for name, value in os.environ.items() if name not in ("KEEP", "MAKEFLAGS", "MAKELEVEL")}
    if keep:
        environ["KEEP"] = "1"
    return subprocess.run(
        ["make", "--no-print-directory", target],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """Run the demo once, unless a person's own is on this machine; whatever fails later, nothing of it stays."""
    if PREFIX.exists():
        pytest.skip(f"{PREFIX} is in use: run make clean-demo first")
    begun = time.monotonic()
    done = make("demo", limit=600)
    seconds = time.monotonic() - begun
    try:
        if done.returncode:
            pytest.fail(f"make demo ended with {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        yield Demo(done.stdout, seconds, slowness())
    finally:
        if PREFIX.exists():
            make("clean-demo", limit=240)


@pytest.fixture(scope="module")
def report(demo: Demo) -> Report:
    found: Report = json.loads(REPORT.read_text())
    return found


def owned_by(uids: dict[str, int]) -> list[str]:
    """Return the processes that run under the uids of some accounts; one that only waits to be reaped does not run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, DemoError):
            if folder.stat().st_uid in uids.values():
                start_ticks(int(folder.name))
                found.append(f"{folder.name} {(folder / 'cmdline').read_text()}")
    return found


def test_the_first_time_takes_less_than_three_minutes(demo: Demo) -> None:
    if "Installing Debian packages" in demo.text:
        pytest.skip("this time Debian packages were fetched too, at the speed of the network")
    assert demo.seconds < 180 * demo.slowness


def test_each_owner_ran_under_an_account_of_their_own(report: Report) -> None:
    jobs = report["jobs"]
    assert [job["owner_dn"] for job in jobs] == ["/O=Toy Grid/CN=alice", "/O=Toy Grid/CN=bob"]
    assert len({job["uid"] for job in jobs}) == 2
    for job in jobs:
        assert pwd.getpwnam(job["account"]).pw_uid == job["uid"]
        assert job["account"] in accounts.POOL
        assert job["pilot_uid"] == pwd.getpwnam("pilot").pw_uid
        assert job["uid"] not in (0, job["pilot_uid"])


def test_the_report_has_the_promised_fields(report: Report) -> None:
    for job in report["jobs"]:
        assert set(job) == {
            *("job_id", "owner_dn", "account", "uid", "pilot_uid"),
            *("exit_code", "wall_seconds", "cpu_seconds", "outputs"),
        }
        assert job["exit_code"] == 0
        assert job["wall_seconds"] > 0
        assert job["cpu_seconds"] > 0


def test_the_outputs_came_back_to_their_owner(report: Report) -> None:
    for job, name in zip(report["jobs"], accounts.OWNERS, strict=True):
        outputs = [Path(path) for path in job["outputs"]]
        assert {path.name for path in outputs} >= {"histogram.csv", "histogram.svg"}
        for path in outputs:
            assert path.stat().st_uid == pwd.getpwnam(name).pw_uid


def test_nothing_is_left_behind(report: Report) -> None:
    assert report["left_behind"] == {"processes": [], "files": [], "proxies": []}


def test_the_helper_is_installed_setuid_and_its_configuration_is_roots(report: Report) -> None:
    helper = (PREFIX / "sbin" / "pilotage-exec").stat()
    assert (helper.st_uid, helper.st_gid, helper.st_mode & 0o7777) == (0, 0, 0o4711)
    config = (PREFIX / "etc" / "helper.conf").stat()
    assert (config.st_uid, config.st_mode & 0o7777) == (0, 0o644)


def test_the_helper_wrote_start_and_end_of_each_payload(report: Report) -> None:
    audit = (PREFIX / "log" / "helper.jsonl").read_text()
    for job in report["jobs"]:
        assert audit.count(job["job_id"]) >= 2


def test_two_databases_lie_apart(report: Report) -> None:
    state = PREFIX / "server" / "state"
    assert (state / "jobs.sqlite").exists()
    assert (state / "credentials.sqlite").exists()


def test_another_owner_was_refused(demo: Demo) -> None:
    assert "JOB_NOT_FOUND" in demo.text


def test_both_ports_were_shown_to_serve(demo: Demo) -> None:
    assert "the mutual-TLS port, says SERVING to a robot with a certificate" in demo.text
    assert demo.text.count("says SERVING") == 2


def test_a_kept_demo_takes_less_than_a_minute_does_what_it_says_to_try_and_is_removed_whole(demo: Demo) -> None:
    begun = time.monotonic()
    again = make("demo", limit=600, keep=True)
    seconds = time.monotonic() - begun
    assert again.returncode == 0, again.stdout + again.stderr
    assert seconds < 60 * slowness()

    _, _, tell = again.stdout.partition("Server and pilot are still running. Try:\n")
    commands = [line for line in tell.splitlines() if line.startswith("    ")]
    assert len(commands) == 3, tell
    tried = [
        subprocess.run(["sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        for line in commands
    ]
    not_found = Reason.JOB_NOT_FOUND.row.exit_code
    assert [done.returncode for done in tried] == [0, 0, not_found], [done.stderr for done in tried]
    assert "dimuon-alice" in tried[1].stdout
    assert "JOB_NOT_FOUND" in tried[2].stderr
    assert tried[2].stdout == ""

    uids = {name: pwd.getpwnam(name).pw_uid for name in accounts.EVERYBODY}
    assert owned_by({name: uids[name] for name in (accounts.SERVER, accounts.PILOT)}), "nothing was kept running"
    assert make("clean-demo", limit=240).returncode == 0
    assert owned_by(uids) == []
    assert not [name for name in accounts.OWNERS if Path(f"/tmp/x509up_u{uids[name]}").exists()]
    assert not PREFIX.exists()
    assert not any(ACCOUNTS.is_ours(name) for name in accounts.EVERYBODY)
    for name in accounts.EVERYBODY:
        with pytest.raises(KeyError):
            pwd.getpwnam(name)
