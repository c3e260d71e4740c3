"""vomses files: strict, and every error says where."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.voms.vomses import VomsServer, find_vomses, parse_vomses, read_vomses, servers_of

GOOD = '"demo" "voms.example.org" "15000" "/O=Grid/CN=voms.example.org" "demo"'
SERVER = VomsServer(alias="demo", host="voms.example.org", port=15000, dn="/O=Grid/CN=voms.example.org", vo="demo")


def test_five_fields_make_a_server() -> None:
    assert parse_vomses(GOOD + "\n", "file") == (SERVER,)


def test_a_sixth_field_is_taken_and_means_nothing() -> None:
    assert parse_vomses(GOOD + ' "24"', "file") == (SERVER,)


def test_comments_empty_lines_and_windows_ends_are_skipped() -> None:
    assert parse_vomses(f"# the VO's server\r\n\r\n   \t\n  {GOOD}  \r\n", "file") == (SERVER,)


@pytest.mark.parametrize(
    "line",
    [
        GOOD + ' "24" "25"',
        GOOD.rsplit(" ", 1)[0],
        GOOD.replace('"15000"', "15000"),
        GOOD.replace('"15000"', '"0"'),
        GOOD.replace('"15000"', '"65536"'),
        GOOD.replace('"15000"', '"+15000"'),
        GOOD.replace('"15000"', '"\u0661\u0665000"'),
        GOOD.replace("voms.example.org", "voms example.org", 1),
        GOOD.replace("voms.example.org", "-voms.example.org", 1),
        GOOD.replace("/O=Grid", "O=Grid"),
        GOOD.replace('"demo"', '""', 1),
        GOOD.removesuffix('"demo"') + '"../demo"',
        GOOD.removesuffix('"'),
        GOOD + " trailing",
        "junk " + GOOD,
        GOOD.replace("/CN=", "/CN=\x00"),
    ],
)
def test_what_is_not_such_a_line_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(PilotageError, match=r"vomses:3: ") as caught:
        parse_vomses(f"{GOOD}\n\n{line}\n", "vomses")
    assert caught.value.reason is Reason.VOMSES_MALFORMED


@given(st.text(alphabet=st.sampled_from(list('"\t\r\n demo./=#0159:\x00é')), max_size=120))
def test_any_text_gives_servers_or_a_reason(text: str) -> None:
    with contextlib.suppress(PilotageError):
        servers = parse_vomses(text, "file")
        assert all(0 < server.port < 65536 and server.host and server.vo for server in servers)


def test_a_directory_is_read_file_by_file_without_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "b").write_text(GOOD)
    (tmp_path / "a").write_text(GOOD.replace("voms.example.org", "first.example.org", 1))
    (tmp_path / ".swp").write_text("junk")
    (tmp_path / "sub").mkdir()
    assert [server.host for server in read_vomses(tmp_path)] == ["first.example.org", "voms.example.org"]


def test_users_own_files_come_before_the_systems(tmp_path: Path) -> None:
    for folder in (".voms", ".glite"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "vomses").write_text(
            GOOD.replace("voms.example.org", f"host{folder}", 1).replace("host.", "host-")
        )
    places = find_vomses({"HOME": str(tmp_path)})
    assert places[:2] == (tmp_path / ".voms" / "vomses", tmp_path / ".glite" / "vomses")
    assert [server.host for server in servers_of("demo", places)] == ["host-voms"]


def test_a_place_that_is_named_counts_alone_and_must_exist(tmp_path: Path) -> None:
    named = tmp_path / "vomses"
    with pytest.raises(PilotageError, match="X509_VOMSES names"):
        find_vomses({"X509_VOMSES": str(named)})
    named.write_text(GOOD)
    assert find_vomses({"X509_VOMSES": str(named), "HOME": str(tmp_path)}) == (named,)
    assert find_vomses({"VOMS_USERCONF": str(named)}) == (named,)


def test_an_alias_finds_the_vo_when_no_vo_has_that_name(tmp_path: Path) -> None:
    file = tmp_path / "vomses"
    file.write_text(GOOD.replace('"demo"', '"short"', 1) + "\n" + GOOD)
    assert len(servers_of("demo", [file])) == 2
    assert [server.vo for server in servers_of("short", [file])] == ["demo"]


def test_a_vo_without_a_server_is_not_found(tmp_path: Path) -> None:
    file = tmp_path / "vomses"
    file.write_text(GOOD)
    with pytest.raises(PilotageError) as caught:
        servers_of("other", [file])
    assert caught.value.reason is Reason.VOMSES_NOT_FOUND
    assert str(file) in caught.value.message


def test_a_file_that_is_huge_or_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vomses"
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(PilotageError, match="larger than"):
        read_vomses(file)
    file.write_bytes(b'"\xff\xfe"')
    with pytest.raises(PilotageError, match="UTF-8"):
        read_vomses(file)
