"""What people do wrong at a shell, and where the machine fails them: a line that says what, and what next."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from pilotage.v1 import admin_pb2, job_pb2, pilot_pb2
from pilotage.x509.files import LocalIdentity
from support.journey import acquire, register
from support.server_rig import OWNER_ROLE, Client, Rig
from support.shell import Shell

PILOTAGE = Path(sys.executable).with_name("pilotage")


@pytest.fixture
def shell(rig: Rig, alice_proxy: Path, tmp_path: Path) -> Shell:
    return Shell(rig, alice_proxy, tmp_path / "alice")


def into_full(shell: Shell, *words: str) -> tuple[int, list[str]]:
    """Run the program with its standard output on a full disk."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(PILOTAGE), *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **shell.environ},
            cwd=shell.home,
            timeout=60,
            check=False,
        )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("words", [("--help",), ("whoami",), ("ls",)])
def test_output_that_cannot_be_written_is_told_in_a_line(words: tuple[str, ...], shell: Shell) -> None:
    shell.ok("submit", "--", "/bin/true")
    code, lines = into_full(shell, *words)
    assert code == 1
    assert lines == ["pilotage: the answer cannot be written (No space left on device)"]


def test_ids_of_jobs_are_told_even_where_the_answer_cannot_be_written(shell: Shell) -> None:
    code, lines = into_full(shell, "submit", "--", "/bin/true")
    job_id = shell.ok("ls", "-o", "ids").strip()
    assert code == 1
    assert f"pilotage: submitted: {job_id}" in lines


def test_a_server_with_a_certificate_for_another_name_did_not_prove_itself(
    make_rig: Callable[..., Rig], grid: ToyGrid, alice_proxy: Path, tmp_path: Path
) -> None:
    other = grid.host("elsewhere.example.org", addresses=())
    rig = make_rig(server={"host_cert": str(other.cert_path), "host_key": str(other.key_path)})
    done = Shell(rig, alice_proxy, tmp_path / "home").run("ls")
    assert done.code == 5
    assert "did not prove who it is" in done.err


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("127.0.0.1:1", "The server cannot be reached: 127.0.0.1:1: Connection refused."),
        ("no-such-host.invalid", "The server cannot be reached: no address is known for no-such-host.invalid:7643."),
    ],
)
def test_a_server_that_is_not_there_is_told_in_plain_words(server: str, why: str, shell: Shell) -> None:
    done = shell.run("ls", "-s", server)
    assert (done.code, done.err) == (5, f"pilotage: UNAVAILABLE: {why}\n")


def test_a_program_without_its_dot_is_asked_about(shell: Shell) -> None:
    (shell.home / "analyse.py").write_text("#!/usr/bin/env python3\n")
    done = shell.run("submit", "--", "analyse.py")
    assert done.code == 0
    assert "pilotage: analyse.py is looked for on the worker node; the file here would be ./analyse.py\n" in done.err
    assert "looked for" not in shell.run("submit", "--", "hostname").err


def test_a_log_without_a_line_says_why(shell: Shell) -> None:
    job_id = shell.ok("submit", "--", "/bin/true").strip()
    done = shell.run("logs", job_id)
    assert (done.code, done.out, done.err) == (0, "", "pilotage: nothing yet: the job is activated\n")
    shell.ok("cancel", job_id)
    assert shell.run("logs", job_id).err == "pilotage: it printed nothing: the job is cancelled\n"
    later = shell.run("logs", "--attempt", "7", job_id)
    assert later.err == "pilotage: there was no attempt 7: the job has had 0\n"


def test_a_payload_that_never_began_has_no_exit_code(shell: Shell, pilot: Client) -> None:
    job_id = shell.ok("submit", "--", "hostnam").strip()
    pilot_id = register(pilot)
    result = job_pb2.AttemptResult(
        outcome=job_pb2.OUTCOME_PAYLOAD, reason="COMMAND_NOT_FOUND", message="It is not there."
    )
    lease = acquire(pilot, pilot_id)
    pilot.pilots.FinishJob(pilot_pb2.FinishJobRequest(pilot_id=pilot_id, lease_id=lease.lease_id, result=result))
    shown = shell.ok("show", job_id)
    assert "COMMAND_NOT_FOUND" in shown
    assert "exit code" not in shown
    (row,) = shell.ok("ls").splitlines()[1:]
    assert not re.search(r" 0 ", row)


def test_a_certificate_without_its_key_is_no_secret(shell: Shell, alice: Identity) -> None:
    certificate = shell.home / "usercert.pem"
    certificate.write_bytes(alice.cert_path.read_bytes())
    certificate.chmod(0o644)
    done = shell.run("credential", "delegate", "--from", str(certificate))
    assert done.code == 4
    assert "it holds no private key; name the key's file as well" in done.err


def test_a_fault_of_the_service_is_not_the_owners_to_mend(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    grid = ToyGrid(tmp_path_factory.mktemp("stale"))
    proxy = grid.voms_proxy(grid.user("alice"), tmp_path / "proxy", fqans=(OWNER_ROLE,))
    rig = Rig(grid, tmp_path, grid.host("localhost", key="ec"))
    rig.start()
    try:
        grid.write_crl(days=-1)
        report = json.loads(Shell(rig, proxy, tmp_path / "home").run("doctor", "--json").out)
    finally:
        rig.stop()
    (found,) = [one for one in report["findings"] if one["level"] == "error"]
    assert found["text"].startswith("CRL_EXPIRED: ")
    assert found["next"].startswith("tell the operators of the service")


def test_a_credential_as_short_as_the_proxy_here_wants_a_longer_proxy_first(shell: Shell) -> None:
    shell.ok("credential", "delegate")
    shell.ok("credential", "delegate", "--hours", "1")
    report = json.loads(shell.run("doctor", "--json").out)
    (found,) = [one for one in report["findings"] if (one["subject"], one["level"]) == ("credential", "warning")]
    assert found["next"].startswith("voms-proxy-init -rfc -valid ")
    assert found["next"].endswith("; then pilotage credential delegate")


def test_a_banned_owner_hears_so_from_the_doctor(shell: Shell, rig: Rig, admin: LocalIdentity) -> None:
    dn = json.loads(shell.ok("whoami", "--json"))["dn"]
    rig.mutual_client(admin).admin.Ban(admin_pb2.BanRequest(subject=dn, why="Key stolen."))
    done = shell.run("doctor", "--json")
    report = json.loads(done.out)
    assert done.code == 1
    (found,) = [one for one in report["findings"] if one["level"] == "error"]
    assert (found["subject"], found["text"].partition(":")[0]) == ("login", "CALLER_BANNED")
    assert found["next"]
