"""Requests to VOMS servers, FQANs, and the development authority's reading and deciding."""

import datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.voms.answers import parse_answer, parse_http
from pilotage.voms.dialects import Answer, read_legacy, read_rest, write_legacy, write_rest
from pilotage.voms.fqans import check_vo, difference, normalise, normalise_all
from pilotage.voms.members import AuthorityConfig, Denied, Remark, Wish, check_config, decide, load_config
from pilotage.voms.requests import legacy_request, make_request, rest_request

ALICE = "/O=Toy Grid/CN=Alice"
HOUR = datetime.timedelta(hours=1)
WORDS = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True)
FQANS = st.builds(
    lambda groups, role: "/demo" + "".join(f"/{g}" for g in groups) + (f"/Role={role}" if role else ""),
    st.lists(WORDS, max_size=3),
    st.one_of(st.just(""), WORDS.filter(lambda word: word != "NULL")),
)


def config(**changes: object) -> AuthorityConfig:
    base = AuthorityConfig(
        vo="demo",
        certificate=Path("cert"),
        key=Path("key"),
        ca_dir=Path("ca"),
        host="voms.example.org",
        members={ALICE: ("/demo/z", "/demo", "/demo/Role=analysis", "/demo/Role=pilot")},
        suspended={"/O=Toy Grid/CN=Bob": "did not sign"},
    )
    return msgspec.structs.replace(base, **changes)


def test_null_means_absent() -> None:
    assert normalise("/demo/Role=NULL/Capability=NULL") == "/demo"
    assert normalise("/demo/g/Role=r/Capability=NULL") == "/demo/g/Role=r"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "demo",
        "/",
        "/demo/",
        "//demo",
        "/demo/Role=",
        "/demo/Role=a/b",
        "/demo/Capability=x",
        "/demo a",
        "/dé",
        "/demo\n",
    ],
)
def test_what_is_no_fqan_is_refused(text: str) -> None:
    with pytest.raises(PilotageError) as caught:
        normalise(text)
    assert caught.value.reason is Reason.VOMS_FQAN


@pytest.mark.parametrize("name", ["", "..", "a/b", "demo.", ".demo", "a..b", "x" * 129, "dé"])
def test_what_is_no_vo_is_refused(name: str) -> None:
    with pytest.raises(PilotageError):
        check_vo(name)


def test_an_fqan_of_another_vo_is_refused() -> None:
    with pytest.raises(PilotageError, match="not an FQAN of the VO"):
        normalise_all(["/demo", "/demo2"], "demo")


def test_a_difference_names_what_is_missing_or_comes_first() -> None:
    assert difference(["/a/Role=r"], ["/a/Role=r", "/a"]) == ""
    assert difference([], ["/a"]) == ""
    assert difference(["/a/Role=r", "/a"], ["/a"]) == "/a/Role=r not granted"
    assert difference(["/a/Role=r"], ["/a", "/a/Role=r"]) == "/a comes before /a/Role=r"


@given(st.lists(FQANS, max_size=6, unique=True), st.integers(1, 10**6))
def test_both_protocols_say_the_same(fqans: list[str], seconds: int) -> None:
    request = make_request("demo", fqans, lifetime=datetime.timedelta(seconds=seconds), targets=["a.example.org", "b"])
    rest = read_rest(rest_request(request, "voms.example.org", 15000))
    legacy = read_legacy(legacy_request(request))
    assert legacy is not None
    assert rest.fqans == request.fqans
    assert legacy.fqans == (request.fqans or ("/demo",))
    for wish in (rest, legacy):
        assert wish.lifetime_seconds == seconds
        assert wish.targets == ("a.example.org", "b")
        assert wish.order == (request.fqans if len(request.fqans) > 1 else ())


def test_rest_is_sent_raw_and_as_http_1_0() -> None:
    sent = rest_request(make_request("demo", ["/demo/Role=a", "/demo"]), "::1", 15000)
    assert sent.startswith(b"GET /generate-ac?fqans=/demo/Role=a,/demo&lifetime=43200&order=/demo:a,/demo HTTP/1.0\r\n")
    assert b"\r\nHost: [::1]:15000\r\n" in sent


@pytest.mark.parametrize("target", ["a b", "a,b", "a&order=x", "é", ""])
def test_a_target_that_is_no_host_is_refused(target: str) -> None:
    with pytest.raises(PilotageError) as caught:
        make_request("demo", targets=[target])
    assert caught.value.reason is Reason.INVALID_ARGUMENT


def test_a_lifetime_of_nothing_is_refused() -> None:
    with pytest.raises(PilotageError):
        make_request("demo", lifetime=datetime.timedelta(0))


def test_groups_come_unasked_and_roles_only_when_asked_for() -> None:
    assert decide(config(), ALICE, Wish()).fqans == ("/demo", "/demo/z")
    asked = Wish(fqans=("/demo/Role=pilot", "/demo/z"))
    assert decide(config(), ALICE, asked).fqans == ("/demo/Role=pilot", "/demo/z", "/demo")
    assert decide(config(), ALICE, Wish(roles=("analysis",))).fqans == ("/demo/Role=analysis", "/demo", "/demo/z")
    assert len(decide(config(), ALICE, Wish(everything=True)).fqans) == 4


@pytest.mark.parametrize(
    ("dn", "wish", "number"),
    [
        ("/O=Toy Grid/CN=Mallory", Wish(), 1001),
        ("/O=Toy Grid/CN=Bob", Wish(), 1004),
        (ALICE, Wish(fqans=("/demo/Role=admin",)), 1001),
        (ALICE, Wish(fqans=("/demo/Role=pilot", "/demo/Role=admin")), 1001),
    ],
)
def test_who_may_not_is_denied(dn: str, wish: Wish, number: int) -> None:
    with pytest.raises(Denied) as caught:
        decide(config(), dn, wish)
    assert caught.value.remark.number == number


def test_a_generous_authority_leaves_out_and_warns() -> None:
    wish = Wish(fqans=("/demo/Role=admin", "/demo/Role=pilot"), order=("/demo/Role=admin",), lifetime_seconds=10**6)
    decision = decide(config(leave_out=True), ALICE, wish)
    assert decision.fqans == ("/demo/Role=pilot", "/demo", "/demo/z")
    assert [remark.number for remark in decision.remarks] == [1, 2, 3]
    assert decision.lifetime_seconds == 43200


def test_refusals_survive_both_dialects() -> None:
    for name, number, reason in (
        ("NoSuchUser", 1001, Reason.VOMS_NOT_MEMBER),
        ("SuspendedUser", 1004, Reason.VOMS_SUSPENDED),
        ("BadRequest", 1005, Reason.VOMS_SERVER_REFUSED),
    ):
        answer = Answer(remarks=(Remark(number, "<&>", name),))
        with pytest.raises(PilotageError) as rest:
            parse_http(write_rest(answer))
        with pytest.raises(PilotageError) as legacy:
            parse_answer(write_legacy(answer))
        assert rest.value.reason is legacy.value.reason is reason


def test_a_grant_survives_both_dialects() -> None:
    answer = Answer(certificate=b"\x30" * 100, remarks=(Remark(2, "shortened"),))
    assert parse_http(write_rest(answer)).certificate == answer.certificate
    assert parse_http(write_rest(answer)).warnings == ("shortened",)
    assert parse_answer(write_legacy(answer)).warnings == ("shortened",)
    assert b"\n</ac>" in write_rest(answer)


@pytest.mark.parametrize("request_bytes", [b"GET / HTTP/1.0", b"POST /generate-ac HTTP/1.0", b"GET /generate-ac"])
def test_other_paths_and_methods_are_refused(request_bytes: bytes) -> None:
    with pytest.raises(PilotageError):
        read_rest(request_bytes)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<command>A</command>",
        "<voms></voms>",
        "<voms><command>Z</command></voms>",
        "<voms><command></command></voms>",
    ],
)
def test_legacy_nonsense_is_refused(body: str) -> None:
    with pytest.raises(PilotageError):
        read_legacy(body.encode())


def test_an_unknown_parameter_is_remarked_upon() -> None:
    assert read_rest(b"GET /generate-ac?fqans=all&colour=red HTTP/1.0").unknown
    assert read_rest(b"GET /generate-ac?fqans=all HTTP/1.0").everything


@pytest.mark.parametrize(
    "changes",
    [{"listen": "0.0.0.0:15000"}, {"listen": "localhost:1"}, {"vo": "../x"}, {"members": {ALICE: ("/other",)}}],
)
def test_an_authority_open_to_the_world_or_ill_made_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PilotageError) as caught:
        check_config(config(**changes))
    assert caught.value.reason is Reason.CONFIG_INVALID


def test_the_authoritys_file_is_strict(tmp_path: Path) -> None:
    text = 'vo="demo"\ncertificate="c"\nkey="k"\nca_dir="d"\nhost="h"\nholder="issuer"\n'
    text += '[members]\n"/CN=x"=["/demo/Role=NULL"]\n'
    file = tmp_path / "authority.toml"
    file.write_text(text)
    assert load_config(file).members == {"/CN=x": ("/demo",)}
    for bad in ("surprise = 1\n" + text, text.replace("issuer", "nobody"), text + "[", ""):
        file.write_text(bad)
        with pytest.raises(PilotageError) as caught:
            load_config(file)
        assert caught.value.reason is Reason.CONFIG_INVALID
