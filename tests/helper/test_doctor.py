"""`pilotage-helper doctor` says what a machine lacks, and what is weaker then."""

import json
import os
import pwd
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from pilotage_helper.cli import main
from pilotage_helper.doctor import State, later, worst
from pilotage_helper.doctor import installation as i
from pilotage_helper.doctor import machine as m
from pilotage_helper.doctor import trust as t
from pilotage_helper.doctor.finding import Finding
from pilotage_helper.site import Caller, Demands, Site
from support import vectors as v
from support.helper_rig import HelperRig

HYBRID = """\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_OWN = "8:pids:/\n4:memory:/batch/slot1\n1:cpu:/\n0::/batch/slot1\n"
EVERYTHING = 0x1FFFFFFFFFF
IDENTITY = "         0          0 4294967295\n"


def site(root: Path, **more: object) -> Site:
    nobody = pwd.getpwnam("nobody").pw_name
    fields: dict[str, object] = {
        "path": root / "helper.conf",
        "any_owner": True,
        "ca_dir": root / "certificates",
        "voms_dir": root / "vomsdir",
        "verify_user": nobody,
        "min_uid": 1,
        "min_gid": 1,
        "skew_seconds": 300,
        "require_crl": True,
        "refuse_limited": False,
        "callers": (Caller("daemon", "nobod*"),),
    }
    return Site(**(fields | more))  # type: ignore[arg-type]  # fields of Site


def states(findings: object) -> dict[str, State]:
    return {finding.subject: finding.state for finding in findings}  # type: ignore[attr-defined]  # an iterable of them


@pytest.mark.parametrize(
    ("release", "state", "word"),
    [
        ("6.1.0-13-amd64", State.OK, "6.1"),
        ("5.10.0", State.WEAKER, "cgroup.kill"),
        ("5.4.0-generic", State.WEAKER, "Landlock"),
        ("4.18.0-553.el8", State.BROKEN, "pidfd_open"),
        ("unreadable", State.BROKEN, "pidfd_open"),
    ],
)
def test_an_old_kernel_is_named_with_what_it_lacks(release: str, state: State, word: str) -> None:
    (finding,) = m.kernel(release)
    assert finding.state is state
    assert word in finding.found + finding.means


def test_controllers_are_found_in_both_versions(tmp_path: Path) -> None:
    found = m.groups(HYBRID, HYBRID_OWN, tmp_path)
    assert found.unified
    assert found.controllers == {"memory", "pids", "cpu"}
    own = tmp_path / "sys/fs/cgroup/slice"
    own.mkdir(parents=True)
    (own / "cgroup.subtree_control").write_text("cpu memory pids\n")
    mounts = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
    found = m.groups(mounts, "0::/slice\n", tmp_path)
    assert found.unified_controllers == {"memory", "pids", "cpu"}
    assert m.groups(mounts, "0::/elsewhere\n", tmp_path).controllers == frozenset()
    assert not m.groups("", "").unified


def test_a_bound_that_cannot_be_set_is_broken_and_without_it_only_weaker() -> None:
    nothing = m.Groups(unified=True, unified_controllers=frozenset(), old_controllers=frozenset())
    found = states(m.control_groups(nothing, Demands(memory_bytes=1 << 30)))
    assert found["controller memory"] is State.BROKEN
    assert found["controller pids"] is State.WEAKER
    assert found["control groups"] is State.OK
    apart = states(m.control_groups(nothing, Demands(memory_bytes=1 << 30, cgroup_parent="/pilotage.slice")))
    assert apart["controller memory"] is State.OK


@pytest.mark.parametrize(("cgroup", "state"), [("required", State.BROKEN), ("auto", State.WEAKER)])
def test_no_group_of_version_2_is_judged_by_the_configuration(cgroup: str, state: State) -> None:
    bare = m.Groups(unified=False, unified_controllers=frozenset(), old_controllers=frozenset({"memory"}))
    assert states(m.control_groups(bare, Demands(cgroup=cgroup)))["control groups"] is state


@pytest.mark.parametrize(
    ("bounding", "wanted", "state"),
    [
        (EVERYTHING, "required", State.OK),
        (EVERYTHING, "auto", State.OK),
        (EVERYTHING, "off", State.WEAKER),
        (EVERYTHING & ~(1 << 21), "required", State.BROKEN),
        (EVERYTHING & ~(1 << 21), "auto", State.WEAKER),
    ],
)
def test_namespaces_are_judged_by_the_configuration(bounding: int, wanted: str, state: State) -> None:
    assert m.namespaces(bounding, Demands(namespaces=wanted)).state is state


def test_a_kernel_without_a_namespace_is_named(tmp_path: Path) -> None:
    (tmp_path / "pid").symlink_to("pid:[1]")
    finding = m.namespaces(EVERYTHING, Demands(namespaces="required"), tmp_path)
    assert (finding.state, "mnt, ipc" in finding.found) == (State.BROKEN, True)


def test_what_takes_a_setuid_program_its_privilege_is_named() -> None:
    status = f"NoNewPrivs:\t0\nSeccomp:\t0\nCapBnd:\t{EVERYTHING:016x}\n"
    assert worst(m.privileges(status, IDENTITY)) is State.OK
    assert states(m.privileges(status, "0 1000 1\n"))["user namespace"] is State.BROKEN
    assert states(m.privileges(status.replace("Privs:\t0", "Privs:\t1"), IDENTITY))["no_new_privs"] is State.BROKEN
    assert states(m.privileges(status.replace("comp:\t0", "comp:\t2"), IDENTITY))["seccomp"] is State.WEAKER
    (lacking,) = m.privileges(f"CapBnd:\t{EVERYTHING & ~0xC0:x}\n", IDENTITY)
    assert lacking.state is State.BROKEN
    assert "CAP_SETGID, CAP_SETUID" in lacking.found


def test_accounts_are_looked_for(tmp_path: Path) -> None:
    home = pwd.getpwnam("nobody").pw_dir
    found = states(i.accounts(site(tmp_path)))
    assert found["verify_user"] is State.OK
    assert found["caller daemon"] is (State.OK if Path(home).is_dir() else State.BROKEN)
    callers = (Caller("no-such-caller", "*"), Caller("daemon", "no-such*"))
    found = states(i.accounts(site(tmp_path, verify_user="root", callers=callers)))
    assert found["verify_user"] is State.BROKEN
    assert found["caller no-such-caller"] is State.BROKEN
    assert found["caller daemon"] is State.WEAKER
    assert states(i.accounts(site(tmp_path, callers=())))["callers"] is State.BROKEN


@pytest.mark.parametrize(
    ("lists", "programs", "open_ones"),
    [
        ({}, {"crontab": 0o2755, "at": 0o4755}, ["crontab"]),
        ({"cron.deny": "x\nnobody\n"}, {"crontab": 0o2755}, []),
        ({"cron.deny": "nobod\n", "at.deny": ""}, {"crontab": 0o2755, "at": 0o4755}, ["crontab", "at"]),
        ({"cron.allow": "root\n", "cron.deny": ""}, {"crontab": 0o2755}, []),
        ({"at.allow": "nobody\n"}, {"at": 0o6755}, ["at"]),
        ({}, {"crontab": 0o755}, []),
        ({}, {}, []),
    ],
)
def test_accounts_that_could_leave_jobs_for_later_are_named(
    tmp_path: Path, lists: dict[str, str], programs: dict[str, int], open_ones: list[str]
) -> None:
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    for name, mode in programs.items():
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    found = later.jobs(site(tmp_path, no_new_privs=False), tmp_path, tmp_path)
    assert found.state is (State.WEAKER if open_ones else State.OK)
    assert [word for word in ("crontab", "at") if f"{word} is open to nobody" in found.found] == open_ones
    assert later.jobs(site(tmp_path), tmp_path, tmp_path).state is State.OK


@pytest.mark.parametrize(
    ("bounds", "name", "within"),
    [
        ("demo*", "demo01", True),
        ("demo", "demo01", False),
        ("a, b*", "b", True),
        ("*", "x", True),
        ("de?o", "demo", False),
    ],
)
def test_accounts_are_matched_as_the_helper_matches(bounds: str, name: str, *, within: bool) -> None:
    assert i.matches(bounds, name) is within


def test_authorities_and_the_age_of_their_lists(grid: v.Authority, tmp_path: Path) -> None:
    here = site(tmp_path, ca_dir=grid.ca_dir)
    assert [finding.state for finding in t.authorities(here)] == [State.OK]
    later = datetime.now(UTC) + timedelta(days=3650)
    (finding,) = t.authorities(here, later)
    assert finding.state is State.BROKEN
    for path in grid.ca_dir.glob("*.r0"):
        path.unlink()
    (finding,) = t.authorities(here)
    assert (finding.state, "CRL_MISSING" in finding.means) == (State.BROKEN, True)
    (finding,) = t.authorities(site(tmp_path, ca_dir=grid.ca_dir, require_crl=False))
    assert finding.state is State.WEAKER
    for path in grid.ca_dir.glob("*.signing_policy"):
        path.unlink()
    (finding,) = t.authorities(here)
    assert "SIGNING_POLICY_MISSING" in finding.means
    for path in grid.ca_dir.glob("*.0"):
        path.write_text("no certificate")
    assert worst(t.authorities(here)) is State.BROKEN
    (finding,) = t.authorities(site(tmp_path, ca_dir=tmp_path))
    assert (finding.subject, finding.state) == ("authorities", State.BROKEN)


def test_a_broken_namespaces_file_is_named(grid: v.Authority, tmp_path: Path) -> None:
    here = site(tmp_path, ca_dir=grid.ca_dir)
    grid.write_namespaces('SELF PERMIT Subject "/O=Test Grid/.*"')
    assert [finding.state for finding in t.authorities(here)] == [State.OK]
    grid.write_namespaces('SELF PERMIT Subject "/O=Test Grid/.*"', 'SELF PERMIT Subject "/O=Other/*"')
    path = grid.file(".namespaces")
    (finding,) = t.authorities(here)
    assert finding.state is State.BROKEN
    assert f"{path.name}: line 3" in finding.found
    assert "NAMESPACES_MALFORMED" in finding.means
    path.write_text("#" * 65537)
    (finding,) = t.authorities(here)
    assert "CA_DIRECTORY_UNUSABLE" in finding.means
    path.unlink()
    path.symlink_to("gone.namespaces")
    (finding,) = t.authorities(here)
    assert (finding.state, "CA_DIRECTORY_UNUSABLE" in finding.means) == (State.BROKEN, True)


def test_organisations_are_counted(tmp_path: Path) -> None:
    assert t.organisations(site(tmp_path)).state is State.BROKEN
    (tmp_path / "vomsdir" / "demo").mkdir(parents=True)
    assert t.organisations(site(tmp_path)).state is State.BROKEN
    (tmp_path / "vomsdir" / "demo" / "host.lsc").touch()
    assert t.organisations(site(tmp_path)) == Finding("VOMS", State.OK, "1 organisations: demo")


def test_without_an_installation_it_says_so_and_fails(tmp_path: Path) -> None:
    words = [
        "doctor",
        "--config",
        str(tmp_path / "none"),
        "--program",
        str(tmp_path / "none"),
        "--libexec",
        str(tmp_path),
    ]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 1
    assert f"BROKEN  {tmp_path}/none: No such file or directory\n" in told.output
    assert "HELPER_CONFIG_UNUSABLE" in told.output
    answer = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
    assert answer["state"] == "broken"
    assert {finding["state"] for finding in answer["findings"]} <= {"ok", "weaker", "broken"}


def as_pilot(rig: HelperRig, words: list[str]) -> str:
    """Return what the doctor tells the pilot's account, which cannot read the program that is asked about."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(rig.pilot.pw_gid)
            os.setuid(rig.pilot.pw_uid)
            os.write(writer, CliRunner().invoke(main, words).output.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as told:
        text = told.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.mark.root
def test_an_installation_as_it_should_be_has_nothing_broken(rig: HelperRig) -> None:
    words = [
        "doctor",
        "--config",
        str(rig.config),
        "--program",
        str(rig.program),
        "--libexec",
        str(rig.verifier.parent),
    ]
    # The toy grid has a VOMS server once somebody has asked it for attributes.
    rig.proxy()
    told = CliRunner().invoke(main, [*words, "--json"])
    wrong = [finding for finding in json.loads(told.output)["findings"] if finding["state"] == "broken"]
    assert (wrong, told.exit_code) == ([], 0)
    told_pilot = as_pilot(rig, words)
    assert f"OK      {rig.program}: " in told_pilot
    assert "OK      caller" in told_pilot
    mode = stat.S_IMODE(rig.program.stat().st_mode)
    try:
        rig.program.chmod(0o755)
        assert "mode 0755, not 4711" in CliRunner().invoke(main, words).output
    finally:
        rig.program.chmod(mode)
    sweeper = rig.verifier.with_name("pilotage-sweep")
    try:
        os.chown(sweeper, 1, 1)
        assert f"BROKEN  {sweeper}: not root's\n" in CliRunner().invoke(main, words).output
    finally:
        os.chown(sweeper, 0, 0)
        sweeper.chmod(0o755)
    try:
        rig.keeper.chmod(0o755)
        assert f"BROKEN  {rig.keeper}: mode 0755, not 0700\n" in CliRunner().invoke(main, words).output
    finally:
        rig.keeper.chmod(0o700)
    with rig.configured(change=lambda text: text.replace("[map]", "[map]\nfrobnicate = 1")):
        assert "BROKEN  configuration: " in CliRunner().invoke(main, words).output


@pytest.fixture
def openssl(tmp_path: Path) -> Path:
    """A libexec folder, and a program that says what openssl(1) would."""
    for name, lines in (
        ("pilotage-verify", ["OpenSSL 3.0.19 27 Jan 2026", "built on: Fri Apr  3 12:29:32 2026 UTC"]),
        (
            "same",
            [
                "OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)",
                "built on: Fri Apr  3 12:29:32 2026 UTC",
            ],
        ),
        (
            "mended",
            [
                "OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)",
                "built on: Mon Jun  1 08:00:00 2026 UTC",
            ],
        ),
        (
            "newer",
            [
                "OpenSSL 3.0.20 1 Jun 2026 (Library: OpenSSL 3.0.20 1 Jun 2026)",
                "built on: Fri Apr  3 12:29:32 2026 UTC",
            ],
        ),
    ):
        words = " ".join(f"'{line}'" for line in lines)
        (tmp_path / name).write_text(f"#!/bin/sh\nprintf '%s\\n' {words}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("machine", "state", "word"),
    [
        ("same", State.OK, "the machine's own"),
        ("mended", State.WEAKER, "build and install the helper anew"),
        ("newer", State.WEAKER, "the machine has OpenSSL 3.0.20"),
        ("missing", State.WEAKER, "cannot be compared"),
    ],
)
def test_a_fix_of_openssl_that_is_not_in_the_verifier_is_told(
    openssl: Path, machine: str, state: State, word: str
) -> None:
    (finding,) = i.cryptography(openssl, str(openssl / machine))
    assert finding.state is state
    assert word in finding.found + finding.means


@pytest.mark.root
def test_the_installed_verifier_holds_the_machines_openssl(rig: HelperRig) -> None:
    (finding,) = i.cryptography(rig.verifier.parent)
    assert finding.state is State.OK, finding
