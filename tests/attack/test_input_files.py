"""Files that a caller names or could have changed (checklist C)."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import PILOT, SECOND_PILOT, HelperRig
from support.pace import at_once

pytestmark = pytest.mark.root


def refused(rig: HelperRig, path: Path) -> str:
    """Run with this proxy; it must be refused at once, as the caller's mistake. The message."""
    done = at_once(lambda: rig.run("/usr/bin/id", proxy=path))
    assert (done.code, done.reason, done.out) == (201, "PROXY_FILE_UNUSABLE", "")
    return str(done.status[0]["message"]).replace(str(path), "FILE")


def test_a_file_of_root_is_not_opened_and_says_no_more_than_a_missing_one(rig: HelperRig) -> None:
    assert refused(rig, Path("/etc/shadow")) == refused(rig, Path("/etc/no-such-file"))
    assert refused(rig, Path("/root/.ssh/x")) == refused(rig, Path("/etc/no-such-file"))


@pytest.fixture
def folder(rig: HelperRig) -> Iterator[Path]:
    """A folder of the pilot's."""
    made = rig.prefix / "nodes"
    made.mkdir()
    os.chown(made, rig.pilot.pw_uid, rig.pilot.pw_gid)
    yield made
    shutil.rmtree(made)


def test_hostile_kinds_of_node_are_refused_at_once(rig: HelperRig, folder: Path) -> None:
    good = folder / "good"
    shutil.copy(rig.proxy(), good)
    rig.give(good)
    (folder / "symlink").symlink_to(good)
    os.link(good, folder / "hardlink")
    refused(rig, folder / "symlink")
    refused(rig, folder / "hardlink")
    refused(rig, good)
    (folder / "hardlink").unlink()
    os.mkfifo(folder / "fifo", 0o600)
    os.mknod(folder / "zero", 0o600 | 0o020000, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
    (folder / "empty").touch()
    with (folder / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
    (folder / "large").write_bytes(b"x" * (256 * 1024 + 1))
    for name in ("fifo", "zero", "socket", "empty", "sparse", "large"):
        rig.give(folder / name)
        refused(rig, folder / name)
    refused(rig, folder)
    assert rig.run("/usr/bin/id", proxy=good).code == 0


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_rights_of_others_are_refused(rig: HelperRig, folder: Path, mode: int) -> None:
    path = folder / "proxy"
    shutil.copy(rig.proxy(), path)
    rig.give(path, mode)
    assert "rights" in refused(rig, path)


def test_a_file_of_another_account_is_refused(rig: HelperRig, folder: Path) -> None:
    path = folder / "proxy"
    shutil.copy(rig.proxy(), path)
    path.chmod(0o644)
    assert "own" in refused(rig, path)


def test_an_access_list_is_rights_of_others(rig: HelperRig, folder: Path) -> None:
    path = folder / "proxy"
    shutil.copy(rig.proxy(), path)
    rig.give(path)
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    granted = subprocess.run(["setfacl", "-m", f"u:{SECOND_PILOT}:r", str(path)], check=False, capture_output=True)
    if granted.returncode:
        pytest.skip("this file system has no access lists")
    refused(rig, path)


@contextlib.contextmanager
def spoiled(rig: HelperRig, how: str) -> Iterator[None]:
    """Make the configuration one that others could have changed."""
    kept = rig.etc / "kept.conf"
    rig.config.rename(kept)
    try:
        if how != "missing" and how != "symlink" and how != "fifo":
            shutil.copy(kept, rig.config)
        if how == "pilot's":
            rig.give(rig.config)
        elif how == "group-writable":
            rig.config.chmod(0o664)
        elif how == "writable":
            rig.config.chmod(0o646)
        elif how == "symlink":
            rig.config.symlink_to(kept)
        elif how == "fifo":
            os.mkfifo(rig.config, 0o600)
        elif how == "writable folder":
            rig.etc.chmod(0o777)
        elif how == "sticky folder":
            rig.etc.chmod(0o1777)
        elif how == "pilot's folder":
            os.chown(rig.etc, rig.pilot.pw_uid, 0)
        elif how == "large":
            rig.config.write_text("#" * 70_000)
        yield
    finally:
        rig.etc.chmod(0o755)
        os.chown(rig.etc, 0, 0)
        rig.config.unlink(missing_ok=True)
        kept.rename(rig.config)


@pytest.mark.parametrize(
    "how",
    [
        *("missing", "symlink", "fifo", "pilot's", "group-writable", "writable", "large"),
        *("writable folder", "sticky folder", "pilot's folder"),
    ],
)
def test_a_configuration_that_others_could_change_is_refused(rig: HelperRig, how: str) -> None:
    with spoiled(rig, how):
        done = at_once(lambda: rig.run("/usr/bin/id"))
    assert (done.code, done.reason) == (202, "HELPER_CONFIG_UNUSABLE")


@pytest.mark.parametrize(
    "line",
    [
        "unknown = 1",
        "min_uid = 2000",
        "cgroup = maybe",
        "term_grace_seconds = -1",
        "term_grace_seconds = 99999999999999999999",
        "term_grace_seconds = 1x",
        "no equals sign",
        "[unknown]",
        "[helper]",
        "[caller ]",
        f"[caller {PILOT}]",
        "[caller x]",
    ],
)
def test_a_configuration_with_an_error_is_refused_whole(rig: HelperRig, line: str) -> None:
    with rig.configured(line):
        done = rig.run("/usr/bin/id")
        checked = rig.start(["check-config"])
        assert checked.communicate(timeout=120)[0] == b""
    assert (done.code, done.reason) == (202, "HELPER_CONFIG_INVALID")
    assert checked.returncode == 202


@pytest.mark.parametrize("name", ["grid-mapfile", "gridmapdir"])
def test_map_files_that_others_could_change_are_refused(rig: HelperRig, name: str) -> None:
    path = rig.etc / name
    mode = path.stat().st_mode
    path.chmod(mode | 0o020)
    try:
        done = rig.run("/usr/bin/id")
    finally:
        path.chmod(mode)
    assert done.reason == ("MAP_FILE_UNUSABLE" if name == "grid-mapfile" else "POOL_UNUSABLE")


def test_a_ban_file_that_is_missing_refuses_everybody(rig: HelperRig) -> None:
    bans = rig.etc / "ban-mapfile"
    with rig.configured(mapping=f"ban_file = {bans}"):
        assert rig.run("/usr/bin/id").reason == "MAP_FILE_UNUSABLE"
        bans.write_text(f'"{rig.owners[0].dn}"\n')
        done = rig.run("/usr/bin/id")
        assert (done.code, done.reason) == (203, "OWNER_BANNED")
        assert rig.run("/usr/bin/id", proxy=rig.proxy(1)).code == 0
    bans.unlink()


def test_a_proxy_that_does_not_verify_has_its_own_reason(rig: HelperRig) -> None:
    broken = rig.prefix / "proxies" / "broken.pem"
    broken.write_bytes(rig.proxy().read_bytes().replace(b"M", b"N", 3))
    done = rig.run("/usr/bin/id", proxy=rig.give(broken))
    assert done.code == 203
    assert 200 <= int(str(done.status[0]["number"])) < 400
    bare = rig.prefix / "proxies" / "bare.pem"
    bare.write_bytes(rig.owners[0].cert_path.read_bytes() + rig.owners[0].key_path.read_bytes())
    assert rig.run("/usr/bin/id", proxy=rig.give(bare)).reason == "NOT_A_PROXY"
    assert rig.run("/usr/bin/id", proxy=rig.plain_proxy(rig.owners[0], "plain.pem")).reason == "CALLER_VO_BOUNDS"
