"""A stage is made of the sources alone, in a place that nobody but root can change."""

import importlib.machinery
import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

STAGE = Path(__file__).resolve().parents[2] / "deploy" / "stage"


@pytest.fixture
def stage_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load deploy/stage as a module whose checkout is a folder of this test."""
    loader = importlib.machinery.SourceFileLoader("stage_program", str(STAGE))
    spec = importlib.util.spec_from_loader("stage_program", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "sdk").mkdir()
    (tmp_path / "sdk" / "a.py").write_text("a = 1\n")
    return module


def test_what_a_build_leaves_behind_does_not_change_the_digest(stage_program: ModuleType, tmp_path: Path) -> None:
    before = stage_program.digest("sdk")
    (tmp_path / "sdk" / "__pycache__").mkdir()
    (tmp_path / "sdk" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (tmp_path / "sdk" / "job_pb2.py").write_text("x = 1\n")
    (tmp_path / "sdk" / "native.so").write_bytes(b"x")
    assert stage_program.digest("sdk") == before


def test_a_changed_a_new_and_a_renamed_source_change_the_digest(stage_program: ModuleType, tmp_path: Path) -> None:
    seen = {stage_program.digest("sdk")}
    (tmp_path / "sdk" / "a.py").write_text("a = 2\n")
    seen.add(stage_program.digest("sdk"))
    (tmp_path / "sdk" / "b.py").write_text("")
    seen.add(stage_program.digest("sdk"))
    (tmp_path / "sdk" / "b.py").rename(tmp_path / "sdk" / "c.py")
    seen.add(stage_program.digest("sdk"))
    assert len(seen) == 4


@pytest.mark.parametrize("prefix", ["relative", "/opt", "/opt/../etc/pilotage"])
def test_a_prefix_that_is_not_plain_is_refused(prefix: str) -> None:
    done = subprocess.run([str(STAGE), "--prefix", prefix], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "plain absolute path" in done.stderr or "needs root" in done.stderr


@pytest.mark.root
def test_a_prefix_that_others_could_change_is_refused(stage_program: ModuleType, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    with pytest.raises(stage_program.StageError, match="can be changed by others"):
        stage_program.Stage(loose / "prefix").make()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    os.chown(foreign, 12345, 12345)
    with pytest.raises(stage_program.StageError, match="can be changed by others"):
        stage_program.Stage(foreign / "prefix").make()
