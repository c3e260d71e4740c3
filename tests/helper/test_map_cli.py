"""`pilotage-helper map` and `check-config` try a site's files with the helper's own code, as anybody."""

import json
import pwd
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from support import vectors as v
from support.map_site import Site

DAEMON = pwd.getpwnam("daemon")


def test_it_shows_the_account_of_the_first_attribute(site: Site) -> None:
    site.map('"/demo" nobody\n"/demo/Role=analysis" daemon\n"/O=Test Grid/CN=alice" root\n')
    answer = site.answer()
    assert (answer["account"], answer["uid"], answer["gid"]) == ("daemon", DAEMON.pw_uid, DAEMON.pw_gid)
    assert (answer["dn"], answer["lease"]) == ("/O=Test Grid/CN=alice", "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('"/demo" root', "ACCOUNT_FORBIDDEN"),
        ('"/demo" nobody', "ACCOUNT_FORBIDDEN"),
        ('"/demo" nobody-here', "ACCOUNT_UNKNOWN"),
        ('"/other" daemon', "NO_MAPPING"),
        ('"/demo" 0', "MAP_FILE_MALFORMED"),
    ],
)
def test_a_refusal_has_its_reason_and_exit_code(site: Site, line: str, reason: str) -> None:
    site.map(line + "\n")
    done = site.run()
    assert done.stderr.startswith(f"pilotage-helper: refused: {reason} ")
    assert done.exit_code == Reason[reason].row.exit_code
    assert site.answer()["reason"] == reason


@pytest.mark.parametrize(
    ("callers", "words", "reason"),
    [
        ("[caller nobody]\nvos = demo\naccounts = d*, x\n", (), ""),
        ("[caller nobody]\nvos = demo\naccounts = x*\n", (), "CALLER_ACCOUNT_BOUNDS"),
        ("[caller nobody]\nvos = other\naccounts = *\n", (), "CALLER_VO_BOUNDS"),
        ("[caller nobody]\nvos = demo\nfqans = /demo/x\naccounts = *\n", (), "CALLER_VO_BOUNDS"),
        ("[caller daemon]\nvos = demo\naccounts = *\n", (), "ACCOUNT_FORBIDDEN"),
        ("[caller a]\nvos = demo\naccounts = x\n[caller b]\nvos = demo\naccounts = *\n", (), "CALLER_NOT_ALLOWED"),
        ("[caller a]\nvos = demo\naccounts = x\n[caller b]\nvos = demo\naccounts = *\n", ("--caller", "b"), ""),
        ("[caller a]\nvos = demo\naccounts = x\n", ("--caller", "c"), "CALLER_NOT_ALLOWED"),
        ("", (), ""),
    ],
)
def test_the_callers_bounds_hold(site: Site, callers: str, words: Sequence[str], reason: str) -> None:
    site.configure(callers=callers)
    assert site.answer(*words).get("reason", "") == reason


def test_nothing_is_leased_unless_asked_for(site: Site, tmp_path: Path) -> None:
    pool = tmp_path / "gridmapdir"
    pool.mkdir()
    (pool / "daemon1").touch()
    site.map('"/demo" .daemon\n')
    site.configure(f"gridmapdir = {pool}")
    assert site.answer()["reason"] == "ACCOUNT_UNKNOWN"
    site.map('"/demo" .pgx\n')
    assert site.answer("--lease")["reason"] == "POOL_EXHAUSTED"
    assert {path.name for path in pool.glob("[!.]*")} == {"daemon1"}


def test_verify_mode_asks_for_one_account(site: Site) -> None:
    assert site.answer("--account", "daemon")["account"] == "daemon"
    assert site.answer("--account", "nobody")["reason"] == "ACCOUNT_CHANGED"


def test_a_proxy_that_is_not_genuine_is_refused_first(site: Site) -> None:
    site.map("broken\n")
    late = str(int((datetime.now(UTC) + v.DAY).timestamp()))
    assert "PROXY_EXPIRED" in site.run("--at", late).stderr


def test_other_trust_directories_can_be_tried(site: Site, tmp_path: Path) -> None:
    assert site.run("--certificates", str(tmp_path / "none")).stderr.count("CA_DIRECTORY_UNUSABLE") == 1
    assert site.run("--vomsdir", str(tmp_path / "none")).stderr.count("no VOMS attributes") == 1


def test_check_config_reads_every_file_and_tells_all_broken_lines(site: Site) -> None:
    done = site.check("--json")
    assert json.loads(done.stdout) == {"ok": True, "config": str(site.config), "callers": ["nobody"]}
    site.map('"/demo" daemon\nx\n# comment\n"/demo\n')
    assert "2 broken, lines 2 4" in site.check().stderr
    site.map('"/demo" daemon\n')
    site.configure(f"ban_file = {site.root / 'bans'}")
    assert "MAP_FILE_UNUSABLE" in site.check().stderr


@pytest.mark.parametrize(
    "mapping", ["ban_file = relative", "ban_file =", "unknown = 1", "grid_mapfile = /x", "[map]", "no equals sign"]
)
def test_a_broken_map_section_is_refused_whole(site: Site, mapping: str) -> None:
    site.configure(mapping)
    assert site.answer()["reason"] == "HELPER_CONFIG_INVALID"
    assert "HELPER_CONFIG_INVALID" in site.check().stderr


def test_strict_wants_files_that_are_roots_alone(site: Site) -> None:
    assert site.check("--strict").stderr.count("HELPER_CONFIG_UNUSABLE") == 1
    assert site.run("--strict").stderr.count("HELPER_CONFIG_UNUSABLE") == 1
