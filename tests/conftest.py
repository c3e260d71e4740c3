"""What every test may stand on: the rule for tests that need root, and one installed stage."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from support import forks as forks
from support.helper_rig import rig as rig

ROOT = Path(__file__).resolve().parent.parent
# Another checkout's tests on the same machine need a stage of their own.
STAGE = Path(os.environ.get("PILOTAGE_TEST_STAGE", "/opt/pilotage-test"))

# How long one example takes, and how long it takes to make one, says something of the machine and nothing of us.
hypothesis.settings.register_profile(
    "pilotage",
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("pilotage")


def pytest_configure() -> None:
    """Let Ctrl-C mean what it means at a terminal: a shell starts background jobs with SIGINT ignored, for good."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need root when there is none, and say so."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root: it makes accounts or runs the installed setuid helper")


@pytest.fixture(autouse=True)
def logs_of_one_test_only() -> Iterator[None]:
    """Forget how a test set up the logs: the stream it gave them is closed with it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def stage() -> Path:
    """Install this checkout once under a root-owned prefix that every account can read.

    The checkout itself may lie where other accounts cannot go, so whatever runs as one of them
    runs from here: `venv/bin/...`, `sbin/pilotage-exec`, `libexec/pilotage/...`.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root: the stage holds a setuid program")
    done = subprocess.run(
        [str(ROOT / "deploy" / "stage"), "--prefix", str(STAGE)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"deploy/stage failed:\n{done.stdout}{done.stderr}", pytrace=False)
    return STAGE
