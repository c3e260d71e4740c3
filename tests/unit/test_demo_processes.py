"""The demo ends the processes it started, by id and start time, and no other."""

import json
import os
import pwd
from dataclasses import asdict
from pathlib import Path

import pytest
from journey.processes import Processes, Running, is_running, start_ticks


@pytest.mark.root
def test_a_recorded_process_is_ended_by_another_demo(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    running = Processes(tmp_path / "processes.json", tmp_path / "log").start("sleeper", me, ["sleep", "60"], {})
    assert is_running(running)
    later = Processes(tmp_path / "processes.json", tmp_path / "log")
    assert later.recorded() == [running]
    assert later.stop() == ["sleeper"]
    assert not is_running(running)
    assert later.recorded() == []


def test_a_process_that_took_over_an_id_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "processes.json"
    impostor = Running("server", os.getpid(), start_ticks(os.getpid()) - 1)
    record.write_text(json.dumps([asdict(impostor)]))
    assert Processes(record, tmp_path / "log").stop() == []
