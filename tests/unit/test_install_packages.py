"""deploy/install-packages asks a package server again that has failed, and gives up in the end."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.root
# Nothing is installed or waited for: these stand before the real ones.
APT = """#!/bin/sh
echo "$@" >>{calls}
case "$*" in *update) [ "$(grep -c 'update$' {calls})" -gt {failures} ] || {{ echo "no network"; exit 100; }};; esac
"""


def install(folder: Path, failures: int) -> tuple[subprocess.CompletedProcess[str], list[str], list[str]]:
    """Run a copy of the script that wants one package; return what apt-get and sleep were told."""
    tools, deploy = folder / "tools", folder / "deploy"
    tools.mkdir()
    deploy.mkdir()
    shutil.copy(ROOT / "deploy" / "install-packages", deploy)
    (deploy / "packages.txt").write_text("pilotage-no-such-package\n")
    calls, slept = folder / "calls", folder / "slept"
    slept.touch()
    (tools / "apt-get").write_text(APT.format(calls=calls, failures=failures))
    (tools / "sleep").write_text(f'#!/bin/sh\necho "$@" >>{slept}\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    # It says there for a while that no server is to be started: not on this machine.
    private = ["unshare", "--mount", "/bin/sh", "-c", 'mount -t tmpfs tmpfs /usr/sbin && exec "$0"']
    if subprocess.run([*private, "/bin/true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount over a directory")
    words = [*private, str(deploy / "install-packages")]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    return done, calls.read_text().splitlines(), slept.read_text().split()


def test_a_server_that_answers_is_asked_once(tmp_path: Path) -> None:
    done, calls, slept = install(tmp_path, 0)
    assert (done.returncode, done.stderr, slept) == (0, "", [])
    assert [call.split()[-1] for call in calls] == ["update", "pilotage-no-such-package"]


def test_a_server_that_fails_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    done, calls, slept = install(tmp_path, 2)
    assert (done.returncode, done.stderr, slept) == (0, "", ["15", "30"])
    assert [call.split()[-1] for call in calls] == ["update"] * 3 + ["pilotage-no-such-package"]


def test_a_server_that_never_answers_is_given_up_with_its_words(tmp_path: Path) -> None:
    done, calls, slept = install(tmp_path, 100)
    assert (done.returncode, done.stderr) == (1, "no network\n")
    assert (len(calls), slept) == (4, ["15", "30", "45"])
