"""Pages that are generated agree with the tables they come from."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pilotage.states import MOVES

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
