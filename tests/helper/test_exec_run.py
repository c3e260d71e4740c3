"""A payload runs as its owner's account, and nothing of it is left."""

import pwd
import re
import subprocess
from pathlib import Path

import pytest

from support.helper_rig import HelperRig

pytestmark = pytest.mark.root


def test_a_payload_runs_as_the_mapped_account(rig: HelperRig) -> None:
    done = rig.run("/usr/bin/id", options=["--job-id", "job 1"])
    assert (done.code, done.err) == (0, "")
    start = done.line("start")
    entry = pwd.getpwnam(str(start["account"]))
    assert done.out.startswith(f"uid={entry.pw_uid}({entry.pw_name}) gid={entry.pw_gid}")
    assert start["dn"] == rig.owners[0].dn
    assert start["fqan"] == "/demo/Role=analysis"
    end = done.line("end")
    assert (end["exit_code"], end["signal"], end["reason"]) == (0, 0, "")
    assert (end["left_processes"], end["left_files"]) == (0, 0)
    assert rig.left() == []


def test_a_machine_that_lets_no_memory_file_be_executed_is_a_machine_like_others(rig: HelperRig) -> None:
    """With vm.memfd_noexec each memory file has one seal more. The setting is a PID namespace's own."""
    knob = Path("/proc/sys/vm/memfd_noexec")
    if not knob.exists():
        pytest.skip("this kernel does not have vm.memfd_noexec")
    ids = f"--reuid={rig.pilot.pw_uid} --regid={rig.pilot.pw_gid} --clear-groups"
    script = f'echo 1 > {knob} || exit 99; exec setpriv {ids} -- "$@"'
    words = [str(rig.program), "run", "--proxy", str(rig.proxy()), "--", "/usr/bin/id", "-un"]
    before = knob.read_text()
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "/bin/sh", "-c", script, "sh", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert knob.read_text() == before
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in rig.pools
    assert rig.left() == []


def test_a_good_configuration_is_found_good_and_nothing_is_started(rig: HelperRig) -> None:
    log, leases = rig.audit(), facts(rig)
    checked = rig.start(["check-config"])
    out, err = checked.communicate(timeout=120)
    assert (checked.returncode, out, err) == (0, f"{rig.config}: ok\n".encode(), b"")
    assert (rig.audit(), facts(rig), rig.processes(), rig.left()) == (log, leases, [], [])


def test_the_configuration_is_checked_with_the_callers_rights_alone(rig: HelperRig) -> None:
    """A file that only root may read is the helper's to use, and not to speak of to whoever asks."""
    rig.config.write_text(rig.config.read_text().replace("[helper]", "[helper]\nsecret_key = 1"))
    rig.config.chmod(0o600)
    try:
        checked = rig.start(["check-config"])
        out, err = checked.communicate(timeout=120)
        refused = rig.run("/usr/bin/id")
    finally:
        rig.configure()
    assert (checked.returncode, out) == (202, b"")
    assert b"HELPER_CONFIG_UNUSABLE (505)" in err
    assert b"Permission denied" in err
    assert (refused.code, refused.reason) == (202, "HELPER_CONFIG_INVALID")
    rig.config.chmod(0o600)
    try:
        assert rig.run("/usr/bin/true").code == 0
    finally:
        rig.config.chmod(0o644)


def facts(rig: HelperRig) -> dict[str, tuple[int, int, float]]:
    """Every name in the gridmapdir with what shows a lease."""
    found = {path.name: path.stat() for path in rig.gridmapdir.iterdir()}
    return {name: (stat.st_ino, stat.st_nlink, stat.st_mtime) for name, stat in found.items()}


def test_the_version_is_told_in_one_line(rig: HelperRig) -> None:
    asked = rig.start(["--version"])
    out, err = asked.communicate(timeout=120)
    assert (asked.returncode, err) == (0, b"")
    assert re.fullmatch(rb"pilotage-exec \d+\.\d+\.\d+\n", out)
