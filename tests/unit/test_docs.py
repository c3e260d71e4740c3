"""Pages that are generated agree with the tables they come from, and examples with what reads them."""

import importlib.util
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from pilotage.config import Config as UserConfig
from pilotage.config import load_config as load_user
from pilotage.reasons import Reason
from pilotage.states import MOVES
from pilotage.voms.members import load_config as load_authority
from pilotage_pilot.config import PilotConfig
from pilotage_pilot.config import load_config as load_pilot
from pilotage_server.config import Config as ServerConfig
from pilotage_server.config import RetrievalTable
from pilotage_server.config import load as load_server
from pilotage_server.credentials.abuse import AbuseLimits
from pilotage_server.retrieval import BUILT_IN

DOCS = Path(__file__).resolve().parents[2] / "docs"
DEPLOY = DOCS.parent / "deploy"


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


def test_every_reason_says_once_what_to_do(generate: ModuleType) -> None:
    named = [name for names in generate.REMEDIES.values() for name in names.split()]
    assert sorted(named) == sorted(Reason.__members__)


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


Wanted = dict[str, object]


def settings(kind: type, prefix: str = "") -> Wanted:
    """Return the full name of every key of a configuration, with its default or UNSET."""
    found: Wanted = {}
    for field in msgspec.structs.fields(kind):
        name = f"{prefix}{field.name}"
        parts = [part for part in (field.type, *getattr(field.type, "__args__", ())) if isinstance(part, type)]
        table = next((part for part in parts if issubclass(part, msgspec.Struct)), None)
        if table is RetrievalTable and field.name == "vo":
            found |= settings(table, f"{name}.*.")
        elif table is not None:
            found |= settings(table, f"{name}.")
        else:
            found[name] = field.default
    return found


def written(path: Path) -> Iterator[tuple[str, object, bool]]:
    """Yield each key of an example: its full name, its value, and whether it is shown as a default."""
    section, example = "", False
    for line in path.read_text().splitlines():
        if found := re.match(r"(?:# )?\[([\w.]+)\]", line):
            section, example = f"{found[1]}.", "# example" in line
        elif found := re.match(r"(# )?(\w+) = (.*?)(?: +#(.*))?$", line):
            value = tomllib.loads(f"x = {found[3]}")["x"]
            yield section + found[2], value, bool(found[1]) and not example and not str(found[4]).startswith(" example")


@pytest.mark.parametrize(
    ("name", "kind", "load"),
    [
        ("server.toml", ServerConfig, load_server),
        ("pilot.toml", PilotConfig, load_pilot),
        ("config.toml", UserConfig, lambda path: load_user({"PILOTAGE_CONFIG": str(path)})),
    ],
)
def test_an_example_has_every_key_with_its_default(name: str, kind: type, load: Callable[[Path], object]) -> None:
    assert load(DEPLOY / name)
    known = settings(kind)
    shown = {key: (value, is_default) for key, value, is_default in written(DEPLOY / name)}
    short = {re.sub(r"^(retrieval)\.(vo\.\w+|plain)\.", r"\1.default.", key) for key in shown}
    short = {"gateway.usernames" if key.startswith("gateway.usernames.") else key for key in short}
    assert short == {key for key in known if not re.match(r"retrieval\.(vo|plain)", key)}
    for key, (value, is_default) in shown.items():
        if is_default:
            # What a policy does not say has its defaults in a table of its own.
            default = getattr(BUILT_IN, key.removeprefix("retrieval.default."), known[key])
            shown_as = tuple(value) if isinstance(value, list) else value
            assert shown_as == (str(default) if isinstance(default, Path) else default), key


def test_the_page_of_the_helper_has_every_key_of_its_configuration() -> None:
    page = example("helper-interface.md", "[helper]")
    manual = (DOCS.parent / "helper_c" / "man" / "pilotage-exec.conf.5").read_text()
    keys = {key for item in re.findall(r"^\.It Ic (.*)$", manual, re.MULTILINE) for key in item.split(" , ")}
    assert keys == set(re.findall(r"^(?:# )?(\w+) = ", page, re.MULTILINE))


def test_the_limits_of_abuse_are_told_as_they_are() -> None:
    told = msgspec.toml.decode(example("operations.md", "[abuse]"), type=dict[str, dict[str, int]])
    assert told == {"abuse": msgspec.to_builtins(AbuseLimits())}


def test_every_metric_is_explained_and_no_other() -> None:
    page = (DOCS / "operations.md").read_text()
    explained = set(re.findall(r"`(pilotage_\w+)`", page.split("## Metrics")[1].split("Alerts that one would set")[0]))
    source = "".join(path.read_text() for path in (DOCS.parent / "server" / "pilotage_server").glob("*.py"))
    assert explained == set(re.findall(r'"(pilotage_[a-z_]+)"', source)) - {"pilotage_server"}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("adr/*.md")), *sorted(DOCS.parent.glob("*.md"))]
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_every_page_is_in_the_readme() -> None:
    listed = set(re.findall(r"\]\(docs/([^)#]+)", (DOCS.parent / "README.md").read_text()))
    assert {page.name for page in DOCS.glob("*.md")} <= listed
