"""The benchmark of the credential service runs through, against the real myproxy-server, and leaves nothing."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.root, pytest.mark.interop]


def test_the_benchmark_tells_every_goal_and_leaves_nothing() -> None:
    words = [str(ROOT / "bench" / "credentials"), "--quick"]
    environment = os.environ | {"PYTHON": sys.executable}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    goals = [line for line in out.splitlines() if line.startswith("goal: ")]
    assert len(goals) == 5, out
    assert all("met" in line or "missed" in line for line in goals), out
    for way in (
        "retrieve, kept channel",
        "connect, log in, retrieve",
        "retrieve, 8 channels at once",
        "connect, ..., 8 at once",
        "delegate, keys ready",
        "ask for one",
        "myproxy GET",
        "myproxy GET, 8 at once",
    ):
        assert any(line.startswith(f"rate: {way}: ") for line in out.splitlines()), out
    assert "no goal: retrieve, kept channel is " in out
    assert "MiB of memory" in out
    # The shell has become Python by exec, so the folder's name carries its process id.
    mine = f"pilotage-bench-{process.pid}-"
    assert list(Path(tempfile.gettempdir()).glob(f"{mine}*")) == []
    assert [one.pid for one in psutil.process_iter(["cmdline"]) if mine in " ".join(one.info["cmdline"] or ())] == []
