"""What a payload has of its caller, and what it leaves to the next one (checklist C8, D3, D9, E9, E11, E12)."""

import concurrent.futures
import contextlib
import os
import pwd
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import EXTRA_GROUP, PILOT, SECOND_PILOT, HelperRig, command
from support.tracing import traced

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
PYTHON = os.path.realpath("/usr/bin/python3")


@pytest.fixture(autouse=True)
def _alone(rig: HelperRig) -> Iterator[None]:
    yield
    rig.end_calls()


# what it has


def test_the_payloads_session_keyring_is_not_the_pilots(rig: HelperRig) -> None:
    attack = str(rig.attack("keyring"))
    words = ["run", "--proxy", str(rig.proxy()), "--", attack, "take", "SERIAL"]
    process = rig.start(words, program=[attack, "give"])
    out, err = process.communicate(timeout=120)
    if process.returncode == 77:
        pytest.skip(err.decode().strip())
    assert (process.returncode, out, err) == (0, b"tried\n", b"")
    # The attack finds everything when nobody stands between.
    direct = subprocess.run(
        [attack, "give", attack, "take", "SERIAL"],
        capture_output=True,
        text=True,
        user=rig.pilot.pw_uid,
        group=rig.pilot.pw_gid,
        check=False,
    )
    assert "the same session" in direct.stdout
    assert "found the key" in direct.stdout


def test_the_payloads_groups_are_the_accounts_and_no_more(rig: HelperRig) -> None:
    account = str(rig.run("/usr/bin/true").line("start")["account"])
    command("usermod", "-a", "-G", EXTRA_GROUP, account)
    try:
        entry = pwd.getpwnam(account)
        with rig.configured("\n[isolation]\nnamespaces = auto"):
            done = rig.run("/usr/bin/id", "-G")
        wanted = sorted(os.getgrouplist(account, entry.pw_gid))
        assert len(wanted) == 2
        assert sorted(map(int, done.out.split())) == wanted
        assert rig.pilot.pw_gid not in wanted
    finally:
        command("gpasswd", "-d", account, EXTRA_GROUP)
    assert rig.run("/usr/bin/id", "-G").out.split() == [str(entry.pw_gid)]


def test_a_pilot_in_many_groups_hands_on_none(rig: HelperRig) -> None:
    groups = [*range(5000, 5060), 0, 4, 27]
    ids = [f"--reuid={rig.pilot.pw_uid}", f"--regid={rig.pilot.pw_gid}", f"--groups={','.join(map(str, groups))}"]
    done = rig.run("/usr/bin/id", "-G", user="root", program=["setpriv", *ids])
    assert done.code == 0, done.err
    assert done.out.split() == [str(done.line("start")["gid"])]


# what it leaves

QUEUE = b"/pilotage-attack"


def test_objects_of_every_kind_are_gone_after_the_end(rig: HelperRig) -> None:
    """Nothing of an account that only this run had: System V, POSIX, sockets, pipes, files of every kind."""
    mounted = any(line.split()[2] == "mqueue" for line in Path("/proc/mounts").read_text().splitlines())
    made = False
    place = Path("/dev/mqueue")
    if not mounted:
        made = not place.exists()
        place.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", "mqueue", "mqueue", str(place)], capture_output=True, check=False).returncode:
            if made:
                place.rmdir()
            pytest.skip("this machine has no POSIX message queues")
    code = (
        "import ctypes, os, socket\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"print(libc.mq_open({QUEUE!r}, os.O_CREAT | os.O_RDWR, 0o600, None) >= 0)\n"
        "os.open('/dev/shm/sem.pilotage-attack', os.O_CREAT | os.O_RDWR)\n"
        "for folder in ('/tmp', '/var/tmp', '/dev/shm'):\n"
        "  base = folder + '/pilotage-attack-'\n"
        "  os.mkfifo(base + 'fifo'); os.symlink('/etc', base + 'link'); os.mkdir(base + 'dir')\n"
        "  socket.socket(socket.AF_UNIX).bind(base + 'socket')\n"
        "  open(base + 'dir/.hidden', 'w'); os.chmod(base + 'dir', 0)\n"
        "  open(base + chr(10) + '*', 'w')\n"
    )
    script = f'{PYTHON} -c "$1" && ipcmk -M 4096 -S 2 -Q >/dev/null'
    try:
        done = rig.run(SH, "-c", script, "sh", code)
        assert (done.code, done.out) == (0, "True\n"), done.err
        assert (done.line("end")["left_files"], done.line("end")["reason"]) == (0, "")
        uid = int(str(done.line("start")["uid"]))
        places = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), place)
        assert [path for folder in places for path in folder.iterdir() if path.lstat().st_uid == uid] == []
        for kind in ("shm", "msg", "sem"):
            rows = [row.split() for row in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()]
            column = rows[0].index("uid")
            assert [row for row in rows[1:] if row[column] == str(uid)] == []
        assert rig.left() == []
    finally:
        if not mounted:
            subprocess.run(["umount", str(place)], check=False)
            if made:
                place.rmdir()


def swept(trace: Path) -> list[str]:
    """The directories that the one cleaner of a traced run was told to go through."""
    (line,) = [line for line in trace.read_text().splitlines() if 'pilotage-sweep", [' in line and "= 0" in line]
    words = re.findall(r'"([^"]*)"', line.partition("[")[2].partition("]")[0])
    assert words[3] == "account"
    return words[4:]


def test_shared_directories_are_gone_through_when_something_has_changed_in_them(rig: HelperRig) -> None:
    """And what the account has there then goes, also when it was not this run that left it."""
    if rig.no_namespaces:
        pytest.skip(f"no namespaces here: {rig.no_namespaces}")
    entry = pwd.getpwnam(str(rig.run("/usr/bin/true").line("start")["account"]))
    call = f"{rig.program} run --proxy {rig.proxy()} -- /usr/bin/true"
    trace = f"strace -f -u {PILOT} -s 4096 -e trace=execve -o {rig.prefix}"
    script = f"""
        for folder in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
        sleep 4
        {trace}/first {call}
        {trace}/still {call}
        setpriv --reuid={entry.pw_uid} --regid={entry.pw_gid} --clear-groups touch /var/tmp/stray
        {trace}/changed {call}
        ls /var/tmp
    """
    done = subprocess.run(
        ["unshare", "-m", SH, "-e", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {"/tmp", "/var/tmp", "/dev/shm"} <= set(swept(rig.prefix / "first"))
    assert swept(rig.prefix / "still") == []
    assert swept(rig.prefix / "changed") == ["/var/tmp"]


def test_a_payload_cannot_leave_a_job_for_later(rig: HelperRig) -> None:
    """at and cron take jobs through set-group-id programs into spools; without new privileges there is no way in."""
    spool, program = rig.prefix / "spool", rig.attacks / "crontab"
    shutil.copyfile(os.path.realpath("/usr/bin/touch"), program)
    spool.mkdir(exist_ok=True)
    os.chown(spool, 0, 27)
    spool.chmod(0o1730)
    os.chown(program, 0, 27)
    program.chmod(0o2755)
    try:
        # Somebody with new privileges gets in by it.
        direct = [program, spool / "direct"]
        subprocess.run(direct, user=rig.pilot.pw_uid, group=rig.pilot.pw_gid, extra_groups=[], check=True)
        done = rig.run(program, spool / "payload")
        assert done.code == 1
        assert [path.name for path in spool.iterdir()] == ["direct"]
        left = [
            path
            for folder in ("/var/spool/cron", "/var/spool/at", "/var/spool/cron/crontabs", "/var/spool/cron/atjobs")
            if Path(folder).is_dir()
            for path in Path(folder).iterdir()
            if path.lstat().st_uid in rig.uids
        ]
        assert left == []
    finally:
        shutil.rmtree(spool)
        program.unlink()


# records and configuration


@contextlib.contextmanager
def granted(path: Path, entry: str) -> Iterator[None]:
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    if subprocess.run(["setfacl", "-m", entry, str(path)], capture_output=True, check=False).returncode:
        pytest.skip("this file system has no access lists")
    try:
        yield
    finally:
        subprocess.run(["setfacl", "-b", str(path)], check=True)


def test_a_right_to_write_by_an_access_list_is_seen(rig: HelperRig) -> None:
    for path in (rig.config, rig.etc):
        mode = path.stat().st_mode & 0o7777
        with granted(path, f"u:{PILOT}:rwx"):
            done = rig.run("/usr/bin/id")
            assert (done.code, done.reason) == (202, "HELPER_CONFIG_UNUSABLE"), path
        path.chmod(mode)
    for path, reason in ((rig.etc / "grid-mapfile", "MAP_FILE_UNUSABLE"), (rig.gridmapdir, "POOL_UNUSABLE")):
        mode = path.stat().st_mode & 0o7777
        with granted(path, f"u:{PILOT}:rwx"):
            assert rig.run("/usr/bin/id").reason == reason
        path.chmod(mode)
    assert rig.run("/usr/bin/true").code == 0


def test_the_configuration_is_opened_once_by_each_reader_and_judged_by_its_descriptor(rig: HelperRig) -> None:
    calls = "open,openat,openat2,stat,lstat,newfstatat,statx,access,faccessat,faccessat2,readlink"
    done = traced(rig, ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"], calls)
    assert done.code == 0, done.err
    name = rig.config.name
    touched = [call for call in done.of(*calls.split(",")) if any(path.endswith(name) for path in call.paths)]
    by_program = Counter(call.program for call in touched)
    assert set(by_program.values()) == {1}, by_program
    assert len(by_program) <= 3, "the starter, perhaps the keeper, and the mapper"
    assert all(call.name == "openat" and "O_NOFOLLOW" in call.arguments for call in touched)


def test_records_that_others_could_have_made_are_never_used(rig: HelperRig) -> None:
    """As if a site had opened the directories of records: nothing in them is believed, or they are closed again."""
    assert rig.run("/usr/bin/true").code == 0
    jobs, accounts = rig.rundir / "jobs", rig.rundir / "accounts"
    forged = jobs / ("f" * 32)
    for folder, owner, mode in (
        (jobs, 0, 0o777),
        (jobs, rig.pilot.pw_uid, 0o755),
        (accounts, 0, 0o777),
        (rig.rundir, 0, 0o775),
    ):
        kept = folder.stat()
        os.chown(folder, owner, 0)
        folder.chmod(mode)
        try:
            done = rig.run("/usr/bin/id")
            assert (done.code, done.reason, done.out) == (202, "HELPER_SYSTEM", ""), (folder, mode)
        finally:
            os.chown(folder, kept.st_uid, kept.st_gid)
            folder.chmod(kept.st_mode & 0o7777)
    # A record of the account that others could have written is not passed by: it may be a living run's.
    account = accounts / str(rig.run("/usr/bin/true").line("start")["uid"])
    for owner, mode in ((rig.pilot.pw_uid, 0o600), (0, 0o620), (0, 0o602)):
        planted = account / ("e" * 32)
        planted.write_text("[run]\nowner = x\n")
        os.chown(planted, owner, 0)
        planted.chmod(mode)
        done = rig.run("/usr/bin/id")
        assert (done.code, done.reason, done.out) == (202, "HELPER_SYSTEM", "")
        planted.unlink()
    # A link or a pipe in a record's place is not followed, and does not hang.
    forged.mkdir(mode=0o700)
    victim = rig.prefix / "victim-record"
    victim.write_text("[run]\nuid = 1\ncaller_uid = 0\n")
    try:
        for kind in ("link", "pipe"):
            if kind == "link":
                (forged / "record").symlink_to(victim)
            else:
                os.mkfifo(forged / "record", 0o600)
            for words, user in (
                (["cleanup", forged.name], "root"),
                (["cleanup"], PILOT),
                (["cleanup", forged.name], SECOND_PILOT),
            ):
                process = rig.start(words, user=user)
                process.communicate(timeout=120)
            (forged / "record").unlink()
        assert victim.read_text().startswith("[run]")
    finally:
        shutil.rmtree(forged)
        victim.unlink()
    assert rig.run("/usr/bin/true").code == 0


# the log


def test_a_log_that_cannot_take_the_end_says_so_and_cleans_all_the_same(rig: HelperRig) -> None:
    """The disk fills while the payload runs: END is lost, the caller is told, nothing stays."""
    small = rig.prefix / "filling"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        small.rmdir()
        pytest.skip("cannot mount a small file system here")
    try:
        log = small / "helper.jsonl"
        with rig.configured(change=lambda text: text.replace(str(rig.log), str(log))):
            reader, writer = os.pipe()
            words = [
                "run",
                "--proxy",
                str(rig.proxy()),
                "--status-fd",
                str(writer),
                "--",
                SH,
                "-c",
                "echo ready; read x; exit 0",
            ]
            process = rig.start(words, stdin=subprocess.PIPE, pass_fds=(writer,))
            os.close(writer)
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            with contextlib.suppress(OSError), (small / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 512)
            with contextlib.suppress(OSError), log.open("ab", buffering=0) as file:
                while True:
                    file.write(b"x")
            process.stdin.close()
            process.wait(60)
            with os.fdopen(reader) as status:
                said = status.read()
        assert '"reason":"AUDIT_UNAVAILABLE"' in said
        assert rig.wait(lambda: (rig.processes(), rig.left()) == ([], []))
    finally:
        subprocess.run(["umount", str(small)], check=False)
        small.rmdir()


def test_fifty_refusals_and_runs_at_once_are_whole_lines(rig: HelperRig) -> None:
    before = len(rig.audit())
    proxies = [rig.proxy(0), Path("/etc/shadow"), rig.proxy(1), Path("/nonexistent")]
    with concurrent.futures.ThreadPoolExecutor(25) as pool:
        codes = Counter(
            pool.map(
                lambda n: rig.run("/usr/bin/true", options=["--job-id", "x" * 128], proxy=proxies[n % 4]).code,
                range(50),
            )
        )
    assert codes == {0: 25, 201: 25}
    events = Counter(str(line["event"]) for line in rig.since(before))
    assert events == {"START": 25, "END": 25, "REFUSED": 25}
