"""What is exported can be read by whom it is for, and is the same each time."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from dirq.QueueSimple import QueueSimple
from hypothesis import given
from hypothesis import strategies as st

from pilotage.reasons import Reason
from pilotage_helper.accounting import Place, Reader, messages
from pilotage_helper.accounting.apel import safe
from pilotage_helper.cli import main
from support import apel_reader
from support.audit_lines import DN, NOON, end, run_id, start, write

HOUR = timedelta(hours=1)
APEL = ("--format", "apel", "--site", "TEST-SITE", "--benchmark", "hepscore23:12.5", "--node", "wn1.example.org")
PLACE = Place("TEST-SITE", "wn1.example.org", ("HEPscore23", 12.5))
HOSTILE = [
    '/O=x/CN=a"b,c',
    "/O=x/CN=a\nFQAN: /atlas/Role=production",
    "/O=x/CN=%%",
    "/O=x/CN=%%%",
    "/O=x/CN=\u2028%%\u2028Site: other",
    "/O=x/CN=Zo\xeb \U0001f600",
    "/O=x/CN=a\x00\x1b[2J\x7f\x85",
    "/O=x/CN=ends with a blank ",
    "/O=x/CN=" + "long" * 250,
]


def export(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["accounting", "export", *map(str, words)])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three runs that end at one, two and three o'clock, and one that does not end."""
    lines = [start(n, NOON + (n - 1) * HOUR) + end(n, NOON + n * HOUR) for n in (1, 2, 3)]
    return write(tmp_path / "log", *lines, start(4))


@pytest.fixture
def outgoing(tmp_path: Path) -> Path:
    folder = tmp_path / "outgoing"
    folder.mkdir()
    return folder


def taken(outgoing: Path) -> Iterator[str]:
    """Take every message out of the queue as SSM does."""
    queue = QueueSimple(str(outgoing))
    for name in queue:
        assert queue.lock(name)
        yield queue.get(name).decode()
        queue.remove(name)


def test_csv_has_a_header_and_is_read_by_any_reader(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert export("--format", "csv", "--output", out, log).exit_code == 0
    assert out.read_bytes().count(b"\r\n") == 4
    rows = list(csv.DictReader(out.open(newline="", encoding="utf-8")))
    assert [row["run_id"] for row in rows] == [run_id(n) for n in (1, 2, 3)]
    assert rows[0] == {
        "run_id": run_id(1),
        "job_id": "job-1",
        "caller": "pilot",
        "owner_dn": DN,
        "fqan": "/demo/Role=analysis",
        "vo": "demo",
        "account": "demo01",
        "mode": "switch",
        "state": "ended",
        "start": "2026-11-20T12:00:00.000000Z",
        "end": "2026-11-20T13:00:00.000000Z",
        "wall_seconds": "3600.000000",
        "cpu_user_seconds": "100.250000",
        "cpu_system_seconds": "1.500000",
        "peak_memory_bytes": "90000001",
        "memory_from": "group",
        "exit_code": "0",
        "signal": "0",
        "reason": "",
        "cpu_percent": "0",
    }
    assert out.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("dn", HOSTILE)
def test_no_name_breaks_a_format(dn: str, tmp_path: Path) -> None:
    text = json.loads(end(1)) | {"dn": dn, "job_id": dn}
    path = write(tmp_path / "log", json.dumps(text) + "\n", end(2))
    table = export("--format", "csv", path).stdout_bytes.decode()
    first, second = csv.DictReader(io.StringIO(table, newline=""), strict=True)
    assert (first["owner_dn"], first["job_id"], second["owner_dn"]) == (dn, dn, DN)
    lines = export("--format", "jsonl", path).stdout_bytes.decode().split("\n")
    assert [json.loads(line)["owner_dn"] for line in lines[:-1]] == [dn, DN]
    (message,) = messages(Reader([path]).records(), PLACE)
    one, two = apel_reader.read(message.text.decode("ascii"))
    assert (one["FQAN"], one["Site"], two["GlobalUserName"]) == ("/demo/Role=analysis", "TEST-SITE", DN)
    assert str(one["GlobalUserName"]).startswith("/O=x/CN=")


def test_a_message_has_the_fields_in_apels_order_and_units(log: Path) -> None:
    (message,) = messages(Reader([log]).records(), PLACE)
    text = message.text.decode()
    assert text.split("%%\n")[0] == (
        "APEL-individual-job-message: v0.3\n"
        "Site: TEST-SITE\n"
        "SubmitHost: wn1.example.org/pilotage-pilot\n"
        "MachineName: wn1.example.org\n"
        "Queue: pilot\n"
        f"LocalJobId: {run_id(1)}\n"
        "LocalUserId: demo01\n"
        f"GlobalUserName: {DN}\n"
        "FQAN: /demo/Role=analysis\n"
        "WallDuration: 3600\n"
        "CpuDuration: 102\n"
        "Processors: 1\n"
        "NodeCount: 1\n"
        "StartTime: 1795176000\n"
        "EndTime: 1795179600\n"
        "InfrastructureDescription: PILOTAGE-PILOT-FORK\n"
        "InfrastructureType: grid\n"
        "MemoryReal: 87891\n"
        "ServiceLevelType: HEPscore23\n"
        "ServiceLevel: 12.5\n"
    )
    assert text.endswith("%%\n")
    assert text.count("%%") == 3


def test_what_apel_does_not_count_is_not_sent(tmp_path: Path) -> None:
    failed = json.loads(end(1))
    del failed["wall_seconds"]
    path = write(tmp_path / "log", json.dumps(failed) + "\n", start(2))
    assert list(messages(Reader([path]).records(), PLACE)) == []


def test_a_payload_that_ran_as_the_caller_is_on_the_callers_account(tmp_path: Path) -> None:
    path = write(tmp_path / "log", end(1, mode="log-only"))
    (message,) = messages(Reader([path]).records(), PLACE)
    assert b"\nLocalUserId: pilot\n" in message.text


def test_cores_come_from_the_bound_or_from_the_site(tmp_path: Path) -> None:
    path = write(tmp_path / "log", end(1, cpu_percent=350), end(2))
    for place, cores in ((PLACE, [4, 1]), (Place("S", "n", ("Si2k", 1.0), 8), [8, 8])):
        (message,) = messages(Reader([path]).records(), place)
        assert [record["Processors"] for record in apel_reader.read(message.text.decode())] == cores


def test_a_message_has_at_most_a_thousand_records(tmp_path: Path, outgoing: Path) -> None:
    path = write(tmp_path / "log", *(end(n, NOON + n * timedelta(milliseconds=1)) for n in range(2500)))
    assert export(*APEL, "--output", outgoing, path).exit_code == 0
    found = [apel_reader.read(text) for text in taken(outgoing)]
    assert sorted(map(len, found)) == [500, 1000, 1000]
    assert {str(record["LocalJobId"]) for records in found for record in records} == {run_id(n) for n in range(2500)}


def test_ssm_finds_its_queue_and_empties_it(log: Path, outgoing: Path) -> None:
    assert export(*APEL, "--output", outgoing, log).exit_code == 0
    queue = QueueSimple(str(outgoing))
    assert queue.count() == 1
    (text,) = taken(outgoing)
    assert len(apel_reader.read(text)) == 3
    assert queue.count() == 0
    queue.add(b"another program's")
    queue.purge()
    assert queue.count() == 1


@pytest.mark.parametrize("form", ["csv", "jsonl", "apel"])
def test_the_same_period_gives_the_same_records(form: str, log: Path, tmp_path: Path, outgoing: Path) -> None:
    words = APEL if form == "apel" else ("--format", form)
    target = outgoing if form == "apel" else tmp_path / "out"

    def made() -> dict[str, bytes]:
        assert export(*words, "--until", "2026-11-20T14:30:00", "--output", target, log).exit_code == 0
        files = [path for path in target.rglob("*") if path.is_file()] if form == "apel" else [target]
        return {str(path): path.read_bytes() for path in files}

    first = made()
    with log.open("a") as file:
        file.write(end(4, NOON + 9 * HOUR))
    assert made() == first
    assert len(first) == 1
    if form == "apel":
        # What SSM has sent already is sent again with the same name; the server's key makes it the same record.
        assert len(list(taken(outgoing))) == 1
        assert made() == first


def test_periods_side_by_side_hold_each_payload_once(log: Path) -> None:
    def ids(*words: str) -> list[str]:
        return [json.loads(line)["run_id"] for line in export("--format", "jsonl", *words, log).stdout.splitlines()]

    two = str(int((NOON + 2 * HOUR).timestamp()))
    assert ids("--until", two) == [run_id(1)]
    assert ids("--since", two) == [run_id(2), run_id(3)]
    assert ids("--since", two, "--until", two) == []


def test_unfinished_runs_are_told_and_listed_when_asked_for(log: Path) -> None:
    done = export("--format", "jsonl", log)
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == "pilotage-helper: 7 lines, 3 runs ended, 1 without an END, 0 repeated lines, 0 unreadable\n"
    lines = [json.loads(line) for line in export("--format", "jsonl", "--unfinished", log).stdout.splitlines()]
    assert (lines[3]["state"], lines[3]["end"], lines[3]["exit_code"]) == ("unfinished", None, None)
    table = list(csv.DictReader(export("--format", "csv", "--unfinished", log).stdout.splitlines()))
    assert (table[3]["state"], table[3]["end"]) == ("unfinished", "")


def test_only_a_broken_line_is_told_to_a_timer(log: Path, tmp_path: Path) -> None:
    assert export("--format", "csv", "--quiet", log).stderr == ""
    broken = write(tmp_path / "broken", end(1)[:50] + "\n", end(2))
    done = export("--format", "csv", "--quiet", broken)
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 2)
    assert done.stderr.startswith(f"pilotage-helper: {broken}:1: ")
    assert done.stderr.endswith(" 1 unreadable\n")


def test_a_file_has_its_name_only_when_it_is_whole(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("of yesterday")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\0cut")
    done = export("--format", "csv", "--output", out, log, cut)
    assert done.exit_code == Reason.AUDIT_FILE_UNUSABLE.row.exit_code
    assert "refused: AUDIT_FILE_UNUSABLE (950)" in done.stderr
    assert out.read_text() == "of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.gz", "log", "out.csv"]
    assert export("--format", "csv", "--output", out, log).exit_code == 0
    assert out.read_text().count("\n") == 4


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_nothing_but_a_file_is_replaced(kind: str, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if kind == "link":
        out.symlink_to("/dev/null")
    elif kind == "folder":
        out.mkdir()
    else:
        os.mkfifo(out)
    before = out.lstat()
    done = export("--format", "jsonl", "--output", out, log)
    assert (done.exit_code, done.stdout) == (Reason.EXPORT_FAILED.row.exit_code, "")
    assert (out.lstat().st_ino, out.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_a_full_disk_leaves_the_queue_whole_and_the_next_export_completes_it(tmp_path: Path, outgoing: Path) -> None:
    path = write(tmp_path / "log", *(end(n, NOON + timedelta(minutes=n)) for n in range(1500)))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", outgoing], check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        done = export(*APEL, "--output", outgoing, path)
        assert done.exit_code == Reason.EXPORT_FAILED.row.exit_code
        assert "No space left on device" in done.stderr
        files = [found for found in outgoing.rglob("*") if found.is_file()]
        assert all(len(apel_reader.read(found.read_text())) == 1000 for found in files)
        subprocess.run(["mount", "-o", "remount,size=8m", outgoing], check=True)
        assert export(*APEL, "--output", outgoing, path).exit_code == 0
        assert sorted(len(apel_reader.read(text)) for text in taken(outgoing)) == [500, 1000]
    finally:
        subprocess.run(["umount", outgoing], check=False)


def test_two_exports_at_once_and_a_sender_lose_and_double_nothing(tmp_path: Path, outgoing: Path) -> None:
    path = write(tmp_path / "log", *(end(n, NOON + timedelta(seconds=n)) for n in range(3000)))
    done: list[int] = []
    exports = [threading.Thread(target=lambda: done.append(subprocess_export(outgoing, path))) for _ in range(3)]
    for thread in exports:
        thread.start()
    for thread in exports:
        thread.join()
    assert done == [0, 0, 0]
    found = [apel_reader.read(text) for text in taken(outgoing)]
    assert [len(records) for records in found] == [1000, 1000, 1000]


def subprocess_export(outgoing: Path, path: Path) -> int:
    program = Path(sys.executable).with_name("pilotage-helper")
    words = [str(program), "accounting", "export", *APEL, "--quiet", "--output", str(outgoing), str(path)]
    return subprocess.run(words, check=False, timeout=120).returncode


@pytest.mark.parametrize("left_out", ["--site", "--benchmark", "--output"])
def test_apel_is_not_guessed_at(left_out: str, log: Path, outgoing: Path) -> None:
    words = [*APEL, "--output", str(outgoing)]
    at = words.index(left_out)
    done = export(*words[:at], *words[at + 2 :], log)
    assert done.exit_code == 2
    assert list(outgoing.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "HEPscore23", "hs06:1", "Si2k:0", "Si2k:-1", "Si2k:1e3", "Si2k:nan", "Si2k:1.2345"]
)
def test_a_benchmark_is_one_of_apels(text: str, log: Path, outgoing: Path) -> None:
    done = export("--format", "apel", "--site", "S", "--benchmark", text, "--output", outgoing, log)
    assert (done.exit_code, list(outgoing.iterdir())) == (2, [])


def test_a_queue_that_is_not_there_is_not_made(log: Path, tmp_path: Path) -> None:
    done = export(*APEL, "--output", tmp_path / "mistyped", log)
    assert (done.exit_code, (tmp_path / "mistyped").exists()) == (Reason.EXPORT_FAILED.row.exit_code, False)


@given(st.text(max_size=400), st.text(max_size=400))
def test_two_values_stay_two_and_each_is_one_line(one: str, two: str) -> None:
    for text in (safe(one), safe(two)):
        assert "%%" not in text
        assert len(text) <= 255
        assert text == text.strip()
        assert len((text + "x").splitlines()) == 1
    if one.isascii() and two.isascii() and "\\" not in one + two:
        assert (safe(one) == safe(two)) == (one == two)


def test_a_message_keeps_the_time_of_its_last_end(log: Path) -> None:
    (message,) = messages(Reader([log]).records(), PLACE)
    assert datetime.fromtimestamp(message.last_end, UTC) == NOON + 3 * HOUR
