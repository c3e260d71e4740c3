"""The verifier gives every vector of the set exactly the answer that the set wants."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilotage.errors import VerifyError
from pilotage_helper import VerifyOptions, verify_pem
from vectors.make import Vector, make, read

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("vectors")
    make(place)
    return place


def options(folder: Path, row: Vector) -> VerifyOptions:
    trust = folder / "trust" / row.trust
    has_key = b"PRIVATE KEY" in (folder / row.file).read_bytes()
    return VerifyOptions(trust / "certificates", trust / "vomsdir", require_key=has_key)


def answer(folder: Path, row: Vector) -> str:
    """Return the reason, or nothing when the chain is accepted."""
    try:
        verify_pem((folder / row.file).read_bytes(), options(folder, row), row.time)
    except VerifyError as error:
        return error.reason.name
    return ""


def test_every_vector_gets_exactly_its_answer(folder: Path) -> None:
    rows = list(read(folder))
    assert {row.name: answer(folder, row) for row in rows} == {row.name: row.reason for row in rows}
    assert len({row.name for row in rows}) == len(rows) >= 60
    good = [row for row in rows if not row.reason]
    assert len(good) >= 15
    assert len({row.reason for row in rows}) >= 40


def test_a_vector_that_is_good_is_refused_when_any_of_its_signed_bytes_is_not(folder: Path) -> None:
    """An answer that never changed would be no answer."""
    for row in read(folder):
        if row.reason:
            continue
        lines = (folder / row.file).read_bytes().splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if b"BEGIN CERTIFICATE" in line) + 6
        swapped = lines[at].swapcase()
        assert swapped != lines[at]
        spoiled = b"".join([*lines[:at], swapped, *lines[at + 1 :]])
        with pytest.raises(VerifyError):
            verify_pem(spoiled, options(folder, row), row.time)


def test_the_script_makes_the_set_for_anybody(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "vectors" / "make.py"), str(tmp_path / "set")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    assert f"{len(list(read(tmp_path / 'set')))} vectors" in done.stdout
    assert subprocess.run(command, env=environment, capture_output=True, timeout=600, check=False).returncode != 0
