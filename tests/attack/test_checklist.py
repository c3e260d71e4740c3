"""docs/attack-checklist.md has every line of the checklist, and every test that it names exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.helper_rig import ROOT

PAGE = ROOT / "docs" / "attack-checklist.md"
LINES = [
    f"{letter}{number}"
    for letter, last in zip("ABCDE", (18, 7, 13, 10, 14), strict=True)
    for number in range(1, last + 1)
]
HELPER = ROOT / "helper_c"


def rows() -> list[list[str]]:
    """The cells of every line of the tables."""
    found = [line for line in PAGE.read_text().splitlines() if re.match(r"\| [A-E]\d", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found]


def named() -> dict[str, list[str]]:
    """The tests of each line."""
    return {row[0]: [name.strip() for name in row[2].split(",")] for row in rows()}


def test_every_line_stands_once_and_in_order() -> None:
    assert [row[0] for row in rows()] == LINES


def test_every_line_says_what_it_demands_and_how_much_of_it_is_shown() -> None:
    for row in rows():
        assert len(row) == 4, row
        assert row[1], row[0]
        assert re.match(r"whole$|whole \(.+\)$|in part: .+", row[3]), row


def test_every_line_has_a_test_of_the_installed_program() -> None:
    """Or says itself that it is a gate on the sources."""
    for line, tests in named().items():
        shown = [name for name in tests if name.startswith(("attack/", "helper/test_glexec_target"))]
        assert shown or line == "E7", line


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """What pytest finds in the files that are named, without parameters."""
    files = sorted({f"tests/{name.split('::')[0]}" for tests in named().values() for name in tests if ".py::" in name})
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    found = re.findall(r"^tests/(\S+?::\w+)", done.stdout, flags=re.MULTILINE)
    return set(found)


def test_every_test_that_is_named_exists(collected: set[str]) -> None:
    for line, tests in named().items():
        for name in tests:
            file, _, function = name.partition("::")
            if file.endswith(".py"):
                assert name in collected, line
            elif file.endswith(".c"):
                text = (HELPER / "tests" / file).read_text()
                assert f"cmocka_unit_test({function})" in text, line
            else:
                assert (HELPER / "fuzz" / f"{name}.c").exists(), line
                assert list((HELPER / "fuzz" / "corpus" / name.removeprefix("fuzz_")).iterdir()), line


def test_no_attack_lies_around_unused() -> None:
    used = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for program in Path(__file__).parent.glob("*.c"):
        assert program.stem in used, program.name
