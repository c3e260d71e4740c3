"""What is logged is whole, whoever else writes; and without a sink that takes it nothing runs (checklist E11)."""

import contextlib
import json
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support.helper_rig import HelperRig
from support.log_daemon import as_pilot, devices

__all__ = ["devices"]

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
RUNS = 50


def test_fifty_runs_that_live_at_once_and_fifty_refusals_are_whole_lines(rig: HelperRig) -> None:
    before = rig.log.stat().st_size if rig.log.exists() else 0
    proxies = [str(rig.proxy(n)) for n in range(3)]

    def events() -> Counter[str]:
        with rig.log.open("rb") as file:
            file.seek(before)
            text = file.read()
        assert text.endswith(b"\n") or not text
        return Counter(str(json.loads(line)["event"]) for line in text.splitlines())

    def start(proxy: str, number: int) -> "subprocess.Popen[bytes]":
        words = ["run", "--proxy", proxy, "--job-id", f"{number} " + "x" * 120, "--", SH, "-c", "read line"]
        return rig.start(words, stdin=subprocess.PIPE)

    running: list[subprocess.Popen[bytes]] = []
    refused: list[subprocess.Popen[bytes]] = []
    try:
        # Not more at once than a slow core verifies in the time that the monitor gives a verifier.
        for first in range(0, RUNS, 10):
            running += [start(proxies[n % 3], n) for n in range(first, first + 10)]
            refused += [start("/etc/shadow", n) for n in range(first, first + 10)]
            assert rig.wait(lambda first=first: events()["START"] == first + 10), events()  # type: ignore[misc]
        # All of them live now, and end together.
        assert [process.poll() for process in running] == [None] * RUNS
        for process in running:
            assert process.stdin
            process.stdin.close()
        # The shell's `read` finds the end of the file.
        assert {process.wait(60) for process in running} == {1}
        assert {process.wait(60) for process in refused} == {201}
    finally:
        rig.end_calls()
    assert events() == {"START": RUNS, "END": RUNS, "REFUSED": RUNS}
    lines = rig.audit()[-3 * RUNS :]
    assert len({line["run_id"] for line in lines}) == 2 * RUNS
    jobs = Counter((str(line["event"]), str(line["job_id"]).split()[0]) for line in lines)
    assert set(jobs.values()) == {1}
    assert len(jobs) == 3 * RUNS
    assert rig.left() == []


def daemon_alone(rig: HelperRig) -> Callable[[str], str]:
    return lambda text: text.replace(f"audit_file = {rig.log}\n", "").replace("syslog = no", "syslog = yes")


def test_without_a_log_daemon_nothing_runs_where_it_is_the_only_sink(rig: HelperRig) -> None:
    if Path("/dev/log").exists():
        pytest.skip("this machine has a log daemon")
    with rig.configured(change=daemon_alone(rig)):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.reason, done.out) == (202, "AUDIT_UNAVAILABLE", "")
    assert (rig.processes(), rig.left()) == ([], [])


def test_a_log_daemon_that_takes_nothing_more_is_no_sink(
    rig: HelperRig, devices: tuple[socket.socket, list[str]]
) -> None:
    server, words = devices
    program = as_pilot(rig, words)
    with rig.configured(change=daemon_alone(rig)):
        done = rig.run("/usr/bin/id", "-u", user="root", program=program)
        assert (done.code, int(done.out) in rig.uids) == (0, True), done.err
        heard = [json.loads(server.recv(65536).split(b": ", 1)[1])["event"] for _ in range(2)]
        assert heard == ["START", "END"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
            flood.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                for _ in range(100_000):
                    flood.sendto(b"x" * 100, server.getsockname())
            done = rig.run("/usr/bin/id", user="root", program=program)
    assert (done.code, done.reason, done.out) == (202, "AUDIT_UNAVAILABLE", "")
    assert (rig.processes(), rig.left()) == ([], [])
