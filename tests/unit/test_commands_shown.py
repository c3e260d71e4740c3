"""Every command line that README and docs show exists: its program, its subcommand, each of its options."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pilotage.cli.commands import cli
from pilotage_helper.cli import main as helper
from pilotage_server.commands import main as server

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
BEFORE = r"(?:\w+=\S+ )*(?:runuser -u \w+ -- )?(?:/\S*/)?"
PROGRAM = re.compile(BEFORE + r"(pilotage(?:-server|-helper|-exec|-pilot)?) (?=[a-z-])")
EXEC = (ROOT / "helper_c" / "src" / "exec" / "options.c").read_text()
LEAST = 75
"""How many there are at least: a pattern that finds none proves nothing."""


def shown(page: Path) -> Iterator[str]:
    """Yield what a page shows as typed: lines of its indented blocks, continued ones whole, and texts in backquotes."""
    text = page.read_text().replace("\\\n", " ")
    places = re.findall(r"^ {4,}(.*)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    for place in places:
        line = re.sub(r"(?:^|\s)#.*", "", place)
        for part in re.split(r" && | \| ", line):
            if found := PROGRAM.match(part):
                yield part[found.start(1) :]


def options(words: list[str]) -> list[str]:
    """Return the options of a command line, without their values and without what follows `--`."""
    mine = words[: words.index("--")] if "--" in words else words
    return [found[0] for word in mine if (found := re.match(r"-{1,2}[a-z][a-z-]*", word.strip("[]")))]


def check_click(command: click.Command, words: list[str]) -> None:
    place = iter(words)
    while isinstance(command, click.Group) and (word := next((w for w in place if not w.startswith("-")), None)):
        alternatives = word.split("|")
        assert set(alternatives) <= set(command.commands), word
        command = command.commands[alternatives[0]]
    known = {"-h", "--help"} | {option for parameter in command.params for option in parameter.opts}
    assert set(options(words)) <= known | {"--version"}


def check_server(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    verbs = [word for word in words if re.fullmatch(r"[a-z-]+", word)]
    for depth in (2, 1):
        with pytest.raises(SystemExit) as ended:
            server([*verbs[:depth], "--help"])
        if ended.value.code == 0:
            break
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in options(words):
        assert re.search(rf"{option}\b", text), option


LINES = [(page.name, line) for page in PAGES for line in shown(page)]


def test_the_pages_show_commands() -> None:
    assert len(LINES) >= LEAST


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line[:60]}" for page, line in LINES])
def test_a_command_that_is_shown_exists(page: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *words = shlex.split(line.replace("...", "").replace("'", '"'))
    if name == "pilotage":
        check_click(cli, words)
    elif name == "pilotage-helper":
        check_click(helper, words)
    elif name == "pilotage-server":
        check_server(words, capsys)
    elif name == "pilotage-exec":
        assert any(f'{{ "{verb}", VERB_' in EXEC for verb in words[0].split("|")), page
        for option in options(words):
            assert f'"{option}"' in EXEC or option == "--all", option
    else:
        assert set(options(words)) <= {"--config", "--probe", "--version"}
