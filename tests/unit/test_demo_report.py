"""The demo's report says what happened, in the fields that were promised."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from journey import accounts, owners
from journey.leftovers import Leftovers
from journey.report import JobLine, as_text, write_json
from journey.steps import DemoError

LINE = JobLine("j1", "/O=Toy Grid/CN=alice", "demo01", 2001, 1001, 0, 1.5, 0.25, ["/home/alice/histogram.svg"])
LOG = "id: uid=2001(demo01) gid=2001(demo01)\nhome: /opt/home/demo01\ndn: /O=Toy Grid/CN=alice\n"


@pytest.fixture(autouse=True)
def known_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the accounts have the uids and homes of these tests."""
    monkeypatch.setattr(accounts, "uid", {"demo01": 2001, "pilot": 1001}.__getitem__)
    monkeypatch.setattr(accounts, "home", {"demo01": "/opt/home/demo01"}.__getitem__)


def test_the_json_report_has_exactly_the_promised_fields(tmp_path: Path) -> None:
    write_json(tmp_path / "demo" / "report.json", [LINE], Leftovers([], [], []))
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert set(report) == {"jobs", "left_behind"}
    assert set(report["jobs"][0]) == {
        "job_id",
        "owner_dn",
        "account",
        "uid",
        "pilot_uid",
        "exit_code",
        "wall_seconds",
        "cpu_seconds",
        "outputs",
    }
    assert report["left_behind"] == {"processes": [], "files": [], "proxies": []}


def test_the_text_report_says_that_nothing_is_left() -> None:
    text = as_text([LINE], Leftovers([], [], []))
    assert "demo01 (uid 2001); the pilot is uid 1001" in text
    assert text.endswith("    no process\n    no file\n    no proxy")


def test_the_text_report_names_what_is_left() -> None:
    text = as_text([LINE], Leftovers(["77 sleep uid 2001"], [], ["/tmp/x"]))
    assert "process: 77 sleep uid 2001" in text
    assert "proxy: /tmp/x" in text


def test_a_payload_under_its_pool_account_is_believed() -> None:
    owners.check_identity(LINE, "/O=Toy Grid/CN=alice", LOG)


@pytest.mark.parametrize(
    ("line", "log", "complaint"),
    [
        ({"uid": 1001}, LOG, "no pool account"),
        ({"account": "pilot", "uid": 1001}, LOG, "no pool account"),
        ({"pilot_uid": 0}, LOG, "pilot's uid"),
        ({"exit_code": 3}, LOG, "ended with 3"),
        ({"owner_dn": "/O=Toy Grid/CN=bob"}, LOG, "names the owner"),
        ({}, LOG.replace("uid=2001(demo01)", "uid=1001(pilot)"), "payload ran as"),
        ({}, LOG.replace("CN=alice", "CN=bob"), "payload's proxy names"),
        ({}, LOG.replace("home: /opt/home/demo01", "home: /opt/home/pilot"), "home was /opt/home/pilot"),
        ({}, LOG.replace("home: /opt/home/demo01\n", ""), "home was none"),
        ({}, "", "payload ran as nobody"),
    ],
)
def test_a_payload_under_a_wrong_identity_fails_the_demo(line: dict[str, object], log: str, complaint: str) -> None:
    with pytest.raises(DemoError, match=complaint):
        owners.check_identity(replace(LINE, **line), "/O=Toy Grid/CN=alice", log)  # type: ignore[arg-type]  # fields by name
