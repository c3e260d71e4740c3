"""The manual pages of the helper: well formed, and complete."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pilotage_helper.cli import main
from support.helper_rig import ROOT

MAN = ROOT / "helper_c" / "man"
EXEC = ROOT / "helper_c" / "src" / "exec"
PAGES = sorted(page for page in MAN.iterdir() if page.suffix in {".1", ".5", ".8"})


def plain(page: Path) -> str:
    return page.read_text().replace("\\-", "-").replace("Fl -", "--")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_well_formed(page: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("needs mandoc: see deploy/packages.txt")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_key_of_the_configuration_is_explained() -> None:
    tables = [ROOT / "helper_c" / "src" / "keep" / "config.c", ROOT / "helper_c" / "src" / "map" / "config.c"]
    keys = {key for table in tables for key in re.findall(r'\{ "(\w+)", PIL_', table.read_text())}
    keys |= set(re.findall(r'strcmp\(name, "(\w+)"\)', tables[0].read_text()))
    assert {"ca_dir", "tmp_bytes", "grid_mapfile", "accounts"} <= keys
    items = re.findall(r"^\.It Ic (.*)$", (MAN / "pilotage-exec.conf.5").read_text(), flags=re.MULTILINE)
    explained = {key for item in items for key in item.split(" , ")}
    assert explained == keys


def test_every_verb_and_option_is_explained() -> None:
    source = (EXEC / "options.c").read_text()
    options = set(re.findall(r'strcmp\(name, "(--[\w-]+)"\)', source))
    verbs = set(re.findall(r'\{ "([\w-]+)", VERB_', source))
    assert {"--proxy", "--status-fd"} <= options
    assert {"run", "map", "--version"} <= verbs
    items = re.findall(r"^\.It (?:Cm )?([\w-]+)", plain(MAN / "pilotage-exec.8"), flags=re.MULTILINE)
    assert options | verbs <= set(items)


def options_of(command: click.Command, name: str = "") -> Iterator[tuple[str, str]]:
    """Every command's full name with every option that it has, and once without."""
    if isinstance(command, click.Group):
        for part in command.commands.values():
            yield from options_of(part, f"{name} {part.name}".strip())
        return
    yield name, ""
    for parameter in command.params:
        for option in (*parameter.opts, *parameter.secondary_opts) if isinstance(parameter, click.Option) else ():
            yield name, option


def test_every_command_and_option_of_pilotage_helper_is_explained() -> None:
    text = plain(MAN / "pilotage-helper.1")
    items = re.findall(r"^\.It (.*)$", text, flags=re.MULTILINE)
    commands = {item.removeprefix("Cm ") for item in items if item.startswith("Cm ")}
    explained = {word.removeprefix("Fl ") for item in items for word in re.findall(r"(?:Fl -|--)[\w-]+", item)}
    explained = {word.replace("Fl -", "--") for word in explained}
    table = set(options_of(main))
    assert {name for name, _ in table} == commands
    assert {option for _, option in table if option} == explained
    synopsis = text[text.index(".Sh SYNOPSIS") : text.index(".Sh DESCRIPTION")]
    for name, option in table:
        part = synopsis[synopsis.index(f".Cm {name}\n") :].split(".Nm")[0]
        assert option in part or (name == "verify" and option not in ("--at", "--json")), (name, option)


def test_the_examples_sections_are_those_that_are_explained() -> None:
    text = (MAN / "pilotage-exec.conf.5").read_text()
    explained = set(re.findall(r"^\.Ss \[(\w+)", text, flags=re.MULTILINE))
    example = text[text.index(".Sh EXAMPLES") :]
    assert set(re.findall(r"^\[(\w+)", example, flags=re.MULTILINE)) == explained
