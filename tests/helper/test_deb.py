"""The Debian package of the helper: built, installed, used, removed and purged."""

import json
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import PILOT, POOL, ROOT, HelperRig

pytestmark = [pytest.mark.root]

EXEC = Path("/usr/sbin/pilotage-exec")
CONFIG = Path("/etc/pilotage/helper.conf")
STATE = [Path("/run/pilotage"), Path("/var/log/pilotage"), Path("/etc/pilotage")]


def run(*command: str | Path, code: int = 0) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "LC_ALL": "C"}
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def has_account() -> bool:
    return any(entry.pw_name == "pilotage-verify" for entry in pwd.getpwall())


@pytest.fixture(scope="module")
def package() -> Path:
    """Made by the target itself, so that it is the one that sites get."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it installs a Debian package")
    for program in ("dpkg", "dpkg-deb", "cpack"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    return ROOT / run("make", "--no-print-directory", "deb-helper").split()[-1]


@pytest.fixture
def installed(package: Path) -> Iterator[Path]:
    if EXEC.exists() or has_account() or any(path.exists() for path in STATE):
        pytest.skip("a helper is installed on this machine, which the test must not disturb")
    try:
        run("dpkg", "--install", package)
        yield package
    finally:
        subprocess.run(["dpkg", "--purge", "pilotage-helper"], capture_output=True, check=False)
        shutil.rmtree(CONFIG.parent, ignore_errors=True)


def test_the_package_holds_the_helper_and_nothing_that_is_active(package: Path) -> None:
    listing = {line.split()[-1]: line for line in run("dpkg-deb", "--contents", package).splitlines()}
    assert listing["./usr/sbin/pilotage-exec"].startswith("-rws--x--x root/root")
    setuid = [name for name, line in listing.items() if "s" in line.split()[0]]
    assert setuid == ["./usr/sbin/pilotage-exec"]
    assert listing["./usr/libexec/pilotage/pilotage-keep"].startswith("-rwx------ root/root")
    assert listing["./usr/libexec/pilotage/pilotage-logonly"].startswith("-rwx--x--x root/root")
    assert all(line.split()[1] == "root/root" for line in listing.values())
    for name in (
        "libexec/pilotage/pilotage-verify",
        "libexec/pilotage/pilotage-map",
        "libexec/pilotage/pilotage-sweep",
        "libexec/pilotage/pilotage-control",
        "libexec/pilotage/pilotage-wrapper.py",
        "sbin/glexec",
        "share/man/man1/glexec.1",
        "share/man/man5/pilotage-exec.conf.5",
        "share/man/man8/pilotage-exec.8",
        "share/doc/pilotage-helper/helper.conf",
    ):
        assert f"./usr/{name}" in listing
    assert "./etc/pilotage/helper.conf" not in listing
    conffiles = run("dpkg-deb", "--info", package, "conffiles").split()
    assert sorted(conffiles) == sorted(
        name[1:] for name in listing if name.startswith("./etc/") and not name.endswith("/")
    )


def test_a_payload_runs_by_the_packages_programs_and_nothing_of_it_outlives_the_package(
    installed: Path, rig: HelperRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = STATE[1] / "helper.jsonl"
    CONFIG.write_text(
        f"[helper]\nca_dir = {rig.prefix}/grid/certificates\nvoms_dir = {rig.prefix}/grid/vomsdir\n"
        f"verify_user = pilotage-verify\naudit_file = {log}\nsyslog = no\n\n[map]\n"
        f"grid_mapfile = {rig.etc}/grid-mapfile\ngridmapdir = {rig.gridmapdir}\n\n"
        f"[caller {PILOT}]\nvos = demo\naccounts = {POOL}*\n"
    )
    monkeypatch.setattr(rig, "program", EXEC)
    monkeypatch.setattr(rig, "rundir", STATE[0])
    monkeypatch.setattr(rig, "log", log)
    done = rig.run("/usr/bin/id", "-un")
    assert (done.code, done.err, done.out.strip() in rig.pools) == (0, "", True)
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()] == ["START", "END"]
    living = rig.start(["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/sleep", "60"])
    assert rig.wait(lambda: len(list((STATE[0] / "jobs").glob("*/control"))) == 1)
    (name,) = [path.name for path in (STATE[0] / "jobs").iterdir()]
    assert rig.wait(lambda: len(rig.processes()) > 0)
    assert rig.start(["signal", name, "TERM"]).wait(60) == 0
    assert living.wait(60) == 128 + 15
    assert (rig.processes(), rig.left()) == ([], [])
    run("dpkg", "--purge", "pilotage-helper")
    assert not [path for path in (*STATE[:2], EXEC, Path("/usr/libexec/pilotage")) if path.exists()]
    assert not has_account()


def test_an_installed_package_works_and_purges_cleanly(installed: Path) -> None:
    told = EXEC.stat()
    assert (stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid) == (0o4711, 0, 0)
    version = run("dpkg-deb", "--field", installed, "Version").strip()
    assert version in run(EXEC, "--version")
    account = pwd.getpwnam("pilotage-verify")
    assert account.pw_shell == "/usr/sbin/nologin"
    assert stat.S_IMODE(STATE[0].stat().st_mode) == 0o700
    # Without a configuration everybody is refused; the example is sound where its files are.
    run(EXEC, "check-config", code=202)
    example = Path("/usr/share/doc/pilotage-helper/helper.conf").read_text()
    maps = Path("/etc/pilotage/grid-mapfile")
    maps.write_text('"/demo/Role=analysis" .demo\n')
    CONFIG.write_text(re.sub("(?m)^grid_mapfile = .*", f"grid_mapfile = {maps}", example))
    run(EXEC, "check-config")
    run("dpkg", "--remove", "pilotage-helper")
    assert not EXEC.exists()
    assert has_account(), "a removed package keeps what its logs speak of"
    CONFIG.unlink()
    maps.unlink()
    run("dpkg", "--purge", "pilotage-helper")
    assert not has_account()
    left = [
        path
        for path in [*STATE, Path("/etc/logrotate.d/pilotage-helper"), Path("/usr/libexec/pilotage")]
        if path.exists()
    ]
    assert left == []
