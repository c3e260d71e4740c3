"""The gateway's policies: MyProxy's meanings, and patterns that nobody can make expensive."""

import datetime
import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage_server.gateway.policy import Client, admits, glob, matches_any
from pilotage_server.principal import Principal, Proof

PILOT = "/O=Grid/CN=pilot 1"


def client(dn: str = PILOT, fqans: tuple[str, ...] = ()) -> Client:
    end = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    who = Principal(dn=dn, vo="", fqans=fqans, limited=False, thumbprint=b"", proof=Proof.MUTUAL_TLS, expire_time=end)
    return Client(who, "127.0.0.1")


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("*", "", True),
        ("*", "anything", True),
        ("", "", True),
        ("", "a", False),
        ("/O=Grid/CN=*", PILOT, True),
        ("*/CN=pilot 1", PILOT, True),
        ("*/CN=pilot ?", PILOT, True),
        ("/O=Grid/CN=pilot ?", "/O=Grid/CN=pilot 12", False),
        ("/O=Grid/CN=pilot 1", "/O=Grid/CN=pilot 1/CN=more", False),
        ("O=Grid/CN=pilot 1", PILOT, False),
        ("/O=Grid/CN=pilot.1", PILOT, False),
        ("/O=Grid/CN=[a-z]*", PILOT, False),
        ("/o=grid/cn=pilot 1", PILOT, False),
        ("*a*b*c*", "xxaxxbxxcxx", True),
    ],
)
def test_a_pattern_matches_a_whole_subject(pattern: str, text: str, found: bool) -> None:
    assert glob(pattern, text) is found


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=16))
def test_patterns_mean_what_a_shell_means(pattern: str, text: str) -> None:
    assert glob(pattern, text) is fnmatch.fnmatchcase(text, pattern)


def test_no_pattern_takes_long() -> None:
    began = time.thread_time()
    glob("*a" * 500 + "b", "a" * 1000)
    assert time.thread_time() - began < 2.0


def test_a_list_admits_by_any_of_its_entries_and_alternatives() -> None:
    assert matches_any(client(), ["/O=Other/*", PILOT])
    assert matches_any(client(), [f"/O=Other/*|{PILOT}"])
    assert not matches_any(client(), [])


def test_a_role_admits_only_who_has_it() -> None:
    assert matches_any(client(fqans=("/vo/Role=pilot", "/vo")), ["FQAN:/vo/Role=pilot"])
    assert matches_any(client(), ["subject:/O=Grid/*"])
    assert not matches_any(client(fqans=("/vo",)), ["fqan:/vo/Role=*"])
    assert not matches_any(client(fqans=("/vo/Role=pilot",)), ["/vo/Role=pilot"])
    assert not matches_any(Client(None, "h"), ["FQAN:*"])


def test_who_shows_nothing_matches_only_what_matches_all() -> None:
    anonymous = Client(None, "127.0.0.1")
    assert matches_any(anonymous, ["*"])
    assert not matches_any(anonymous, ["/*", "*/CN=*"])


@pytest.mark.parametrize(
    ("server", "own", "default", "admitted"),
    [
        (["*"], None, ["*"], True),
        (["*"], None, [], False),
        (["*"], PILOT, [], True),
        (["*"], "/O=Grid/CN=other", ["*"], False),
        (["*"], "", ["*"], False),
        ([], PILOT, ["*"], False),
        (["/O=Other/*"], PILOT, ["*"], False),
    ],
)
def test_server_and_credential_must_both_admit_and_the_default_stands_in(
    server: list[str], own: str | None, default: list[str], admitted: bool
) -> None:
    assert admits(client(), server, own, default) is admitted
