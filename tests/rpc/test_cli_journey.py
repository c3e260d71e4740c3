"""The owner's whole journey by the commands they type, against the real server and a real pilot's calls."""

import datetime
import hashlib
import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from toygrid import Identity, ToyGrid

import pilotage
from pilotage.client import Client
from pilotage.errors import PilotageError
from pilotage.jobs import JobSpec
from pilotage.reasons import Reason
from pilotage.sandbox import check_archive, pack
from pilotage.states import JobState
from pilotage.v1 import credential_pb2, job_pb2, pilot_pb2
from pilotage.x509.files import load_identity
from support.journey import acquire, register, retrieve_request
from support.ports import free_port
from support.server_rig import Client as PilotClient
from support.server_rig import Rig
from support.shell import Done, Shell


@pytest.fixture
def alice_shell(rig: Rig, alice_proxy: Path, tmp_path: Path) -> Shell:
    shell = Shell(rig, alice_proxy, tmp_path / "alice")
    (shell.home / "analyse.py").write_text("#!/usr/bin/env python3\n")
    (shell.home / "analyse.py").chmod(0o755)
    (shell.home / "events.csv").write_text("1,2\n")
    return shell


@pytest.fixture
def bob_shell(rig: Rig, bob_proxy: Path, tmp_path: Path) -> Shell:
    return Shell(rig, bob_proxy, tmp_path / "bob")


def finish(pilot: PilotClient, pilot_id: str, lease: pilot_pb2.Lease, folder: Path, *, exit_code: int = 0) -> None:
    """Do what a pilot does: report, send the log and the outputs, end the attempt."""
    report = pilot_pb2.LeaseReport(
        lease_id=lease.lease_id, phase=pilot_pb2.ATTEMPT_PHASE_RUNNING, account="demo01", uid=20001
    )
    pilot.pilots.Heartbeat(pilot_pb2.HeartbeatRequest(pilot_id=pilot_id, reports=[report]))
    for stream, data in ((job_pb2.LOG_STREAM_STDOUT, b"hello\n"), (job_pb2.LOG_STREAM_STDERR, b"oops\n")):
        pilot.pilots.AppendLog(
            pilot_pb2.AppendLogRequest(pilot_id=pilot_id, lease_id=lease.lease_id, stream=stream, data=data)
        )
    file = io.BytesIO()
    packed = pack([folder], folder, file)
    header = job_pb2.SandboxHeader(sha256=packed.sha256, size_bytes=packed.size_bytes, lease_id=lease.lease_id)
    pilot.jobs.UploadSandbox(
        iter([job_pb2.UploadSandboxRequest(header=header), job_pb2.UploadSandboxRequest(data=file.getvalue())])
    )
    pilot.pilots.FinishJob(
        pilot_pb2.FinishJobRequest(
            pilot_id=pilot_id,
            lease_id=lease.lease_id,
            result=job_pb2.AttemptResult(
                outcome=job_pb2.OUTCOME_PAYLOAD if exit_code else job_pb2.OUTCOME_OK,
                exit_code=exit_code,
                usage=job_pb2.Usage(wall_seconds=2.5, cpu_user_seconds=1.0),
                account="demo01",
                uid=20001,
                pilot_uid=990,
                worker_node="wn1",
                output_sandbox=packed.sha256,
                reason=Reason.PAYLOAD_FAILED.name if exit_code else "",
            ),
        )
    )


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "histogram.svg").write_text("<svg/>")
    return folder


SUBMIT = ("submit", "--name", "dimuon", "--input", "events.csv", "--output", "histogram.svg")


def test_an_owner_submits_watches_and_fetches(alice_shell: Shell, pilot: PilotClient, outputs: Path, rig: Rig) -> None:
    submitted = alice_shell.run(*SUBMIT, "--env", "A=b=c", "--time", "30m", "--", "./analyse.py", "events.csv")
    assert submitted.code == 0, submitted.err
    job_id = submitted.out.strip()
    assert submitted.out == f"{job_id}\n"
    assert "delegated credential" in submitted.err
    document = json.loads(alice_shell.ok("show", job_id, "-o", "json"))
    assert document["state"] == "activated"
    assert document["owner_dn"] == "/O=Toy Grid/CN=Alice"
    assert document["fqan"] == "/demo/Role=analysis"
    assert document["spec"]["environment"] == {"A": "b=c"}
    assert document["spec"]["wall_seconds"] == 1800

    pilot_id = register(pilot)
    lease = acquire(pilot, pilot_id)
    assert lease.job_id == job_id
    stream = pilot.jobs.DownloadSandbox(
        job_pb2.DownloadSandboxRequest(sha256=lease.spec.input_sandbox, lease_id=lease.lease_id)
    )
    archive = b"".join(piece.data for piece in stream)
    assert hashlib.sha256(archive).hexdigest() == lease.spec.input_sandbox
    assert check_archive(io.BytesIO(archive)).names == ("analyse.py", "events.csv")

    waited: list[Done] = []
    thread = threading.Thread(target=lambda: waited.append(alice_shell_wait(alice_shell, job_id)))
    thread.start()
    finish(pilot, pilot_id, lease, outputs)
    thread.join(300)
    assert [done.code for done in waited] == [0]
    assert f"{job_id} is finished" in waited[0].err

    shown = alice_shell.ok("show", job_id)
    assert "demo01 (uid 20001; the pilot's uid is 990)" in shown
    assert alice_shell.ok("logs", job_id) == "hello\n"
    assert alice_shell.ok("logs", "-f", "--stderr", job_id) == "oops\n"
    assert alice_shell.ok("fetch", job_id, "--to", "results") == "results/histogram.svg\n"
    assert (alice_shell.home / "results" / "histogram.svg").read_text() == "<svg/>"
    again = alice_shell.run("fetch", job_id, "-o", "results")
    assert again.code == 2
    assert "exists already" in again.err
    assert alice_shell.run("fetch", job_id, "-o", "results", "--overwrite").code == 0
    moves = [event["to_state"] for event in json.loads(alice_shell.ok("events", job_id, "--json"))]
    assert moves[-1] == "finished"
    assert "TIME" in alice_shell.ok("events", job_id)
    table = alice_shell.ok("ls").splitlines()
    assert table[0].split()[:3] == ["JOB", "STATE", "NAME"]
    assert table[1].split()[:3] == [job_id, "finished", "dimuon"]
    assert alice_shell.ok("ls", "-o", "ids", "--state", "finished") == f"{job_id}\n"
    assert alice_shell.ok("ls", "--state", "open") == ""


def test_a_plain_submit_delegates_an_rsa_key(alice_shell: Shell, owner: PilotClient) -> None:
    alice_shell.ok("submit", "--", "/bin/true")
    (stored,) = owner.credentials.ListCredentials(credential_pb2.ListCredentialsRequest()).credentials
    assert stored.key_kind == credential_pb2.KEY_KIND_RSA_2048


def real_program(shell: Shell, *words: str) -> "subprocess.Popen[str]":
    """Start the real program in a process of its own."""
    sdk = str(Path(pilotage.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", "from pilotage.cli import main; main()", *words],
        env={**shell.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": sdk},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def alice_shell_wait(shell: Shell, job_id: str) -> Done:
    """Wait by the real program: nothing but its own words may appear on its streams."""
    with real_program(shell, "wait", job_id, "--timeout", "120") as process:
        out, err = process.communicate(timeout=240)
    assert out == ""
    assert all(line.startswith("pilotage: ") for line in err.splitlines()), err
    return Done(process.returncode, out, err)


def test_an_interrupted_wait_ends_with_130(alice_shell: Shell) -> None:
    job_id = alice_shell.ok("submit", "--", "/bin/true").strip()
    with real_program(alice_shell, "wait", job_id) as process:
        assert process.stderr is not None
        assert "is activated" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "pilotage: interrupted\n")


def test_a_wait_outlives_a_server_that_comes_back(
    make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path, tmp_path: Path, outputs: Path
) -> None:
    rig = make_rig(server={"listen": f"127.0.0.1:{free_port()}"})
    shell = Shell(rig, alice_proxy, tmp_path / "home")
    job_id = shell.ok("submit", "--", "/bin/true").strip()
    with real_program(shell, "wait", job_id) as process:
        assert process.stderr is not None
        assert "is activated" in process.stderr.readline()
        rig.restart()
        pilot = rig.client(pilot_proxy)
        pilot_id = register(pilot)
        finish(pilot, pilot_id, acquire(pilot, pilot_id), outputs)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert err.count("is finished") == 1


def test_another_owner_sees_nothing_of_a_job(alice_shell: Shell, bob_shell: Shell) -> None:
    job_id = alice_shell.ok("submit", "--", "/bin/true").strip()
    for words in (
        ("show", job_id),
        ("logs", job_id),
        ("fetch", job_id, "--to", "stolen"),
        ("events", job_id),
        ("wait", job_id),
        ("cancel", job_id),
    ):
        done = bob_shell.run(*words)
        assert done.code == 3, (words, done)
        assert "JOB_NOT_FOUND" in done.err
        assert len(done.err.splitlines()) == 1
    assert not (bob_shell.home / "stolen").exists()
    assert bob_shell.ok("ls") == ""
    credential_id = json.loads(alice_shell.ok("show", job_id, "--json"))["credential_id"]
    for words in (("credential", "show"), ("credential", "destroy"), ("credential", "log")):
        done = bob_shell.run(*words, credential_id)
        assert (done.code, "CREDENTIAL_NOT_FOUND" in done.err) == (3, True), (words, done)


def test_a_failed_job_ends_a_wait_with_6(alice_shell: Shell, pilot: PilotClient, outputs: Path) -> None:
    job_id = alice_shell.ok("submit", "--", "/bin/false").strip()
    still = alice_shell.run("wait", job_id, "--timeout", "0.2")
    assert still.code == 6
    assert "still go on" in still.err
    pilot_id = register(pilot)
    finish(pilot, pilot_id, acquire(pilot, pilot_id), outputs, exit_code=3)
    done = alice_shell.run("wait", job_id, "--timeout", "120", "--json")
    assert done.code == 6
    assert "PAYLOAD_FAILED" in done.err
    assert "1 of 1 jobs did not succeed" in done.err


def test_a_cancelled_job_stays_cancelled(alice_shell: Shell) -> None:
    job_id = alice_shell.ok("submit", "--", "/bin/true").strip()
    alice_shell.ok("cancel", job_id)
    assert json.loads(alice_shell.ok("show", job_id, "--json"))["state"] == "cancelled"
    assert alice_shell.run("wait", job_id).code == 6
    again = alice_shell.run("cancel", job_id)
    assert (again.code, again.err) == (0, ""), "cancelling what is cancelled changes nothing and is no error"
    done = alice_shell.run("fetch", job_id)
    assert done.code == 3
    assert "no outputs" in done.err


def test_a_credential_is_used_again_until_it_is_destroyed(alice_shell: Shell) -> None:
    def credential_of(job_id: str) -> str:
        return str(json.loads(alice_shell.ok("show", job_id.strip(), "--json"))["credential_id"])

    first, second = alice_shell.run("submit", "--", "/bin/true"), alice_shell.run("submit", "--", "/bin/true")
    assert "delegated" in first.err
    assert second.err == ""
    credential_id = credential_of(first.out)
    assert credential_of(second.out) == credential_id
    key = alice_shell.home / ".local" / "share" / "pilotage" / "retrieval-keys" / credential_id
    assert key.stat().st_mode & 0o7777 == 0o600
    assert len(key.read_bytes()) == 32
    assert key.parent.stat().st_mode & 0o077 == 0
    assert f"{credential_id} is destroyed" in alice_shell.run("credential", "destroy", credential_id).err
    assert not key.exists()
    assert "destroyed" in alice_shell.ok("credential", "show", credential_id)
    third = alice_shell.run("submit", "--", "/bin/true")
    assert "delegated" in third.err
    assert credential_of(third.out) != credential_id


def test_a_destroyed_credential_holds_jobs_until_the_next_delegation(alice_shell: Shell) -> None:
    job_id = alice_shell.ok("submit", "--", "/bin/true").strip()
    credential_id = json.loads(alice_shell.ok("show", job_id, "--json"))["credential_id"]
    alice_shell.ok("credential", "destroy", credential_id)
    assert "CREDENTIAL_DESTROYED" in alice_shell.ok("show", job_id)
    assert "held" in alice_shell.ok("ls", "--state", "held")
    done = alice_shell.run("credential", "delegate")
    assert "1 held job released" in done.err
    assert json.loads(alice_shell.ok("show", job_id, "--json"))["state"] == "activated"


def test_a_submission_that_must_delegate_says_why_in_one_line(alice_shell: Shell) -> None:
    alice_shell.ok("credential", "delegate", "--hours", "3")
    fits = alice_shell.run("submit", "--time", "1h", "--", "/bin/true")
    assert fits.err == ""
    longer = alice_shell.run("submit", "--time", "6h", "--", "/bin/true")
    assert longer.code == 0
    (line,) = longer.err.splitlines()
    assert "delegated credential" in line
    assert line.endswith("(the one before ends in 2 h 59 min)")


def test_a_job_that_no_credential_outlives_is_refused_or_held(alice_shell: Shell, rig: Rig, alice_proxy: Path) -> None:
    wanted = ("--time", "20h", "--", "/bin/true")
    refused = alice_shell.run("submit", *wanted)
    assert (refused.code, "CREDENTIAL_TOO_SHORT" in refused.err) == (4, True)
    held = alice_shell.run("submit", "--hold", *wanted)
    assert held.code == 0, held.err
    document = json.loads(alice_shell.ok("show", held.out.strip(), "--json"))
    assert (document["state"], document["reason"]) == ("held", "CREDENTIAL_TOO_SHORT")
    assert "1 held job not released: it needs one that lives longer" in alice_shell.run("credential", "delegate").err


def test_a_running_jobs_proxy_is_shown(alice_shell: Shell, pilot: PilotClient) -> None:
    job_id = alice_shell.ok("submit", "--", "/bin/true").strip()
    lease = acquire(pilot, register(pilot))
    assert "proxy until" not in alice_shell.ok("show", job_id)
    answer = pilot.credentials.RetrieveCredential(retrieve_request(lease))
    shown = alice_shell.ok("show", job_id)
    assert "proxy until" in shown
    assert "not planned: it lasts for the job, or cannot be renewed" in shown
    assert json.loads(alice_shell.ok("show", job_id, "--json"))["proxy"]["issued"] == 1
    log = alice_shell.ok("credential", "log", lease.credential_id)
    serial = str(x509.load_der_x509_certificate(answer.chain[0]).serial_number)
    for told in (lease.lease_id, job_id, serial, "/O=Toy Grid/CN=Robot - pilot factory"):
        assert told in log
    (issued,) = json.loads(alice_shell.ok("credential", "log", lease.credential_id, "--json"))
    assert (issued["lease_id"], issued["serial"]) == (lease.lease_id, serial)
    assert datetime.datetime.fromisoformat(issued["expire_time"]) == answer.expire_time.ToDatetime(datetime.UTC)


def test_a_key_that_others_can_read_is_not_used(alice_shell: Shell) -> None:
    alice_shell.ok("submit", "--", "/bin/true")
    (key,) = (alice_shell.home / ".local" / "share" / "pilotage" / "retrieval-keys").iterdir()
    key.chmod(0o644)
    assert "delegated" in alice_shell.run("submit", "--", "/bin/true").err


def test_credentials_are_told_about_but_never_shown(alice_shell: Shell) -> None:
    made = alice_shell.run("credential", "delegate", "--hours", "2", "--name", "short", "--key", "ec")
    assert made.code == 0, made.err
    credential_id = made.out.strip()
    document = json.loads(alice_shell.ok("credential", "show", credential_id, "--json"))
    assert (document["name"], document["key_kind"], document["vo"]) == ("short", "ec_p256", "demo")
    assert "usable" in alice_shell.ok("credential", "list")
    assert alice_shell.ok("credential", "log", credential_id).split() == [
        "ISSUED",
        "ENDS",
        "JOB",
        "ATTEMPT",
        "LEASE",
        "PILOT",
        "SERIAL",
        "FROM",
    ]
    assert json.loads(alice_shell.ok("credential", "list", "--json"))[0]["credential_id"] == credential_id


@pytest.fixture
def encrypted(alice: Identity, tmp_path: Path) -> Path:
    """Alice's certificate and key in one PKCS#12 file with a pass phrase."""
    path = tmp_path / "alice.p12"
    command: list[str | Path] = [
        "openssl",
        "pkcs12",
        "-export",
        "-in",
        alice.cert_path,
        "-inkey",
        alice.key_path,
        "-out",
        path,
    ]
    subprocess.run([*command, "-passout", "pass:open sesame"], check=True, capture_output=True)
    path.chmod(0o600)
    return path


def test_a_credential_is_delegated_from_an_encrypted_certificate(
    make_rig: Callable[..., Rig], alice: Identity, alice_proxy: Path, encrypted: Path, tmp_path: Path
) -> None:
    rig = make_rig(roles={"owner": [alice.dn]})
    shell = Shell(rig, alice_proxy, tmp_path / "home")
    made = shell.run("credential", "delegate", "--from", str(encrypted), "--name", "eec", typed="open sesame\n")
    assert made.code == 0, made.err
    assert f"Pass phrase of {encrypted}" in made.err
    assert "open sesame" not in made.out + made.err
    document = json.loads(shell.ok("credential", "show", "eec", "--json"))
    assert (document["credential_id"], document["fqans"]) == (made.out.strip(), [])
    wrong = shell.run("credential", "delegate", "--from", str(encrypted), typed="guess\n")
    assert (wrong.code, "the pass phrase does not open it" in wrong.err) == (4, True)
    none = shell.run("credential", "delegate", "--from", str(encrypted))
    assert (none.code, "no pass phrase was given" in none.err) == (4, True)


def test_every_command_asks_once_for_an_encrypted_identity(
    make_rig: Callable[..., Rig], alice: Identity, alice_proxy: Path, encrypted: Path, tmp_path: Path
) -> None:
    rig = make_rig(roles={"owner": [alice.dn]})
    shell = Shell(rig, alice_proxy, tmp_path / "home")
    environ = {"X509_USER_PROXY": str(encrypted)}
    done = shell.run("submit", "--", "/bin/true", environ=environ, typed="open sesame\n")
    assert done.code == 0, done.err
    assert done.err.count("Pass phrase") == 1


def test_credentials_are_known_by_their_names(alice_shell: Shell) -> None:
    first = alice_shell.ok("credential", "delegate", "--name", "a", "--key", "ec").strip()
    second = alice_shell.ok("credential", "delegate", "--name", "b", "--key", "ec").strip()
    third = alice_shell.ok("credential", "delegate", "--name", "b", "--key", "ec").strip()
    assert json.loads(alice_shell.ok("credential", "show", "a", "--json"))["credential_id"] == first
    both = alice_shell.run("credential", "destroy", "b")
    assert both.code == 2
    assert second in both.err
    assert third in both.err
    alice_shell.ok("credential", "destroy", "a", second)
    job_id = alice_shell.ok("submit", "--credential", "b", "--", "/bin/true").strip()
    assert json.loads(alice_shell.ok("show", job_id, "--json"))["credential_id"] == third


def test_an_array_of_jobs_shares_one_sandbox(alice_shell: Shell) -> None:
    job_ids = alice_shell.ok("submit", "-n", "3", "--", "./analyse.py").split()
    documents = json.loads(alice_shell.ok("show", *job_ids, "--json"))
    assert [one["spec"]["environment"]["JOB_INDEX"] for one in documents] == ["0", "1", "2"]
    assert len({one["spec"]["input_sandbox"] for one in documents}) == 1


def test_the_caller_is_told_who_they_are(alice_shell: Shell, rig: Rig, pilot_proxy: Path) -> None:
    said = alice_shell.ok("whoami")
    assert "/O=Toy Grid/CN=Alice" in said
    assert "/demo/Role=analysis" in said
    document = json.loads(alice_shell.ok("whoami", "-o", "json"))
    assert "owner" in document["roles"]


def test_a_limited_proxy_does_not_submit(alice_shell: Shell, grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    proxy = grid.voms_proxy(alice, tmp_path / "limited", fqans=("/demo/Role=analysis",), limited=True)
    done = alice_shell.run("submit", "--", "/bin/true", environ={"X509_USER_PROXY": str(proxy)})
    assert done.code == 4
    assert "LIMITED_PROXY_REFUSED" in done.err


@pytest.mark.parametrize(
    ("change", "reason", "code"),
    [
        (lambda proxy: proxy.chmod(0o640), Reason.IDENTITY_FILE_UNUSABLE, 4),
        (lambda proxy: proxy.unlink(), Reason.IDENTITY_FILE_UNUSABLE, 4),
        (lambda proxy: proxy.write_text("rubbish"), Reason.IDENTITY_FILE_UNUSABLE, 4),
    ],
)
def test_an_unusable_proxy_is_told_in_one_line(
    change: Callable[[Path], object], reason: Reason, code: int, alice_shell: Shell, alice_proxy: Path, tmp_path: Path
) -> None:
    proxy = tmp_path / "proxy"
    proxy.write_bytes(alice_proxy.read_bytes())
    proxy.chmod(0o600)
    change(proxy)
    done = alice_shell.run("whoami", environ={"X509_USER_PROXY": str(proxy)})
    assert done.code == code
    assert done.err.startswith(f"pilotage: {reason.name}: {proxy}")
    assert len(done.err.splitlines()) == 1


def test_a_server_that_is_away_ends_with_5(alice_shell: Shell) -> None:
    done = alice_shell.run("-s", "localhost:1", "ls")
    assert done.code == 5
    assert done.err.startswith("pilotage: UNAVAILABLE: ")


def test_a_submission_that_is_repeated_is_one(rig: Rig, alice_proxy: Path, tmp_path: Path) -> None:
    with Client(
        rig.target,
        ca_dir=rig.grid.ca_dir,
        identity=load_identity(alice_proxy),
        environ={"HOME": str(tmp_path)},
    ) as client:
        spec = JobSpec(command=("/bin/true",))
        request_id = "b0b5a1d3-9f5a-4a53-9d2f-1f0b3c7f1a11"
        first = client.submit([spec], request_id=request_id)
        assert client.submit([spec], request_id=request_id) == first
        assert [job.job_id for job in client.list([JobState.ACTIVATED])] == list(first)
        with pytest.raises(PilotageError) as caught:
            client.submit([JobSpec(command=())])
        assert caught.value.reason is Reason.JOB_SPEC_INVALID
