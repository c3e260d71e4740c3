"""The demo, as the README tells people to run it: two owners, one pilot, and nothing left behind."""

import json
import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from demo import PREFIX
from journey import accounts

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "build" / "demo" / "report.json"
ACCOUNTS = accounts.Accounts(PREFIX / "home")

pytestmark = [pytest.mark.root, pytest.mark.interop]


def make(target: str, *, limit: float) -> subprocess.CompletedProcess[str]:
    """Run a target as a person would."""
    environ = {name: value for name, value in os.environ.items() if name not in ("KEEP", "MAKEFLAGS", "MAKELEVEL")}
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
def demo() -> "subprocess.CompletedProcess[str]":
    """Run the demo once, unless a person's own is on this machine."""
    if PREFIX.exists():
        pytest.skip(f"{PREFIX} is in use: run make clean-demo first")
    done = make("demo", limit=600)
    if done.returncode:
        make("clean-demo", limit=60)
        pytest.fail(f"make demo ended with {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done


@pytest.fixture(scope="module")
def report(demo: "subprocess.CompletedProcess[str]") -> Any:  # JSON of any shape: the tests look at it
    return json.loads(REPORT.read_text())


def test_each_owner_ran_under_an_account_of_their_own(report: Any) -> None:
    jobs = report["jobs"]
    assert [job["owner_dn"] for job in jobs] == ["/O=Toy Grid/CN=alice", "/O=Toy Grid/CN=bob"]
    assert len({job["uid"] for job in jobs}) == 2
    for job in jobs:
        assert pwd.getpwnam(job["account"]).pw_uid == job["uid"]
        assert job["account"] in accounts.POOL
        assert job["pilot_uid"] == pwd.getpwnam("pilot").pw_uid
        assert job["uid"] not in (0, job["pilot_uid"])


def test_the_report_has_the_promised_fields(report: Any) -> None:
    for job in report["jobs"]:
        assert set(job) == {
            *("job_id", "owner_dn", "account", "uid", "pilot_uid"),
            *("exit_code", "wall_seconds", "cpu_seconds", "outputs"),
        }
        assert job["exit_code"] == 0
        assert job["wall_seconds"] > 0
        assert job["cpu_seconds"] > 0


def test_the_outputs_came_back_to_their_owner(report: Any) -> None:
    for job, name in zip(report["jobs"], accounts.OWNERS, strict=True):
        outputs = [Path(path) for path in job["outputs"]]
        assert {path.name for path in outputs} >= {"histogram.csv", "histogram.svg"}
        for path in outputs:
            assert path.stat().st_uid == pwd.getpwnam(name).pw_uid


def test_nothing_is_left_behind(report: Any) -> None:
    assert report["left_behind"] == {"processes": [], "files": [], "proxies": []}


def test_the_helper_is_installed_setuid_and_its_configuration_is_roots(report: Any) -> None:
    helper = (PREFIX / "sbin" / "pilotage-exec").stat()
    assert (helper.st_uid, helper.st_gid, helper.st_mode & 0o7777) == (0, 0, 0o4711)
    config = (PREFIX / "etc" / "helper.conf").stat()
    assert (config.st_uid, config.st_mode & 0o7777) == (0, 0o644)


def test_the_helper_wrote_start_and_end_of_each_payload(report: Any) -> None:
    audit = (PREFIX / "log" / "helper.jsonl").read_text()
    for job in report["jobs"]:
        assert audit.count(job["job_id"]) >= 2


def test_two_databases_lie_apart(report: Any) -> None:
    state = PREFIX / "server" / "state"
    assert (state / "jobs.sqlite").exists()
    assert (state / "credentials.sqlite").exists()


def test_another_owner_was_refused(demo: "subprocess.CompletedProcess[str]") -> None:
    assert "JOB_NOT_FOUND" in demo.stdout


def test_the_second_time_takes_less_than_a_minute_and_cleaning_removes_everything(report: Any) -> None:
    begun = time.monotonic()
    again = make("demo", limit=120)
    assert again.returncode == 0, again.stdout + again.stderr
    assert time.monotonic() - begun < 60
    assert make("clean-demo", limit=60).returncode == 0
    assert not PREFIX.exists()
    assert not any(ACCOUNTS.is_ours(name) for name in accounts.EVERYBODY)
    for name in accounts.EVERYBODY:
        with pytest.raises(KeyError):
            pwd.getpwnam(name)
