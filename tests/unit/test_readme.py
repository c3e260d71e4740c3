"""The README tells people only what exists: each command, option, target and page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pilotage.cli.commands import cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (pilotage .+)$", README, re.MULTILINE)


def test_the_readme_shows_a_first_job_in_five_commands() -> None:
    assert [command.split()[1] for command in COMMANDS] == ["submit", "wait", "show", "logs", "fetch"]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_and_option_exists(command: str) -> None:
    words = command.partition(" -- ")[0].split()
    result = CliRunner().invoke(cli, [words[1], "--help"])
    assert result.exit_code == 0, result.output
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", result.output), f"{words[1]} has no {option}"


def test_each_make_target_exists() -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[0] for line in listed.splitlines()}
    assert set(re.findall(r"make ([a-z][a-z-]*)", README)) - {"git"} <= targets


def test_each_page_exists() -> None:
    for page in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in page:
            assert (ROOT / page).exists(), page


@pytest.mark.parametrize("name", ["pilotage", "pilotage-server", "pilotage-pilot", "pilotage-helper"])
def test_every_installed_program_says_its_version(name: str) -> None:
    program = Path(sys.executable).with_name(name)
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
    assert re.search(rf"{name}\b.* \d+\.\d+", done.stdout)


def test_the_installed_command_answers() -> None:
    program = Path(sys.executable).with_name("pilotage")
    done = subprocess.run([str(program), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "submit" in done.stdout
