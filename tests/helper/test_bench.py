"""The benchmark of the helper runs through and removes what it made."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.root


def leftovers(pid: int) -> list[str]:
    """Return the accounts, rules and folders of the benchmark with this process id."""
    accounts = [entry.pw_name for entry in pwd.getpwall() if entry.pw_name.startswith(f"pgt{pid}-")]
    rules = [f"/etc/sudoers.d/pilotage-bench-{pid}", f"/opt/pilotage-rig-{pid}"]
    return accounts + [path for path in rules if Path(path).exists()]


def test_the_benchmark_runs_every_way_to_true_and_leaves_nothing() -> None:
    if os.statvfs("/opt").f_flag & os.ST_NOSUID or shutil.which("useradd") is None:
        pytest.skip("needs useradd and a file system without nosuid at /opt")
    words = [str(ROOT / "bench" / "helper"), "--rounds", "2", "--quick"]
    environment = {**os.environ, "PYTHON": sys.executable}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("2 rounds, nice 0, load ")
    for name in ("fork+exec", "sudo", "bwrap", "pilotage-exec run"):
        assert any(line.startswith(name) for line in lines), out
    assert any(line.startswith("goal: pilotage-exec run <= 2.0 x sudo: ") for line in lines), out
    # The shell has become Python by exec, so the names carry its process id.
    assert leftovers(process.pid) == []
