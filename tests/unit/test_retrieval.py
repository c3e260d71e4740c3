"""The policy of retrievals: which pilots get credentials of which VO, and what the proxies are."""

import datetime
import re

import msgspec
import pytest

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server import retrieval
from pilotage_server.config import parse
from pilotage_server.principal import Principal
from pilotage_server.retrieval import Limits, RetrievalPolicy, Targets, vos_of
from support.desks import PILOT

HOUR = datetime.timedelta(hours=1)
BASE = """
[server]
state_dir = "/var/lib/pilotage"
listen = "127.0.0.1:7643"
audience = "pilotage://localhost:7643"
host_cert = "/hostcert.pem"
host_key = "/hostkey.pem"
ca_dir = "/certificates"
[roles]
pilot = ["/demo/Role=pilot"]
owner = ["/demo"]
"""
MIXED = """
[retrieval.default]
proxy = "limited"
path_length = 2
targets = ["/demo/Role=pilot"]
[retrieval.plain]
targets = ["/O=Toy Grid/CN=Pilot 1"]
[retrieval.vo.atlas]
proxy = "full"
path_length = "unlimited"
max_lifetime_seconds = 3600
[retrieval.vo."fermilab.example"]
targets = []
"""


def policy(text: str) -> RetrievalPolicy:
    return parse((BASE + text).encode(), "server.toml").retrieval_policy()


def mistake(text: str) -> str:
    with pytest.raises(PilotageError) as caught:
        policy(text)
    assert caught.value.reason is Reason.CONFIG_INVALID
    return caught.value.message


def pilot(*fqans: str, cn: str = "Pilot 1") -> Principal:
    return msgspec.structs.replace(PILOT, dn=f"/O=Toy Grid/CN={cn}", fqans=fqans)


def test_without_a_table_every_pilot_gets_full_proxies_of_twelve_hours() -> None:
    for vos in (["demo"], ["demo", "other"], []):
        assert policy("").limits(vos, PILOT) == Limits(12 * HOUR, False, None)
        assert RetrievalPolicy().limits(vos, PILOT) == Limits(12 * HOUR, False, None)


def test_a_vos_table_says_what_differs_from_the_default() -> None:
    made, of_demo = policy(MIXED), pilot("/demo/Role=pilot")
    assert made.limits(["atlas"], of_demo) == Limits(HOUR, False, None)
    assert made.limits(["demo"], of_demo) == Limits(12 * HOUR, True, 2)
    assert made.limits([], of_demo) == Limits(12 * HOUR, True, 2)


def test_a_pilot_that_is_no_target_is_refused_by_name() -> None:
    made, stranger = policy(MIXED), pilot("/demo", cn="Pilot 2")
    for vos, what in (
        (["atlas"], "credentials of the VO atlas"),
        (["demo", "fermilab.example"], "credentials of the VO demo"),
        ([], "credentials without VO attributes"),
    ):
        with pytest.raises(PilotageError) as refused:
            made.limits(vos, stranger)
        assert refused.value.reason is Reason.TARGET_REFUSED
        assert refused.value.message == f"The policy does not let the pilot {stranger.dn} have {what}."


def test_an_empty_list_of_targets_is_nobody() -> None:
    with pytest.raises(PilotageError, match="TARGET_REFUSED"):
        policy(MIXED).limits(["fermilab.example"], pilot("/demo/Role=pilot"))


def test_the_vos_of_a_pilot_are_those_that_it_is_not_refused() -> None:
    made = policy(MIXED)
    for who in (pilot("/demo/Role=pilot"), pilot("/demo"), pilot("/demo/Role=pilot", cn="Pilot 2"), pilot(cn="x")):
        admitted = made.admitted(who)
        for vos in (["atlas"], ["demo"], ["unheard"], ["fermilab.example"], [], ["atlas", "unheard"], ["a", "demo"]):
            try:
                made.limits(vos, who)
                served = True
            except PilotageError:
                served = False
            assert (admitted.refused(vos) is None) is served


def test_a_credential_of_several_vos_is_under_the_policies_of_all_of_them() -> None:
    made, of_demo = policy(MIXED), pilot("/demo/Role=pilot")
    for vos in (["atlas", "demo"], ["demo", "atlas"]):
        assert made.limits(vos, of_demo) == Limits(HOUR, True, 2)
    for vos in (["atlas", "fermilab.example"], ["fermilab.example", "atlas"]):
        assert made.admitted(of_demo).refused(vos) == "fermilab.example"
        with pytest.raises(PilotageError, match=r"TARGET_REFUSED.*fermilab\.example"):
            made.limits(vos, of_demo)


def test_the_vos_of_a_credential_are_those_of_all_its_attributes() -> None:
    assert vos_of(["/zeus/Role=x", "/atlas/prod", "/atlas", "/zeus"]) == ("atlas", "zeus")
    assert vos_of([]) == ()


def test_what_a_pilot_may_have_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = policy(MIXED), 0
    admit = Targets.admit

    def count(targets: Targets, dn: str, fqans: tuple[str, ...]) -> bool:
        nonlocal asked
        asked += 1
        return admit(targets, dn, fqans)

    monkeypatch.setattr(Targets, "admit", count)
    for _ in range(3):
        made.limits(["demo"], pilot("/demo/Role=pilot"))
        made.admitted(pilot("/demo/Role=pilot"))
    first = asked
    assert first == 4
    made.admitted(pilot("/demo/Role=pilot", "/demo"))
    assert asked == 2 * first


@pytest.mark.parametrize(
    ("entry", "fqan", "admitted"),
    [
        ("/demo/Role=pilot", "/demo/Role=pilot", True),
        ("/demo/Role=pilot", "/demo/Role=pilots", False),
        ("/demo/Role=pilot", "/demo/site/Role=pilot", False),
        ("/demo", "/demo/Role=pilot", False),
        ("/demo/*/Role=pilot", "/demo/site/Role=pilot", True),
        ("/demo/*/Role=pilot", "/demo/Role=pilot", False),
        ("/demo/*/Role=pilot", "/demo/site/rack/Role=pilot", False),
        ("/demo/Role=*", "/demo/Role=pilot", True),
        ("/demo/Role=*", "/demo", False),
        ("/demo/*", "/demo/site", True),
        ("/demo/*", "/demo/Role=pilot", True),
        ("/demo/*", "/demo/site/Role=pilot", False),
        ("/demo.x/Role=pilot", "/demoax/Role=pilot", False),
        ("/demo/site-*/Role=pilot", "/demo/site-7/Role=pilot", True),
        ("*", "/other/Role=pilot", True),
    ],
)
def test_a_star_stands_for_text_within_one_component_of_an_fqan(entry: str, fqan: str, *, admitted: bool) -> None:
    assert Targets([entry]).admit("/O=Toy Grid/CN=Pilot", ["/first", fqan]) is admitted


@pytest.mark.parametrize(
    ("entry", "dn", "admitted"),
    [
        ("/O=Toy Grid/CN=Pilot 1", "/O=Toy Grid/CN=Pilot 1", True),
        ("/O=Toy Grid/CN=Pilot *", "/O=Toy Grid/CN=Pilot 17", True),
        ("/O=Toy Grid/CN=Pilot *", "/O=Toy Grid/CN=Pilot 17/CN=Mallory", False),
        ("/O=Toy Grid/CN=*", "/O=Toy Grid/CN=host/wn1.example.org", False),
        ("/O=Toy Grid/CN=host/*", "/O=Toy Grid/CN=host/wn1.example.org", True),
        ("/O=Toy Grid", "/O=Toy Grid/CN=Pilot 1", False),
        ("/DC=org/*/CN=Pilot", "/DC=org/DC=example/CN=Pilot", True),
        ("/DC=org/*/CN=Pilot", "/DC=orgaDC=example/CN=Pilot", False),
    ],
)
def test_a_star_stands_for_text_within_one_component_of_a_dn(entry: str, dn: str, *, admitted: bool) -> None:
    assert Targets([entry]).admit(dn, []) is admitted


def test_a_dn_never_poses_as_an_fqan_nor_the_other_way_round() -> None:
    assert not Targets(["/O=Grid/*"]).admit("/other", ["/O=Grid/x"])
    assert not Targets(["/demo/*"]).admit("/demo/Role=pilot", [])


def test_the_narrower_of_two_policies_wins_in_each_respect() -> None:
    wide, narrow = Limits(2 * HOUR, False, None), Limits(HOUR, True, 0)
    assert wide.narrowed(narrow) == narrow.narrowed(wide) == narrow
    assert Limits(HOUR, False, 3).narrowed(Limits(2 * HOUR, True, 1)) == Limits(HOUR, True, 1)
    assert Limits(HOUR, False, None).narrowed(Limits(HOUR, False, 2)).path_length == 2
    assert wide.narrowed(wide) == wide


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[retrieval.default]\nproxi = "full"', r"unknown field `proxi` - at `\$\.retrieval\.default`"),
        (
            '[retrieval.vo.atlas]\nproxy = "half"',
            r"Invalid enum value 'half' - at `\$\.retrieval\.vo\[\.\.\.\]\.proxy`",
        ),
        ("[retrieval.atlas]\npath_length = 1", r"unknown field `atlas` - at `\$\.retrieval`"),
        ('[retrieval.default]\npath_length = "any"', r"Invalid enum value 'any' .*path_length"),
        ("[retrieval.default]\npath_length = -1", r"retrieval\.default\.path_length: -1 is not between 0 and 8"),
        ("[retrieval.vo.atlas]\npath_length = 9", r"retrieval\.vo\.atlas\.path_length: 9 is not between 0 and 8"),
        ("[retrieval.default]\npath_length = 1.5", r"retrieval\.default\.path_length"),
        (
            "[retrieval.plain]\nmax_lifetime_seconds = 0",
            r"retrieval\.plain\.max_lifetime_seconds: 0 is not between 1 and 31622400",
        ),
        ("[retrieval.default]\nmax_lifetime_seconds = 9000000000000000000", r"max_lifetime_seconds: 9\d+ is not"),
        ('[retrieval.default]\ntargets = "*"', r"Expected `array`, got `str` - at `\$\.retrieval\.default\.targets`"),
        ('[retrieval.vo.atlas]\ntargets = ["demo"]', r"retrieval\.vo\.atlas\.targets: 'demo' is neither a DN"),
        ('[retrieval.vo.atlas]\ntargets = ["/de mo/Role=x"]', r"retrieval\.vo\.atlas\.targets: '/de mo/Role=x' is"),
        ('[retrieval.default]\ntargets = ["/demo/Role=NULL"]', r"'/demo/Role=NULL' names no role; write it without"),
        ('[retrieval.default]\ntargets = ["/demo/Role=a/Capability=NULL"]', r"names no role; write it without"),
        ('[retrieval.default]\ntargets = ["/O="]', r"retrieval\.default\.targets: '/O=' is not a DN in slash form"),
        ('[retrieval.default]\ntargets = [""]', r"retrieval\.default\.targets: '' is neither"),
        ('[retrieval.vo."../x"]\nproxy = "full"', r"retrieval\.vo: '\.\./x' is not a name of a VO"),
        ('[retrieval.vo.""]\nproxy = "full"', r"retrieval\.vo: '' is not a name of a VO"),
        ("[credentials]\nissue_seconds = 1", r"unknown field `issue_seconds` - at `\$\.credentials`"),
    ],
)
def test_each_mistake_is_one_clear_line_with_its_place(text: str, told: str) -> None:
    message = mistake(text)
    assert re.search(told, message), message
    assert "\n" not in message


def test_all_mistakes_of_a_policy_are_told_at_once() -> None:
    message = mistake('[retrieval.default]\npath_length = -1\n[retrieval.vo.x]\ntargets = ["a", "b"]')
    assert message.count("retrieval.") == 3


def test_a_target_that_was_not_checked_before_is_refused() -> None:
    with pytest.raises(PilotageError, match="CONFIG_INVALID"):
        Targets(["/demo//x"])
    assert retrieval.trouble("/demo/*/Role=pilot") == ""
