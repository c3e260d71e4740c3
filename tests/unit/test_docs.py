"""Pages that are generated agree with the tables they come from, and examples with what reads them."""

import importlib.util
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pilotage.states import MOVES
from pilotage.voms.members import load_config as load_authority
from pilotage_pilot.config import load_config as load_pilot
from pilotage_server.config import load as load_server

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["states.md", "reasons.md"])
def test_a_generated_page_is_up_to_date(generate: ModuleType, name: str) -> None:
    assert (DOCS / name).read_text() == generate.PAGES[name](), "run `make docs`"


def test_the_diagram_has_every_move_and_no_other() -> None:
    block = (DOCS / "states.md").read_text().split("```mermaid")[1].split("```")[0]
    drawn = {tuple(line.strip().split(" --> ")) for line in block.splitlines() if " --> " in line}
    drawn = {move for move in drawn if "[*]" not in move}
    assert drawn == {(source.label, target.label) for source, targets in MOVES.items() for target in targets}


def example(page: str, begin: str) -> str:
    """Return the indented block of a page that begins with a text, its commented-out settings taken for settings."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", (DOCS / page).read_text(), re.MULTILINE)
    found = [block for block in map(textwrap.dedent, blocks) if block.lstrip().startswith(begin)]
    assert len(found) == 1, page
    return re.sub(r"^# (?=\w+ = )", "", found[0], flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "begin", "load"),
    [
        ("install.md", "[server]", load_server),
        ("myproxy.md", "[server]", load_server),
        ("install.md", "server =", load_pilot),
        ("voms.md", "vo =", load_authority),
    ],
)
def test_an_example_of_a_configuration_is_taken(
    page: str, begin: str, load: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "example.toml"
    path.write_text(example(page, begin))
    assert load(path)


def test_the_example_of_the_voms_client_imports_what_exists() -> None:
    text = example("voms.md", "import os")
    compile(text, "voms.md", "exec")
    exec("\n".join(line for line in text.splitlines() if "import" in line), {})
