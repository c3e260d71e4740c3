"""The callers of gLExec, step by step as their own code does it, work unchanged."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.glexec_rig import SHELL, Done, GlexecRig, sequence

pytestmark = pytest.mark.root

PYTHON = os.path.realpath("/usr/bin/python3")
BASH = os.path.realpath("/bin/bash")


@pytest.fixture
def cwd(glexec: GlexecRig) -> Iterator[Path]:
    """The pilot's working directory, open for others to pass through."""
    folder = glexec.folder(0o755, glexec.rig.pilot.pw_uid)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def private(glexec: GlexecRig, cwd: Path, name: str = "user_proxy", mode: int = 0o600) -> str:
    """The payload's proxy as a file of the pilot's."""
    path = cwd / name
    path.write_bytes(glexec.rig.proxy().read_bytes())
    return str(glexec.rig.give(path, mode))


# PanDA pilot 1


def test_pandas_health_test(glexec: GlexecRig) -> None:
    """Status 0 and an empty standard error, or the job would run unswitched."""
    assert glexec.run("/bin/true", X509_USER_PROXY=str(glexec.rig.proxy())).said == (0, "", "")


def test_pandas_job(glexec: GlexecRig, cwd: Path) -> None:
    proxy = private(glexec, cwd, mode=0o700)
    made = glexec.call(glexec.sbin / "mkgltempdir", "-t", "777", cwd, GLEXEC_CLIENT_CERT=proxy, cwd=cwd)
    assert (made.code, made.err) == (0, "")
    sandbox = Path(made.out.strip())
    assert sandbox.stat().st_mode & 0o7777 == 0o777
    assert sandbox.parent.stat().st_mode & 0o7777 == 0o755

    variables = {
        "GLEXEC_CLIENT_CERT": proxy,
        "GLEXEC_SOURCE_PROXY": proxy,
        "GLEXEC_TARGET_PROXY": f"{sandbox}/user_proxy",
        "PANDA_JOB": "12 34",
        "LD_LIBRARY_PATH": "/opt/somewhere",
    }
    payload = (
        "import json, os\n"
        "state = json.load(open('data.json'))\n"
        "state.update(uid=os.getuid(), job=os.environ['PANDA_JOB'], library=os.environ['LD_LIBRARY_PATH'],\n"
        "             proxy=os.environ['X509_USER_PROXY'], home=os.environ['HOME'])\n"
        "open('out.json', 'w').write(json.dumps(state))\n"
        "print('payload says so')\n"
    )
    for name, text in (("glexec_aux.py", payload), ("data.json", '{"workdir": "x"}')):
        copied = glexec.call(SHELL, "-c", f"cat > {sandbox}/{name} && chmod 777 {sandbox}/{name}", given=text.encode())
        assert copied.said == (0, "", "")
    wrapped = glexec.call(glexec.sbin / "glexec_wrapenv.pl", **variables, HOME=str(cwd))
    assert (wrapped.code, wrapped.err) == (0, "")
    line = f"cd {sandbox}; {PYTHON} -m glexec_aux 2>&1;"
    unwrap = glexec.sbin / "glexec_unwrapenv.pl"
    done = glexec.run(unwrap, "--", line, **variables, GLEXEC_ENV=wrapped.out)
    assert done.said == (0, "payload says so\n", "")
    account = glexec.account()
    assert json.loads((sandbox / "out.json").read_text()) == {
        "workdir": "x",
        "uid": account.pw_uid,
        "job": "12 34",
        "library": "/opt/somewhere",
        "proxy": f"{sandbox}/user_proxy",
        "home": account.pw_dir,
    }
    removed = glexec.call(glexec.sbin / "mkgltempdir", "-r", sandbox, "-f", GLEXEC_CLIENT_CERT=proxy, cwd=cwd)
    assert removed.said == (0, "", "")
    assert os.listdir(cwd) == ["user_proxy"]


# DIRAC


def test_diracs_test_and_payload_and_renewal(glexec: GlexecRig, cwd: Path) -> None:
    proxy = private(glexec, cwd)
    folder = glexec.folder(0o755)
    variables = {"GLEXEC_CLIENT_CERT": proxy, "GLEXEC_SOURCE_PROXY": proxy}
    script = "id; hostname; date; ls -l $X509_USER_PROXY"
    test = glexec.run("/bin/bash", "-lc", script, **variables)
    assert (test.code, test.err) == (0, "")
    assert f"uid={glexec.account().pw_uid}(" in test.out
    target = {"GLEXEC_TARGET_PROXY": f"{folder}/proxy"}
    payload = glexec.run(BASH, "-lc", f"cp $X509_USER_PROXY {folder}/seen; exit 3", **variables, **target)
    assert payload.said == (3, "", "")
    newer = glexec.rig.proxy(fqans=("/demo/Role=analysis", "/demo"))
    Path(proxy).write_bytes(newer.read_bytes())
    renewal = glexec.run(**variables, **target)
    assert renewal.said == (0, "", "")
    assert (folder / "proxy").read_bytes() == newer.read_bytes() != (folder / "seen").read_bytes()


# HTCondor, GLEXEC_JOB


def condor(glexec: GlexecRig, *command: str | Path, given: bytes = b"") -> Done:
    return glexec.run(*command, given=given, GLEXEC_TARGET_PROXY="/dev/null")


RECEIVE = """
import os, socket, sys
s = socket.socket(fileno=0)
environment = {}
size = int.from_bytes(s.recv(4, socket.MSG_WAITALL), "big")
for line in s.recv(size, socket.MSG_WAITALL).decode().splitlines():
    name, _, value = line.partition("=")
    environment[name] = value
_, fds, _, _ = socket.recv_fds(s, 1, 3)
for number, fd in enumerate(fds):
    os.dup2(fd, number)
os.execve(sys.argv[4], sys.argv[4:], environment)
"""


def test_condors_setup_run_proxy_update_kill_and_cleanup(glexec: GlexecRig, cwd: Path) -> None:
    execute = glexec.folder(0o1777, glexec.rig.pilot.pw_uid)
    sandbox = execute / "dir_77"
    (cwd / "input").write_text("the job's input\n")
    packed = subprocess.run(["tar", "-C", str(cwd), "-c", "input"], capture_output=True, check=True).stdout
    setup = f"/usr/bin/install -m 755 -d {sandbox} && cd {sandbox} && tar -x"
    assert condor(glexec, SHELL, "-c", setup, given=packed).said == (0, "", "")
    account = glexec.account()
    assert (sandbox / "input").stat().st_uid == account.pw_uid

    wrapper = execute / "condor_glexec_job_wrapper"
    wrapper.write_text(f"#!/usr/bin/python3 -I\n{RECEIVE}")
    wrapper.chmod(0o755)
    run = ("-c", f'cd {sandbox} && exec "$@"', "cd-and-exec", wrapper, "-", "-", "-")
    job = (SHELL, "-c", "echo $$ > pid; cat input; echo $JOB; trap 'exit 55' TERM; while :; do sleep 0.05; done")
    ours, theirs = socket.socketpair()
    out_read, out_write = os.pipe()
    with ours, theirs, open("/dev/null", "rb") as null:
        process = glexec.start(
            *(glexec.program, SHELL, *run, *job),
            environment=glexec.variables(GLEXEC_TARGET_PROXY="/dev/null"),
            stdin=theirs.fileno(),
        )
        told = b"JOB=77\nPATH=/usr/bin:/bin\n"
        ours.sendall(len(told).to_bytes(4, "big") + told)
        socket.send_fds(ours, [b"f"], [null.fileno(), out_write, out_write])
        os.close(out_write)
        with os.fdopen(out_read) as output:
            assert [output.readline(), output.readline()] == ["the job's input\n", "77\n"]
            pid = int((sandbox / "pid").read_text())
            update = f"umask 077; cat > {sandbox}/.new && mv {sandbox}/.new {sandbox}/proxy"
            given = glexec.rig.proxy().read_bytes()
            assert condor(glexec, SHELL, "-c", update, given=given).said == (0, "", "")
            assert (sandbox / "proxy").read_bytes() == given
            assert (sandbox / "proxy").stat().st_mode & 0o7777 == 0o600
            assert process.poll() is None
            kill = condor(glexec, SHELL, "-c", f"/bin/kill -TERM {pid}")
            assert kill.said == (0, "", "")
            assert process.wait(timeout=120) == 55
    process.communicate()
    back = glexec.start(
        *(glexec.program, SHELL, "-c", f"cd {sandbox} && tar -c ."),
        environment=glexec.variables(GLEXEC_TARGET_PROXY="/dev/null"),
    )
    archive, err = back.communicate(timeout=120)
    assert (back.returncode, err) == (0, b"")
    listed = subprocess.run(["tar", "-t"], input=archive, capture_output=True, check=True).stdout.decode().split()
    assert set(listed) == {"./", "./input", "./pid", "./proxy"}
    assert condor(glexec, SHELL, "-c", f"rm -rf {sandbox}").said == (0, "", "")
    assert not sandbox.exists()


def test_condors_kill_with_every_descriptor_closed(glexec: GlexecRig) -> None:
    """condor_procd closes 0 to 254 before it calls."""
    process = glexec.start(glexec.program, SHELL, "-c", "echo $$; exec sleep 60")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    environment = glexec.variables(GLEXEC_TARGET_PROXY="/dev/null")
    kill = glexec.start(
        *(glexec.program, SHELL, "-c", f"/bin/kill -KILL {pid}"),
        environment=environment,
        prepare=lambda: os.closerange(0, 3),
    )
    kill.communicate(timeout=120)
    assert kill.returncode == 0
    assert process.wait(timeout=120) == 128 + signal.SIGKILL
    process.communicate()


def test_condor_tells_what_it_may_try_again(glexec: GlexecRig) -> None:
    with glexec.rig.mapped('"/other" .pool\n'):
        assert condor(glexec, "/bin/true").code == 203
    assert condor(glexec, "/bin/no-such-program").code == 201


# GlideinWMS


def test_the_two_tests_of_glideinwms(glexec: GlexecRig, cwd: Path) -> None:
    script = cwd / "glexec_test.sh"
    script.write_text('#!/bin/sh\nid && echo "Hello World"\n')
    script.chmod(0o755)
    proxy = private(glexec, cwd)
    for words in ((SHELL, "-c", 'id && echo "Hello World"'), (str(script),)):
        done = glexec.run(*words, GLEXEC_CLIENT_CERT=proxy)
        assert (done.code, done.err) == (0, "")
        assert done.out.splitlines()[-1] == "Hello World"


# BLAH


def test_blahs_mapping_renewal_and_kill(glexec: GlexecRig, cwd: Path) -> None:
    proxy = private(glexec, cwd)
    target = glexec.folder(0o755) / "job.proxy.glexec"
    variables = {
        "GLEXEC_MODE": "lcmaps_get_account",
        "GLEXEC_CLIENT_CERT": proxy,
        "GLEXEC_SOURCE_PROXY": proxy,
        "GLEXEC_TARGET_PROXY": str(target),
    }
    first = glexec.run("/bin/pwd", **variables)
    mark = target.stat().st_ino
    again = glexec.run("/bin/pwd", **variables)
    assert sequence(first, again) == [(0, ""), (0, "")]
    assert target.stat().st_ino != mark
    child = glexec.start(
        *(glexec.program, SHELL, "-c", "echo $$; sleep 60 & exec sleep 60"), environment=glexec.variables(**variables)
    )
    assert child.stdout is not None
    group = int(child.stdout.readline())
    # BLAH leaves the "--" out; Debian's procps 4.0.2 then reads -1 for any group and kills all of the account.
    killed = glexec.run("/bin/kill", "-s", "TERM", "--", f"-{group}", **variables)
    assert (killed.code, killed.err) == (0, "")
    assert child.wait(timeout=120) == 128 + signal.SIGTERM
    child.communicate()


# CRAB, and the sites' tests


def test_crab_runs_a_command_behind_unwrapenv(glexec: GlexecRig) -> None:
    wrapped = glexec.call(glexec.sbin / "glexec_wrapenv.pl", CRAB="yes")
    unwrap = glexec.sbin / "glexec_unwrapenv.pl"
    done = glexec.run(unwrap, "--", "printenv", "CRAB", GLEXEC_ENV=wrapped.out)
    assert done.said == (0, "yes\n", "")


def test_osgs_probe_sees_another_uid(glexec: GlexecRig) -> None:
    done = glexec.run("/usr/bin/id", "-u")
    assert (done.code, done.err) == (0, "")
    assert int(done.out) in glexec.rig.uids


def test_the_nagios_probes_sequence(glexec: GlexecRig, cwd: Path) -> None:
    """One target in /tmp for all steps, mkgltempdir without arguments, copies through /bin/cp."""
    account = glexec.account()
    target = f"/tmp/x509up_u{glexec.rig.pilot.pw_uid}.glexec.{os.getpid()}"
    variables = {"GLEXEC_TARGET_PROXY": target, "TMPDIR": str(cwd)}
    steps = [glexec.run("/usr/bin/id", "-u", **variables)]
    made = glexec.call(glexec.sbin / "mkgltempdir", **variables)
    assert (made.code, made.err) == (0, "")
    folder = made.out.strip()
    payload = cwd / "payload.sh"
    payload.write_text("#!/bin/bash\necho Hello world\n")
    payload.chmod(0o755)
    wrapper = cwd / "wrapper.sh"
    wrapper.write_text(f"#!/bin/bash\ncd {folder}\n./payload.sh > payload.out\nchmod a+rx .\nchmod a+r ./*\n")
    wrapper.chmod(0o755)
    steps += [glexec.run("/bin/cp", source, folder, **variables) for source in (payload, wrapper)]
    steps.append(glexec.run(f"{folder}/wrapper.sh", **variables))
    read = glexec.call("/bin/cat", f"{folder}/payload.out")
    assert read.said == (0, "Hello world\n", "")
    steps.append(glexec.run(SHELL, "-c", f"/bin/rm {folder}/*", **variables))
    steps.append(glexec.call(glexec.sbin / "mkgltempdir", "-r", folder, **variables))
    try:
        assert sequence(*steps) == [(0, "")] * 6
        assert Path(target).lstat().st_uid == account.pw_uid
        assert not Path(folder).parent.exists()
    finally:
        Path(target).unlink()


# mkgltempdir by itself


def test_mkgltempdirs_modes_and_owner(glexec: GlexecRig, cwd: Path) -> None:
    made = glexec.call(glexec.sbin / "mkgltempdir", "-t", "750", "-m", "711", cwd)
    folder = Path(made.out.strip())
    status, parent = folder.stat(), folder.parent.stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (glexec.account().pw_uid, 0o750)
    assert (parent.st_uid, parent.st_mode & 0o7777) == (glexec.rig.pilot.pw_uid, 0o711)
    assert glexec.call(glexec.sbin / "mkgltempdir", "-r", folder).said == (0, "", "")
    assert os.listdir(cwd) == []


def test_mkgltempdir_does_not_remove_what_is_in_use_without_force(glexec: GlexecRig, cwd: Path) -> None:
    folder = Path(glexec.call(glexec.sbin / "mkgltempdir", cwd).out.strip())
    assert glexec.shell(f"mkdir -p {folder}/a/b && echo x > {folder}/a/b/c && chmod 500 {folder}/a/b").code == 0
    refused = glexec.call(glexec.sbin / "mkgltempdir", "-r", folder)
    assert (refused.code, folder.exists()) == (1, True)
    assert "not empty" in refused.err
    forced = glexec.call(glexec.sbin / "mkgltempdir", "-r", folder, "-f")
    assert forced.said == (0, "", "")
    assert os.listdir(cwd) == []


def test_mkgltempdir_removes_only_what_it_made(glexec: GlexecRig, cwd: Path) -> None:
    other = glexec.folder(0o777, glexec.rig.pilot.pw_uid)
    folder = Path(glexec.call(glexec.sbin / "mkgltempdir", cwd).out.strip())
    glexec.shell(f"ln -s {other} {folder}/link")
    (other / "kept").write_text("x")
    for wrong in (other, cwd, folder / "link", folder / "..", Path("/"), cwd / "nothing"):
        refused = glexec.call(glexec.sbin / "mkgltempdir", "-r", wrong, "-f")
        assert refused.code == 1, wrong
    assert glexec.call(glexec.sbin / "mkgltempdir", "-r", folder, "-f").code == 0
    assert os.listdir(other) == ["kept"]


def test_mkgltempdir_hands_on_glexecs_code_and_leaves_nothing(glexec: GlexecRig, cwd: Path) -> None:
    with glexec.rig.mapped('"/other" .pool\n'):
        refused = glexec.call(glexec.sbin / "mkgltempdir", cwd)
    assert (refused.code, refused.out) == (203, "")
    assert glexec.call(glexec.sbin / "mkgltempdir", cwd, GLEXEC_CLIENT_CERT="").code == 201
    assert os.listdir(cwd) == []
