"""What the pilot believes of the helper's status lines, and of nothing else."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from pilotage.errors import HelperSystemError, PilotageError
from pilotage.reasons import Reason
from pilotage_pilot.switch import Ended, Helper, Mapped, Refused, Started, Status, parse_status

START: Mapping[str, object] = {
    "event": "start",
    "run_id": "0f" * 16,
    "account": "demo01",
    "uid": 20001,
    "gid": 20001,
    "dn": "/O=Toy Grid/CN=alice",
    "fqan": "/demo/Role=analysis",
    "tracking": "cgroup2",
}
END: Mapping[str, object] = {
    "event": "end",
    "run_id": "0f" * 16,
    "account": "demo01",
    "uid": 20001,
    "exit_code": 0,
    "signal": 0,
    "wall_seconds": 1.25,
    "cpu_user_seconds": 0.9,
    "cpu_system_seconds": 0.1,
    "max_rss_bytes": 12345678,
    "reason": "",
    "left_processes": 0,
    "left_files": 0,
}
REFUSED: Mapping[str, object] = {
    "event": "refused",
    "code": 203,
    "number": 404,
    "reason": "NO_MAPPING",
    "retry": False,
    "message": "No account for /O=Toy Grid/CN=alice.",
}
MAPPED: Mapping[str, object] = {
    "event": "map",
    "account": "demo01",
    "uid": 20001,
    "gid": 20001,
    "groups": [20001],
    "lease": "%2fo%3dtoy",
    "dn": "/O=Toy Grid/CN=alice",
}


def line(fields: Mapping[str, object], **changes: object) -> bytes:
    return json.dumps({**fields, **changes}).encode() + b"\n"


def test_the_four_documented_lines_are_read() -> None:
    assert isinstance(parse_status(line(START)), Started)
    ended = parse_status(line(END))
    assert isinstance(ended, Ended)
    assert (ended.max_rss_bytes, ended.wall_seconds) == (12345678, 1.25)
    refused = parse_status(line(REFUSED))
    assert isinstance(refused, Refused)
    assert refused.known is Reason.NO_MAPPING
    assert isinstance(parse_status(line(MAPPED)), Mapped)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b'{"event":"start"}\n',
        b'{"event":"party"}\n',
        b"\xff\xfe\n",
        b"[" * 4000,
        line(START)[:-5],
        line(START, uid=-1),
        line(START, uid=1 << 32),
        line(START, uid="20001"),
        line(START, uid=20001.5),
        line(START, account="a" * 300),
        line(START, account=None),
        line(END, exit_code=256),
        line(END, exit_code=-2),
        line(END, signal=65),
        line(END, wall_seconds=-1),
        line(END, wall_seconds=1e12),
        line(END, max_rss_bytes=1 << 63),
        line(REFUSED, code=0),
        line(REFUSED, code=204),
        line(REFUSED, number=0),
        line(REFUSED, number=901),
        line(REFUSED, message="x" * 5000),
    ],
)
def test_a_hostile_or_broken_line_is_the_helpers_fault(text: bytes) -> None:
    with pytest.raises(HelperSystemError) as caught:
        parse_status(text)
    assert caught.value.reason is Reason.HELPER_SYSTEM


def test_a_nan_is_no_number() -> None:
    with pytest.raises(HelperSystemError):
        parse_status(line(END).replace(b"1.25", b"NaN"))


def test_an_unknown_field_is_left_for_a_newer_pilot() -> None:
    assert isinstance(parse_status(line(START, flavour="new")), Started)


@pytest.mark.parametrize(("number", "reason"), [(404, "POOL_EXHAUSTED"), (599, "NO_MAPPING"), (404, "")])
def test_a_reason_whose_name_and_number_disagree_is_not_believed(number: int, reason: str) -> None:
    refused = parse_status(line(REFUSED, number=number, reason=reason))
    assert isinstance(refused, Refused)
    assert refused.known is Reason.HELPER_SYSTEM


def test_a_run_is_start_then_end() -> None:
    status = Status()
    status.add(parse_status(line(START)))
    status.add(parse_status(line(END)))
    assert status.started
    assert status.ended


@pytest.mark.parametrize(
    "lines",
    [
        [END],
        [START, START],
        [START, END, END],
        [START, REFUSED],
        [START, MAPPED],
        [REFUSED, START],
        [REFUSED, REFUSED],
        [MAPPED, START],
        [START, {**END, "run_id": "aa" * 16}],
    ],
)
def test_lines_out_of_turn_are_refused(lines: list[Mapping[str, object]]) -> None:
    status = Status()
    for fields in lines[:-1]:
        status.add(parse_status(line(fields)))
    with pytest.raises(HelperSystemError):
        status.add(parse_status(line(lines[-1])))


async def refused_renewal(tmp_path: Path, script: str) -> PilotageError:
    program = tmp_path / "helper"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(PilotageError) as caught:
        await Helper(program, Path("/bin/true"), Path("/bin/true")).renew("0" * 32, tmp_path / "proxy")
    return caught.value


@pytest.mark.parametrize(
    ("said", "reason", "message"),
    [
        ("pilotage-exec: refused: RENEWAL_REFUSED (522): another owner", Reason.RENEWAL_REFUSED, "another owner"),
        ("pilotage-exec: refused: RENEWAL_REFUSED (200): another owner", Reason.HELPER_SYSTEM, "another owner"),
        ("pilotage-exec: refused: NO_SUCH_THING (999): x", Reason.HELPER_SYSTEM, "x"),
        ("Segmentation fault", Reason.HELPER_SYSTEM, "did not say why"),
        ("", Reason.HELPER_SYSTEM, "did not say why"),
    ],
)
def test_a_refused_renewal_has_the_helpers_reason(tmp_path: Path, said: str, reason: Reason, message: str) -> None:
    error = asyncio.run(refused_renewal(tmp_path, f"echo '{said}' >&2; exit 203"))
    assert error.reason is reason
    assert message in error.message
