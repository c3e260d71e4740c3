"""The demo's payload is a real analysis of committed data, and nothing but the standard library."""

import csv
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ANALYSIS = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "analysis"


def analyse(folder: Path, *options: str) -> str:
    """Run the payload as the wrapper would, without site packages; return what it prints."""
    command = [sys.executable, "-I", "-S", str(ANALYSIS / "analyse.py"), str(ANALYSIS / "events.csv"), *options]
    environ = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nowhere"}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_the_committed_events_are_what_the_committed_program_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ANALYSIS / "make_events.py"), str(tmp_path / "events.csv")], check=True)
    assert (tmp_path / "events.csv").read_bytes() == (ANALYSIS / "events.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "mass"),
    [(("--range", "60", "120", "--bins", "60"), 91.19), (("--range", "2", "4", "--bins", "40"), 3.097)],
)
def test_the_histogram_peaks_where_the_particle_is(tmp_path: Path, options: tuple[str, ...], mass: float) -> None:
    said = analyse(tmp_path, *options)
    with (tmp_path / "histogram.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: int(row["opposite_charge"]))
    assert float(best["low_gev"]) - 1 <= mass <= float(best["high_gev"]) + 1
    assert "events: 4000" in said
    assert "dn: none" in said


def test_the_picture_is_well_formed(tmp_path: Path) -> None:
    analyse(tmp_path, "--log")
    root = ET.parse(tmp_path / "histogram.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root) > 30
