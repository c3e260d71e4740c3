"""No text makes import-lcmaps do anything but translate or tell."""

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_helper.lcmaps import Problems, Translation, read_database, render, translate
from pilotage_helper.lcmaps.plugins import PLUGINS, spellings

NAMES = st.sampled_from(["a", "b", "c", "d", "path", "p", "q"])
MODULES = st.sampled_from([*PLUGINS, "lcmaps_jobrep", "x/y"])
OPTIONS = st.sampled_from([*spellings(), "/x", "1", "12:00", "yes", "no", "a b"])
STRINGS = st.lists(OPTIONS, max_size=4).map(lambda words: " ".join(f'"{word}"' for word in words))
DEFINITION = st.builds('{} = "{}.mod" {}'.format, NAMES, MODULES, STRINGS)
RULE = st.one_of(
    st.builds("{} -> {}".format, NAMES, NAMES),
    st.builds("{} -> {} | {}".format, NAMES, NAMES, NAMES),
    st.builds("~{} -> {}".format, NAMES, NAMES),
)
POLICY = st.builds(lambda name, rules: f"{name}:\n" + "\n".join(rules), NAMES, st.lists(RULE, max_size=4))
DATABASE = st.lists(st.one_of(DEFINITION, DEFINITION, POLICY), max_size=10).map("\n".join)
PRINTABLE = set(string.ascii_letters + string.digits + string.punctuation + " \n")


def attempt(text: str) -> Translation | None:
    try:
        return translate(read_database(text))
    except Problems as found:
        lines = [problem.line for problem in found.problems]
    assert lines
    assert max(lines) <= text.count("\n") + 1
    return None


@given(st.text(alphabet='ab= "\n:->|~#.-/\\\0\x80', max_size=200))
@settings(max_examples=1000)
def test_any_text_is_translated_or_told(text: str) -> None:
    attempt(text)


@given(DATABASE)
@settings(max_examples=2000)
def test_what_is_translated_is_a_configuration_of_plain_lines(text: str) -> None:
    made = attempt(text)
    if made is None:
        return
    lines = render(made, "lcmaps.db")
    assert set(lines) <= PRINTABLE
    for value in (*made.helper.values(), *made.mapping.values()):
        assert "\n" not in value
        assert "#" not in value
    steps = made.mapping["policy"].split(", ")
    assert 1 <= len(steps) <= 8


def test_a_policy_that_branches_everywhere_is_read_in_no_time() -> None:
    count = 400
    names = [f"v{i}" for i in range(count)]
    text = "".join(f'{name} = "lcmaps_voms.mod"\n' for name in names) + 'la = "lcmaps_localaccount.mod"\np:\n'
    ways = zip(names, [*names[1:], "la"], strict=True)
    assert attempt(text + "".join(f"{name} -> {then} | {then}\n" for name, then in ways)) is None


def test_a_deep_policy_is_no_deep_recursion() -> None:
    names = [f"g{i}" for i in range(499)]
    text = "".join(f'{name} = "lcmaps_dummy_good.mod"\n' for name in names) + 'la = "lcmaps_localaccount.mod"\np:\n'
    ways = zip(names, [*names[1:], "la"], strict=True)
    made = attempt(text + "".join(f"{name} -> {then}\n" for name, then in ways))
    assert made is not None
    assert made.mapping["policy"] == "dn-account"
    assert attempt(text + "p2 " * 100000) is None
