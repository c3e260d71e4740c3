"""Accounting reads what a node's audit files say, whatever happened to them."""

import gzip
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_helper.accounting import Reader, Record, State
from support.audit_lines import DN, NOON, end, line, run_id, start, write
from support.helper_rig import HelperRig

HOUR = timedelta(hours=1)


def read(*paths: Path) -> tuple[list[Record], Reader]:
    reader = Reader(paths)
    return list(reader.records()), reader


def test_a_start_and_an_end_are_one_record(tmp_path: Path) -> None:
    (record,), reader = read(write(tmp_path / "log", start(1), end(1, cpu_percent=250)))
    assert (record.run_id, record.job_id, record.caller) == (run_id(1), "job-1", "pilot")
    assert (record.owner_dn, record.fqan, record.vo, record.account) == (DN, "/demo/Role=analysis", "demo", "demo01")
    assert (record.state, record.start, record.end) == (State.ENDED, NOON, NOON + HOUR)
    assert (record.wall_seconds, record.cpu_user_seconds, record.cpu_system_seconds) == (3600, 100.25, 1.5)
    assert (record.peak_memory_bytes, record.memory_from) == (90_000_001, "group")
    assert (record.exit_code, record.signal, record.reason, record.mode) == (0, 0, "", "switch")
    assert record.cpu_percent == 250
    assert list(reader.unfinished()) == []


def test_a_signal_leaves_no_exit_code_and_without_a_group_the_largest_process_counts(tmp_path: Path) -> None:
    text = end(1, exit_code=-1, signal=9, reason="LIMIT_MEMORY").replace('"peak_memory_bytes":90000001,', "")
    (record,), _ = read(write(tmp_path / "log", start(1), text))
    assert (record.exit_code, record.signal, record.reason) == (None, 9, "LIMIT_MEMORY")
    assert (record.peak_memory_bytes, record.memory_from) == (50_000_000, "process")


def test_an_end_without_a_start_gives_the_same_record(tmp_path: Path) -> None:
    both, _ = read(write(tmp_path / "both", start(1, NOON + timedelta(seconds=0.7)), end(1)))
    alone, _ = read(write(tmp_path / "alone", end(1)))
    assert both == alone


def test_a_clock_that_was_set_meanwhile_changes_no_wall_time(tmp_path: Path) -> None:
    (record,), _ = read(write(tmp_path / "log", start(1, NOON + 9 * HOUR), end(1)))
    assert (record.start, record.wall_seconds) == (NOON, 3600)


def test_a_start_without_an_end_is_no_record_until_it_is_asked_for(tmp_path: Path) -> None:
    cleaned = line("CLEANUP", 2, NOON + HOUR, complete=True)
    records, reader = read(write(tmp_path / "log", start(1), start(2), start(3), end(3), cleaned))
    assert [record.run_id for record in records] == [run_id(3)]
    rest = {record.run_id: record for record in reader.unfinished()}
    assert {key: record.state for key, record in rest.items()} == {
        run_id(1): State.UNFINISHED,
        run_id(2): State.LOST,
    }
    assert all((record.end, record.wall_seconds, record.owner_dn) == (None, 0, DN) for record in rest.values())


def test_a_payload_that_could_not_be_executed_has_used_nothing(tmp_path: Path) -> None:
    failed = line("END", 1, NOON + HOUR, code=126, reason="COMMAND_UNUSABLE", message="/x: Permission denied")
    (record,), _ = read(write(tmp_path / "log", start(1), failed))
    assert (record.state, record.reason, record.exit_code) == (State.FAILED, "COMMAND_UNUSABLE", None)
    assert (record.start, record.end, record.wall_seconds) == (NOON, NOON + HOUR, 0)


def test_half_lines_are_passed_over_and_told(tmp_path: Path) -> None:
    half = end(1)[:100] + "\n"
    log = write(tmp_path / "log", start(1), half, start(2), "\0" * 300 + end(2), end(3), "[1]\n", '{"time":3}\n', "\n")
    records, reader = read(log)
    assert [record.run_id for record in records] == [run_id(3)]
    assert len(list(reader.unfinished())) == 2
    assert (reader.tally.unreadable, reader.tally.lines) == (4, 8)
    assert [place.split(": ")[0] for place in reader.tally.broken] == [f"{log}:{n}" for n in (2, 4, 6, 7)]


def test_the_line_that_is_being_written_is_for_the_next_export(tmp_path: Path) -> None:
    log = write(tmp_path / "log", start(1), end(1)[:-40])
    records, reader = read(log)
    assert (records, reader.tally.unreadable) == ([], 0)
    write(log, start(1), end(1)[:-1])
    assert len(read(log)[0]) == 1
    write(log, start(1), end(1))
    assert len(read(log)[0]) == 1
    # In a file that was rotated away nobody writes any more.
    later = write(tmp_path / "later", start(2, NOON + 2 * HOUR))
    write(log, start(1), end(1)[:-40])
    assert read(later, log)[1].tally.unreadable == 1


def test_a_line_of_any_length_costs_no_memory_and_no_neighbour(tmp_path: Path) -> None:
    log = write(tmp_path / "log", end(1), "x" * 300_000 + "\n", end(2), '{"a":"' + "y" * 65536 + '"}\n', end(3))
    records, reader = read(log)
    assert [record.run_id for record in records] == [run_id(n) for n in (1, 2, 3)]
    assert reader.tally.unreadable == 2


def test_rotated_files_are_read_in_their_order_whatever_they_are_called(tmp_path: Path) -> None:
    old = tmp_path / "helper.jsonl.2.gz"
    old.write_bytes(gzip.compress((start(1, NOON) + start(2, NOON)).encode()))
    middle = write(tmp_path / "helper.jsonl.1", end(1, NOON + HOUR), start(3, NOON + HOUR))
    now = write(tmp_path / "helper.jsonl", end(2, NOON + 2 * HOUR), end(3, NOON + 3 * HOUR))
    empty = write(tmp_path / "helper.jsonl.0")
    records, reader = read(now, empty, middle, old)
    assert [record.run_id for record in records] == [run_id(n) for n in (1, 2, 3)]
    assert (list(reader.unfinished()), reader.tally.duplicates) == ([], 0)


def test_what_is_there_twice_counts_once(tmp_path: Path) -> None:
    once = write(tmp_path / "log", start(1), start(1), end(1), end(1, exit_code=7), start(1))
    records, reader = read(once, once, write(tmp_path / "copy", start(1), end(1)))
    assert [(record.run_id, record.exit_code) for record in records] == [(run_id(1), 0)]
    assert (list(reader.unfinished()), reader.tally.duplicates) == ([], 10)


def test_other_events_and_unknown_fields_do_not_matter(tmp_path: Path) -> None:
    other = [line(event, 1, NOON, message="x") for event in ("REFUSED", "MAP", "SIGNAL", "RENEW", "CLEANUP", "NEW")]
    bare = line("REFUSED", 1, NOON).replace(run_id(1), "")
    records, reader = read(write(tmp_path / "log", *other, bare, end(1, colour="blue")))
    assert (len(records), reader.tally.unreadable) == (1, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"wall_seconds": -1},
        {"wall_seconds": "1"},
        {"wall_seconds": 1e300},
        {"exit_code": 256},
        {"signal": 65},
        {"max_rss_bytes": -1},
        {"max_rss_bytes": 1 << 63},
        {"run_id": "../../etc/passwd"},
        {"run_id": ""},
        {"time": "0001-01-01T00:00:00Z"},
        {"time": "2026-11-20T12:00:00"},
        {"dn": ["/O=x"]},
    ],
)
def test_a_value_that_the_helper_never_writes_makes_no_record(tmp_path: Path, wrong: dict[str, object]) -> None:
    text = json.dumps(json.loads(end(1)) | wrong) + "\n"
    records, reader = read(write(tmp_path / "log", text))
    assert (records, reader.tally.unreadable) == ([], 1)


def test_a_line_that_was_too_long_for_the_log_is_filled_up_from_the_start(tmp_path: Path) -> None:
    short = json.loads(end(1)) | {"cut": True}
    for name in ("dn", "fqan", "vo"):
        del short[name]
    (record,), _ = read(write(tmp_path / "log", start(1), json.dumps(short) + "\n"))
    assert (record.owner_dn, record.fqan, record.vo) == (DN, "/demo/Role=analysis", "demo")


@pytest.mark.parametrize("what", ["missing", "folder", "cut archive", "bad archive"])
def test_a_file_that_cannot_be_read_to_its_end_refuses(tmp_path: Path, what: str) -> None:
    path = tmp_path / "log"
    packed = gzip.compress("".join(end(n) for n in range(2000)).encode())
    if what == "folder":
        path.mkdir()
    elif what == "cut archive":
        path.write_bytes(packed[:-2000])
    elif what == "bad archive":
        path.write_bytes(packed[:3000] + os.urandom(3000) + packed[6000:])
    with pytest.raises(PilotageError) as refused:
        read(path)
    assert refused.value.reason is Reason.AUDIT_FILE_UNUSABLE


@settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from([start(1), end(1), start(2), end(2), "\n", '{"dn":"\\ud800"}\n']).map(str.encode),
        ),
        max_size=12,
    ),
    cut=st.integers(0, 4000),
)
def test_no_bytes_make_the_reader_fail_or_a_run_appear_twice(tmp_path: Path, pieces: list[bytes], cut: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(pieces)[:cut])
    if path.read_bytes().startswith(b"\x1f\x8b"):
        with pytest.raises(PilotageError):
            read(path)
        return
    records, reader = read(path)
    ids = [record.run_id for record in (*records, *reader.unfinished())]
    assert len(ids) == len(set(ids))
    assert set(ids) <= {run_id(1), run_id(2)}


def test_many_lines_are_not_held_in_memory(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        for n in range(60_000):
            file.write(start(n) + end(n))
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom pilotage_helper.accounting import Reader\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(sum(1 for _ in Reader([Path(sys.argv[1])]).records()))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, log], capture_output=True, text=True, check=True)
    records, grown = map(int, done.stdout.split())
    assert records == 60_000
    # 16 bytes of id a run, in a set; the file has 60 MB.
    assert log.stat().st_size > 50_000_000
    assert grown < 16_000


@pytest.mark.root
def test_the_records_of_real_runs_are_what_the_helper_told_its_caller(rig: HelperRig) -> None:
    before = len(rig.audit())
    done = [
        rig.run("/usr/bin/true", options=["--job-id", '=1+1,"x"']),
        rig.run(os.path.realpath("/bin/sh"), "-c", "kill -9 $$"),
        rig.run("/usr/bin/false", proxy=rig.proxy(1, fqans=("/demo",))),
    ]
    rig.run("/nowhere/program")
    log = rig.prefix / "own.jsonl"
    log.write_text("".join(rig.log.read_text().splitlines(keepends=True)[before:]))
    records, reader = read(log)
    assert (len(records), reader.tally.unreadable, list(reader.unfinished())) == (4, 0, [])
    assert (records[3].state, records[3].reason) == (State.FAILED, "COMMAND_UNUSABLE")
    for record, run in zip(records[:3], done, strict=True):
        first, last = run.line("start"), run.line("end")
        assert (record.run_id, record.account) == (first["run_id"], first["account"])
        assert (record.owner_dn, record.fqan) == (first["dn"], first["fqan"])
        assert record.wall_seconds == pytest.approx(float(str(last["wall_seconds"])), abs=0.5)
        assert record.cpu_user_seconds == last["cpu_user_seconds"]
        assert record.peak_memory_bytes == last.get("peak_memory_bytes", last["max_rss_bytes"])
        assert record.caller == rig.pilot.pw_name
    assert [(record.exit_code, record.signal) for record in records[:3]] == [(0, 0), (None, 9), (1, 0)]
    assert records[0].job_id == '=1+1,"x"'
    log.unlink()
