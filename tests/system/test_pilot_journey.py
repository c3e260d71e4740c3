"""The main job through real parts: server, pilot process, setuid helper, wrapper, accounts of a pool."""

import os
import pwd
import time
from pathlib import Path

import msgspec
import pytest

from pilotage.jobs import LogStream
from pilotage.states import JobState, Outcome
from pilotage_pilot.config import PilotConfig
from support.pilot_rig import PilotRig, host, make_node, node

__all__ = ["host", "make_node", "node"]

pytestmark = pytest.mark.root

ANALYSIS = """#!/bin/sh
set -e
cat data.txt > result.txt
id -un >> result.txt
echo "HOME=$HOME"
openssl x509 -in "$X509_USER_PROXY" -noout -subject
env | cut -d= -f1 | sort | tr '\\n' ' '
echo "err" >&2
"""


def test_two_owners_run_under_two_accounts_and_nothing_is_left(node: PilotRig, tmp_path: Path) -> None:
    pilot = node.start()
    first, second = node.owner(0), node.owner(1)
    jobs = [
        node.submit(
            client,
            "./run.sh",
            inputs={"run.sh": ANALYSIS, "data.txt": f"data of {number}\n"},
            outputs=("result.txt",),
            environment={"SEED": "42"},
        )
        for number, client in enumerate((first, second))
    ]
    accounts = []
    for number, (client, job_id) in enumerate(zip((first, second), jobs, strict=True)):
        job = node.wait(client, job_id)
        assert (job.state, job.reason, job.message) == (JobState.FINISHED, "", ""), pilot.log
        assert job.result is not None
        assert job.result.outcome is Outcome.OK
        assert job.result.pilot_uid == node.helper.pilot.pw_uid
        assert job.result.uid == pwd.getpwnam(job.result.account).pw_uid
        assert job.result.worker_node == "wn1"
        assert job.result.usage.wall_seconds > 0
        accounts.append(job.result.account)
        client.fetch(job_id, tmp_path / str(number))
        text = (tmp_path / str(number) / "result.txt").read_text()
        assert text == f"data of {number}\n{job.result.account}\n"
        printed = node.printed(client, job_id)
        assert f"HOME={pwd.getpwnam(job.result.account).pw_dir}" in printed
        assert f"owner {number + 1}" in printed
        for name in ("SEED", "PANDAID", "PILOT_SITENAME", "ATHENA_PROC_NUMBER", "X509_USER_PROXY"):
            assert name in printed.split()
        assert node.printed(client, job_id, LogStream.STDERR) == "err\n"
    assert set(accounts) <= set(node.helper.pools)
    assert len(set(accounts)) == 2
    node.nothing_left()
    assert pilot.stop() == 0
    assert "BEGIN" not in pilot.log
    assert "eyJ" not in pilot.log


def test_two_jobs_run_at_once_on_one_pilot_with_two_slots(node: PilotRig) -> None:
    pilot = node.start(slots=2)
    owners = node.owner(0), node.owner(1)
    script = "echo ready; while [ ! -e go ]; do sleep 0.05; done"
    jobs = [(owner, node.submit(owner, "/bin/sh", "-c", script)) for owner in owners]
    for owner, job_id in jobs:
        node.running(owner, job_id)
    # Both have begun, and neither can end before both are told to.
    places = list((node.helper.prefix / "home").glob("*/pilotage-*/work"))
    assert len({place.parents[1] for place in places}) == 2
    node.until(lambda: all(owner.get(job_id).state is JobState.RUNNING for owner, job_id in jobs))
    for place in places:
        (place / "go").touch()
    for owner, job_id in jobs:
        assert node.wait(owner, job_id).state is JobState.FINISHED, pilot.log
    node.nothing_left()


def test_a_pilot_makes_rsa_keys_for_its_proxies_where_nothing_else_is_configured(node: PilotRig) -> None:
    settings = node.settings("wn1")
    del settings["key_kind"]
    config = msgspec.convert(settings, PilotConfig, dec_hook=lambda _, value: Path(value))
    node.start(key_kind=config.key_kind)
    owner = node.owner(0)
    job = node.wait(owner, node.submit(owner, "/bin/sh", "-c", 'openssl x509 -in "$X509_USER_PROXY" -noout -text'))
    assert job.state is JobState.FINISHED
    printed = node.printed(owner, job.job_id)
    assert "Public Key Algorithm: rsaEncryption" in printed
    assert "(2048 bit)" in printed


def test_a_payload_that_fails_fails_the_job_and_its_outputs_come_back(node: PilotRig, tmp_path: Path) -> None:
    node.start()
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", "echo partial > out.txt; exit 7", outputs=("out.txt", "none.txt"))
    job = node.wait(owner, job_id)
    assert job.result is not None
    assert (job.state, job.result.outcome, job.result.exit_code) == (JobState.FAILED, Outcome.PAYLOAD, 7)
    owner.fetch(job_id, tmp_path)
    assert (tmp_path / "out.txt").read_text() == "partial\n"


@pytest.mark.parametrize(
    ("command", "spec", "reason"),
    [
        (("no-such-program",), {}, "COMMAND_NOT_FOUND"),
        (("/bin/true",), {"outputs": ("result.root",)}, "OUTPUT_MISSING"),
        (("/bin/true",), {"environment": {"HOME": "/tmp"}}, "ENVIRONMENT_REFUSED"),
    ],
)
def test_what_the_wrapper_refuses_is_told_to_the_owner(
    node: PilotRig, command: tuple[str, ...], spec: dict[str, object], reason: str
) -> None:
    node.start()
    owner = node.owner(0)
    job = node.wait(owner, node.submit(owner, *command, inputs=None, **spec))
    assert (job.state, job.reason) == (JobState.FAILED, reason)


def test_a_server_that_stops_and_starts_while_a_job_runs_changes_nothing_for_it(node: PilotRig) -> None:
    pilot = node.start()
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.1; echo .; done; echo done")
    node.running(owner, job_id)
    account = owner.get(job_id)
    node.server.stop()
    time.sleep(2)
    node.server.start()
    owner = node.owner(0)
    assert owner.get(job_id).state is account.state
    (work,) = (node.helper.prefix / "home").glob("*/pilotage-*/work")
    (work / "go").touch()
    job = node.wait(owner, job_id)
    assert (job.state, job.attempt) == (JobState.FINISHED, 1), pilot.log
    printed = node.printed(owner, job_id)
    assert printed.startswith("ready\n")
    assert printed.endswith("done\n")
    assert [event.to_state for event in owner.events(job_id)].count(JobState.FINISHED) == 1
    node.nothing_left()


def test_a_job_that_ends_while_the_server_is_away_is_reported_once_it_is_back(node: PilotRig) -> None:
    pilot = node.start()
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", "echo ready; sleep 1; echo late > late.txt", outputs=("late.txt",))
    node.running(owner, job_id)
    node.server.stop()
    node.until(lambda: not node.helper.processes())
    node.server.start()
    owner = node.owner(0)
    job = node.wait(owner, job_id)
    assert (job.state, job.attempt) == (JobState.FINISHED, 1), pilot.log
    assert job.result is not None
    assert job.result.output_sandbox


def test_a_job_cancelled_while_it_runs_is_killed_with_everything_it_started(node: PilotRig) -> None:
    pilot = node.start()
    owner = node.owner(0)
    script = "trap '' TERM; setsid sleep 300 & setsid sh -c 'trap \"\" TERM; sleep 300' & echo ready; wait; wait"
    job_id = node.submit(owner, "/bin/sh", "-c", script)
    node.running(owner, job_id)
    owner.cancel([job_id])
    job = node.wait(owner, job_id)
    assert job.state is JobState.CANCELLED, pilot.log
    assert job.result is not None
    assert job.result.outcome is Outcome.KILLED
    node.nothing_left()


def test_a_payload_beyond_its_wall_time_is_ended(node: PilotRig) -> None:
    pilot = node.start()
    owner = node.owner(0)
    job = node.wait(owner, node.submit(owner, "/bin/sleep", "300", wall_seconds=1))
    assert (job.state, job.reason) == (JobState.FAILED, "LIMIT_WALL_TIME"), pilot.log
    assert job.result is not None
    assert job.result.outcome is Outcome.LIMIT
    node.nothing_left()


def test_a_pilot_that_is_killed_leaves_nothing_and_its_job_runs_elsewhere(node: PilotRig) -> None:
    first = node.start("wn1", proxy=str(node.robot("Robot - first")))
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", "echo ready; [ $PILOTAGE_ATTEMPT = 2 ] || sleep 300")
    node.running(owner, job_id)
    proxies = first.private_files()
    assert any(path.name == "proxy" and path.stat().st_mode & 0o777 == 0o600 for path in proxies)
    first.process.kill()
    first.wait()
    node.nothing_left()
    node.server.clock.turn(30)
    second = node.start("wn2", proxy=str(node.robot("Robot - second")))
    job = node.wait(owner, job_id)
    assert (job.state, job.attempt) == (JobState.FINISHED, 2), second.log
    assert job.result is not None
    assert job.result.worker_node == "wn2"
    assert [event.reason for event in owner.events(job_id)].count("PILOT_LOST") == 1
    # The successor in the same workdir removes what the dead pilot could not.
    assert first.private_files()
    third = node.start("wn1", proxy=str(node.robot("Robot - first")), max_idle_seconds=1)
    assert third.wait() == 82
    assert third.private_files() == []
    assert "a predecessor did not finish" in third.log


def test_a_pilot_whose_lease_was_given_away_ends_its_payload_and_its_result_is_not_taken(node: PilotRig) -> None:
    first = node.start("wn1", slots=1, proxy=str(node.robot("Robot - first")))
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", "echo ready; [ $PILOTAGE_ATTEMPT = 2 ] || sleep 300")
    node.running(owner, job_id)
    os.kill(first.process.pid, 19)
    node.server.clock.turn(30)
    node.start("wn2", proxy=str(node.robot("Robot - second")))
    job = node.wait(owner, job_id)
    assert (job.state, job.attempt) == (JobState.FINISHED, 2)
    os.kill(first.process.pid, 18)
    node.until(lambda: "is lost" in first.log)
    node.nothing_left()
    assert owner.get(job_id).attempt == 2
    assert owner.get(job_id).state is JobState.FINISHED
    assert first.process.poll() is None


def test_a_pilot_told_to_stop_lets_its_payload_finish_and_takes_no_other(node: PilotRig) -> None:
    pilot = node.start(slots=1)
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", "echo ready; sleep 1.5")
    node.running(owner, job_id)
    other = node.submit(owner, "/bin/true")
    assert pilot.stop() == 0, pilot.log
    assert owner.get(job_id).state is JobState.FINISHED
    assert owner.get(other).state is JobState.ACTIVATED
    node.nothing_left()


def test_a_pilot_told_to_stop_ends_a_payload_that_takes_too_long_and_the_job_is_offered_again(node: PilotRig) -> None:
    pilot = node.start(slots=1, drain_seconds=1)
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", "echo ready; sleep 300")
    node.running(owner, job_id)
    assert pilot.stop() == 143, pilot.log
    job = owner.get(job_id)
    assert job.result is not None
    assert (job.state, job.result.reason) == (JobState.ACTIVATED, "PILOT_DRAINING")
    node.nothing_left()


def test_a_long_log_is_cut_at_the_limit_and_says_so(node: PilotRig) -> None:
    node.start(max_log_bytes=100_000)
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo end >&2")
    assert node.wait(owner, job_id).state is JobState.FINISHED
    chunks = list(owner.logs(job_id))
    assert sum(len(chunk.data) for chunk in chunks) == 100_000
    assert chunks[-1].truncated
    assert node.printed(owner, job_id, LogStream.STDERR) == "end\n"
