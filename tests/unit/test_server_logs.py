"""Logs of the server: one JSON object a line, and nothing secret in any."""

import contextlib
import io
import json
import os
import sqlite3
from pathlib import Path

import msgspec
import pytest
import structlog

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server import logs

Line = dict[str, object]


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def lines(out: io.StringIO) -> list[Line]:
    return [msgspec.json.decode(line, type=Line) for line in out.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_and_speaker(out: io.StringIO) -> None:
    logs.configure("json", out=out)
    structlog.get_logger("pilotage.rpc").info("call", ms=1.5, dn="/O=Grid/CN=Ä\nforged")
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"], line["ms"]) == ("call", "info", "pilotage.rpc", 1.5)
    assert str(line["ts"]).endswith("Z")
    assert line["dn"] == "/O=Grid/CN=Ä\nforged"


@pytest.mark.parametrize("name", ["Ä", "\u202egrid", "\x9b31m", "\x1b]0;", "\x7f", "\ud800", "\u2028"])
def test_a_line_is_ascii_on_one_line_whatever_a_name_holds(name: str, out: io.StringIO) -> None:
    logs.configure("json", out=out)
    structlog.get_logger("pilotage.rpc").info("call", dn=name, ms=float("nan"), n=1)
    text = out.getvalue()
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable() or name == "\x7f"
    decoded = json.loads(text)
    assert (decoded["dn"], decoded["n"]) == (name, 1)


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_are_hidden_by_type_name_and_nature(form: str, out: io.StringIO) -> None:
    logs.configure(form, out=out)
    hidden = "hidden-value"
    structlog.get_logger("pilotage.rpc").info(
        "call",
        value=Secret(hidden),
        nested={"deep": [Secret(hidden)], "retrieval_key": hidden},
        session_token=hidden,
        authorization=f"Bearer {hidden}",
        private_key=hidden,
        raw=hidden.encode(),
        error=ValueError(hidden),
    )
    assert hidden not in out.getvalue()
    assert "call" in out.getvalue()


def test_audit_lines_go_to_both_places_and_others_to_one(out: io.StringIO, tmp_path: Path) -> None:
    with logs.open_audit(tmp_path / "audit.jsonl") as audit:
        logs.configure("json", audit, out)
        structlog.get_logger("pilotage.audit").info("proxy issued", jti="j")
        structlog.get_logger("pilotage.rpc").info("call")
    kept = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert [msgspec.json.decode(line)["event"] for line in kept] == ["proxy issued"]
    assert [line["event"] for line in lines(out)] == ["proxy issued", "call"]
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_audit_log_that_is_a_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        logs.open_audit(tmp_path / "audit.jsonl")


def test_a_fault_tells_type_and_places_and_only_words_we_know() -> None:
    def inner() -> None:
        raise ValueError("hidden-value")

    def described(error: Exception) -> str:
        return "\n".join(logs.fault(error))

    try:
        try:
            inner()
        except ValueError as error:
            raise KeyError("hidden-value") from error
    except KeyError as error:
        text = described(error)
    assert "builtins.KeyError" in text
    assert "builtins.ValueError" in text
    assert "test_server_logs.py" in text
    assert "inner" in text
    assert "hidden-value" not in text
    assert "database is locked" in described(sqlite3.OperationalError("database is locked"))
    assert "DISK_FULL" in described(refuse(Reason.DISK_FULL))


def test_a_log_that_cannot_be_written_fails_nothing(out: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """The device takes nothing, as a full disk does."""
    full = Path("/dev/full")
    with logs.open_audit(full) as audit:
        logs.configure("json", audit, out)
        for number in range(3):
            structlog.get_logger("pilotage.audit").info("proxy issued", number=number)
    assert [line["number"] for line in lines(out)] == [0, 1, 2]
    assert capsys.readouterr().err.count("lines of the audit log are missing: No space left on device") == 1
    with full.open("w") as nowhere:
        logs.configure("json", None, nowhere)
        structlog.get_logger("pilotage.rpc").info("call")
        with contextlib.suppress(OSError):
            nowhere.close()


def test_a_line_that_a_full_disk_cut_does_not_spoil_the_next(
    out: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    with logs.open_audit(path) as audit:
        logs.configure("json", audit, out)
        say = structlog.get_logger("pilotage.audit").info
        write = os.write
        with monkeypatch.context() as cut:
            cut.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:20]))
            say("first")
        say("second")
        say("third")
    first, *others = path.read_text().splitlines()
    assert len(first) == 20
    assert [msgspec.json.decode(line, type=Line)["event"] for line in others] == ["second", "third"]
