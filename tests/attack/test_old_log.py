"""gLExec's and LCMAPS's log lines in their old form: for the tools that read them, whatever a caller says."""

import concurrent.futures
import grp
import os
import pwd
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import gratia_reader
from support.helper_rig import ANALYSIS, HelperRig
from support.log_daemon import as_pilot, devices

__all__ = ["devices"]

pytestmark = pytest.mark.root
PYTHON = os.path.realpath("/usr/bin/python3")
STAMP = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ "
QUOTED = r'"[ !#-Z\\-~]*"'
LINES = {
    "dn": rf"glexec: lcmaps: LCMAPS CRED FINAL: DN:{QUOTED}->mapped uid:'\d+',pgid:'\d+'(,sgid:'\d+')*",
    "fqan": rf"glexec: lcmaps: LCMAPS CRED FINAL: FQAN:{QUOTED}->mapped group:\d+\(\S+\)",
    "call": rf"glexec\[\d+\]: real_user\(\S+\),real_group\(\S+\)->mapped_user\(\S+\),mapped_group\(\S+\) "
    rf"cwd: {QUOTED} cmd: {QUOTED} \(={QUOTED}\) args: {QUOTED}( id: {QUOTED})?",
    "started": r"glexec\.mon\[\d+#\d+\]: Started, target uid \d+",
    "who": rf"glexec\.mon\[\d+#\d+\]: Used DN: {QUOTED}",
    "vo": rf"glexec\.mon\[\d+#\d+\]: Used VO: {QUOTED} Issuer: {QUOTED}",
    "group": rf"glexec\.mon\[\d+#\d+\]: Used FQAN: {QUOTED}",
    "ended": r"glexec\.mon\[\d+#\d+\]: Terminated, CPU user \d+ system \d+",
}
ORDER = list(LINES)


@pytest.fixture
def old(rig: HelperRig) -> Iterator[Path]:
    """The old lines' file, while they are wanted."""
    path = rig.prefix / "log" / "old.log"
    with rig.configured(f"legacy_log_file = {path}"):
        yield path
    path.unlink(missing_ok=True)


def kinds(text: str, stamp: str = STAMP) -> list[str]:
    """What each line is; one that is nothing is an error."""
    found = []
    for line in text.splitlines():
        (kind,) = [kind for kind, form in LINES.items() if re.fullmatch(stamp + form, line)] or [line]
        assert kind in LINES, line
        found.append(kind)
    return found


def test_a_run_is_told_in_the_old_words(rig: HelperRig, old: Path) -> None:
    done = rig.run("/usr/bin/printf", "%s", "a b", options=["--job-id", "panda-17"])
    assert (done.code, done.out) == (0, "a b")
    text = old.read_text()
    assert kinds(text) == ORDER
    start, end = done.line("start"), done.line("end")
    account = pwd.getpwnam(str(start["account"]))
    group = grp.getgrgid(account.pw_gid).gr_name
    lines = dict(zip(ORDER, (re.sub(STAMP, "", line) for line in text.splitlines()), strict=True))
    dn = rig.owners[0].dn
    assert f"DN:\"{dn}\"->mapped uid:'{account.pw_uid}',pgid:'{account.pw_gid}'" in lines["dn"]
    assert f'FQAN:"{ANALYSIS}"->mapped group:{account.pw_gid}({group})' in lines["fqan"]
    pilot = rig.pilot
    assert lines["call"].partition("]: ")[2] == (
        f"real_user({pilot.pw_name}),real_group({grp.getgrgid(pilot.pw_gid).gr_name})->"
        f"mapped_user({account.pw_name}),mapped_group({group}) "
        'cwd: "/" cmd: "/usr/bin/printf" (="/usr/bin/printf") args: "%s a b" id: "panda-17"'
    )
    assert lines["ended"].endswith(
        f"CPU user {int(float(str(end['cpu_user_seconds'])))} system {int(float(str(end['cpu_system_seconds'])))}"
    )


def test_the_callers_folder_is_named_as_it_was(rig: HelperRig, old: Path) -> None:
    assert rig.run("/usr/bin/true", program=["/usr/bin/env", "--chdir=/var/tmp"]).code == 0
    assert 'cwd: "/var/tmp" cmd: "/usr/bin/true"' in old.read_text()


def test_a_reader_of_the_old_accounting_finds_its_jobs(rig: HelperRig, old: Path) -> None:
    before = int(time.time())
    spin = "import os\nwhile os.times().user < 1.2: pass"
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", PYTHON, "-c", spin])
    assert process.wait(120) == 0
    ((ids, job),) = gratia_reader.read(old.read_text()).items()
    assert ids[1] == process.pid
    assert (job.dn, job.vo, job.fqan) == (rig.owners[0].dn, "demo", ANALYSIS)
    assert job.uid in rig.uids
    assert before <= job.start <= job.end <= time.time() + 1
    assert job.user_seconds >= 1
    assert job.system_seconds >= 0


def test_a_command_that_cannot_be_executed_ends_for_the_old_accounting_too(rig: HelperRig, old: Path) -> None:
    assert rig.run("/nowhere").reason == "COMMAND_UNUSABLE"
    (job,) = gratia_reader.read(old.read_text()).values()
    assert (job.user_seconds, job.system_seconds) == (0, 0)


def test_what_is_refused_is_not_in_the_old_log(rig: HelperRig, old: Path) -> None:
    with rig.mapped(""):
        assert rig.run("/usr/bin/id").reason == "NO_MAPPING"
    assert rig.run(verb="map").code == 0
    assert old.read_text() == ""


@pytest.mark.parametrize(
    "text",
    [
        'x" args: "y',
        "x\nglexec.mon[1#2]: Started, target uid 0",
        'glexec.mon[1#2]: Used DN: "/O=x/CN=somebody else"',
        "x\r\x1b[2J\x00"[:-1],
        "\\x22 \u00e9 \u2028",
        "%s%n%s%n",
        "a" * 100_000,
        "\n" * 5_000,
    ],
    ids=["quotes", "newline", "forged", "terminal", "unicode", "format", "long", "many"],
)
def test_nothing_that_a_caller_says_makes_another_line(rig: HelperRig, old: Path, text: str) -> None:
    done = rig.run("/usr/bin/true", text, text, options=["--job-id", text[:60]])
    assert done.code == 0
    assert kinds(old.read_text()) == ORDER
    assert max(map(len, old.read_bytes().splitlines())) < 4096
    (job,) = gratia_reader.read(old.read_text()).values()
    assert (job.dn, job.uid) == (rig.owners[0].dn, done.line("start")["uid"])


def test_fifty_runs_at_once_write_whole_lines(rig: HelperRig, old: Path) -> None:
    proxies = [rig.proxy(n) for n in range(3)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        runs = list(pool.map(lambda n: rig.run("/usr/bin/true", "x" * 2000, proxy=proxies[n % 3]), range(50)))
    assert {done.code for done in runs} == {0}
    found = kinds(old.read_text())
    assert {kind: found.count(kind) for kind in ORDER} == dict.fromkeys(ORDER, 50)
    jobs = gratia_reader.read(old.read_text())
    assert len(jobs) == 50
    assert all(job.start and job.end and job.dn for job in jobs.values())


def test_a_renewal_by_glexec_is_a_mapping_and_no_job(rig: HelperRig, old: Path) -> None:
    with rig.configured(
        f"legacy_log_file = {old}", change=lambda text: text.replace("vos = demo\n", "vos = demo\nglexec = yes\n")
    ):
        done = rig.run(verb="glexec", options=["--target-proxy", "none"])
    assert done.code == 0
    assert kinds(old.read_text()) == ["dn", "fqan", "call"]


@pytest.mark.parametrize("how", ["full", "folder", "not root's", "missing folder"])
def test_a_file_that_does_not_take_the_lines_refuses_the_run(rig: HelperRig, how: str) -> None:
    small = rig.prefix / "old-small"
    small.mkdir()
    small.chmod(0o755)
    path = small / "old.log"
    mounted = False
    try:
        if how == "full":
            words = ["mount", "-t", "tmpfs", "-o", "size=4k,mode=755", "tmpfs", str(small)]
            if subprocess.run(words, check=False).returncode:
                pytest.skip("cannot mount a small file system here")
            mounted = True
            path.write_bytes(b"x" * 4095 + b"\n")
        elif how == "folder":
            path.mkdir()
        elif how == "not root's":
            path.touch()
            os.chown(path, rig.pilot.pw_uid, -1)
        else:
            path = small / "no" / "old.log"
        with rig.configured(f"legacy_log_file = {path}"):
            done = rig.run("/usr/bin/id")
        assert (done.code, done.reason, done.out) == (202, "AUDIT_UNAVAILABLE", "")
        assert (rig.processes(), rig.left()) == ([], [])
    finally:
        if mounted:
            subprocess.run(["umount", str(small)], check=False)
        subprocess.run(["rm", "-r", str(small)], check=True)


def test_the_log_daemon_gets_them_with_the_old_names(rig: HelperRig, devices: tuple[socket.socket, list[str]]) -> None:
    server, words = devices
    with rig.configured("legacy_log = yes"):
        done = rig.run("/usr/bin/true", user="root", program=as_pilot(rig, words))
    assert (done.code, done.err) == (0, "")
    packets = [server.recv(8192).decode() for _ in ORDER]
    assert all(packet.startswith("<29>glexec") for packet in packets)
    assert kinds("\n".join(packets), stamp="<29>") == ORDER


def test_without_a_log_daemon_the_old_lines_cannot_be_promised(rig: HelperRig) -> None:
    if Path("/dev/log").exists():
        pytest.skip("this machine has a log daemon")
    with rig.configured("legacy_log = yes"):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.reason, done.out) == (202, "AUDIT_UNAVAILABLE", "")
