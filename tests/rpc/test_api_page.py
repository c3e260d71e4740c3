"""docs/api.md: what it shows works as it stands, the last with nothing but stubs made from the protos."""

import os
import re
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pilotage.client import Client
from pilotage.x509.files import load_identity
from support.server_rig import Rig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
BLOCKS = map(textwrap.dedent, re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", PAGE, re.MULTILINE))
SDK, AIO, PROTOC, RAW = (block.strip() + "\n" for block in BLOCKS)


def run(text: str, folder: Path, environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script as somebody would who has pasted it."""
    path = folder / "script.py"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, *(("-P",) if "PYTHONPATH" in environ else ()), str(path), *words],
        env={"PATH": os.environ["PATH"], **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(("text", "jobs"), [(SDK, 1), (AIO, 3)], ids=["sync", "asyncio"])
def test_a_script_with_the_sdk_submits_and_waits(
    text: str, jobs: int, rig: Rig, alice_proxy: Path, tmp_path: Path
) -> None:
    environ = {
        "HOME": str(tmp_path),
        "X509_USER_PROXY": str(alice_proxy),
        "X509_CERT_DIR": str(rig.grid.ca_dir),
        "PILOTAGE_SERVER": rig.target,
    }

    def cancel() -> None:
        """End the jobs that the script waits for; no pilot does."""
        with Client(rig.target, ca_dir=rig.grid.ca_dir, identity=load_identity(alice_proxy)) as client:
            deadline = time.monotonic() + 60
            while len(found := [job.job_id for job in client.list()]) < jobs and time.monotonic() < deadline:
                time.sleep(0.1)
            client.cancel(found)

    with ThreadPoolExecutor() as pool:
        cancelled = pool.submit(cancel)
        done = run(text, tmp_path, environ)
        cancelled.result()
    assert done.stdout.count("cancelled") == jobs


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "protos").symlink_to(ROOT / "protos")
    (folder / "stubs").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", PROTOC], cwd=folder, env={"PATH": path}, check=True)
    return folder / "stubs"


def test_the_protos_alone_are_enough_for_a_pilot(stubs: Path, rig: Rig, pilot_proxy: Path, tmp_path: Path) -> None:
    checked = f"import pilotage.v1\nassert pilotage.v1.__path__[0].startswith({str(stubs)!r})\n"
    done = run(checked + RAW, tmp_path, {"PYTHONPATH": str(stubs)}, rig.target, str(rig.grid.ca_dir), str(pilot_proxy))
    first, second = done.stdout.splitlines()
    assert first.endswith("/demo/Role=pilot /demo")
    assert second.startswith("pilot ")


def test_a_refusal_is_told_there_as_everywhere(stubs: Path, rig: Rig, alice_proxy: Path, tmp_path: Path) -> None:
    done = run(RAW, tmp_path, {"PYTHONPATH": str(stubs)}, rig.target, str(rig.grid.ca_dir), str(alice_proxy))
    assert "PERMISSION_DENIED" in done.stdout.splitlines()[1]
    assert "does not have the role pilot" in done.stdout
