"""What a payload hides from a cleaner: objects given away, keys, locks, queues that no folder shows (checklist E12)."""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import ANALYSIS, SECOND_PILOT, HelperRig
from support.processes import monitor_of

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
LOCK = Path("/run/lock/pilotage-attack")


@pytest.fixture(params=["off", "required"])
def spaces(rig: HelperRig, request: pytest.FixtureRequest) -> Iterator[str]:
    with rig.configured(f"\n[isolation]\nnamespaces = {request.param}"):
        yield str(request.param)


def as_account(rig: HelperRig, name: str, word: str) -> list[str]:
    """Run the attack as the account itself, outside any run."""
    entry = pwd.getpwnam(name)
    words = [str(rig.attack("leave")), word]
    done = subprocess.run(
        words, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def made_by(uid: int) -> list[str]:
    """The System V objects that an account has made, whoever has them now."""
    found = []
    for kind in ("shm", "msg", "sem"):
        rows = [row.split() for row in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()]
        columns = [rows[0].index(name) for name in ("uid", "cuid")]
        found += [kind for row in rows[1:] if str(uid) in {row[column] for column in columns}]
    return found


def queues(folder: Path) -> list[str]:
    """The POSIX queues of the machine, wherever the tree is mounted."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "mqueue", "mqueue", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return []
    try:
        return [path.name for path in folder.iterdir() if path.name == "pilotage-attack"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_what_a_cleaner_may_not_think_of_is_gone_too(rig: HelperRig, spaces: str) -> None:
    account = str(rig.run("/usr/bin/true").line("start")["account"])
    uid = pwd.getpwnam(account).pw_uid
    other = pwd.getpwnam(SECOND_PILOT).pw_uid
    try:
        done = rig.run(rig.attack("leave"), "make", str(other))
        assert (done.code, done.line("start")["account"]) == (0, account), done.err
        made = done.out.split()
        assert {"shm", "msg", "sem"} <= set(made)
        assert ("lock" in made) is os.access(LOCK.parent, os.F_OK)
        end = done.line("end")
        assert (end["reason"], end["left_files"]) == ("", 0)
        assert made_by(uid) == []
        assert not LOCK.exists()
        assert queues(rig.prefix / "queues") == []
        assert as_account(rig, account, "look") == []
    finally:
        as_account(rig, account, "drop")
        LOCK.unlink(missing_ok=True)


def test_the_attack_leaves_what_it_says_when_nobody_cleans(rig: HelperRig) -> None:
    """So that the test above can fail: keys are kept for the uid, whatever ends."""
    account = rig.pools[-1]
    uid, other = pwd.getpwnam(account).pw_uid, pwd.getpwnam(SECOND_PILOT).pw_uid
    entry = pwd.getpwnam(account)
    made = subprocess.run(
        [rig.attack("leave"), "make", str(other)],
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    try:
        assert made_by(uid) == ["shm", "msg", "sem"]
        assert LOCK.exists() == ("lock" in made)
        assert set(as_account(rig, account, "look")) == {word for word in made if word.startswith("key-")}
        if "queue" in made:
            assert queues(rig.prefix / "queues") == ["pilotage-attack"]
    finally:
        as_account(rig, account, "drop")
        LOCK.unlink(missing_ok=True)
        for kind in ("shm", "msg", "sem"):
            rows = [row.split() for row in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()]
            for row in rows[1:]:
                if row[rows[0].index("cuid")] == str(uid):
                    subprocess.run(["ipcrm", {"shm": "-m", "msg": "-q", "sem": "-s"}[kind], row[1]], check=True)
        folder = rig.prefix / "queues"
        folder.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", "mqueue", "mqueue", str(folder)], capture_output=True).returncode == 0:
            (folder / "pilotage-attack").unlink(missing_ok=True)
            subprocess.run(["umount", str(folder)], check=True)


# what could not be removed


@contextlib.contextmanager
def sweeping_nothing(rig: HelperRig) -> Iterator[None]:
    """Put a cleaner in place that says three things are left."""
    sweeper = rig.verifier.with_name("pilotage-sweep")
    kept = sweeper.with_suffix(".kept")
    sweeper.rename(kept)
    try:
        sweeper.write_text(f"#!{SH}\nexit 3\n")
        sweeper.chmod(0o755)
        yield
    finally:
        kept.replace(sweeper)


def records(rig: HelperRig) -> list[str]:
    return [path.name for path in (rig.rundir / "jobs").iterdir()]


def test_nobody_else_gets_an_account_that_could_not_be_cleaned(rig: HelperRig) -> None:
    with rig.mapped(f'"{ANALYSIS}" {rig.pools[0]}\n'):
        with sweeping_nothing(rig):
            first = rig.run("/usr/bin/true")
            end = first.line("end")
            assert (end["reason"], end["left_files"]) == ("CLEANUP_INCOMPLETE", 3)
            assert records(rig) == [first.line("start")["run_id"]]
            before = len(rig.audit())
            # Twice: what the first try could not remove is not forgotten by it.
            for _ in range(2):
                done = rig.run("/usr/bin/id", proxy=rig.proxy(1))
                assert (done.code, done.reason, done.out) == (202, "CLEANUP_INCOMPLETE", "")
                assert done.status[0]["retry"] is True
            assert [line["event"] for line in rig.since(before)] == ["REFUSED"] * 2
            # The owner's own run may go on there; the others still may not.
            assert rig.run("/usr/bin/true").code == 0
            assert rig.run("/usr/bin/id", proxy=rig.proxy(1)).reason == "CLEANUP_INCOMPLETE"
            assert first.line("start")["run_id"] in records(rig)
        assert rig.run("/usr/bin/true", proxy=rig.proxy(1)).code == 0
    assert rig.left() == []


def test_a_cleanup_that_could_not_remove_all_can_be_had_again(rig: HelperRig) -> None:
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; exec sleep 300"])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    os.kill(monitor_of(process.pid), signal.SIGKILL)
    assert process.wait(60) == 202
    (name,) = records(rig)
    before = len(rig.audit())
    with sweeping_nothing(rig):
        for words in (["cleanup", name], ["cleanup"]):
            cleaning = rig.start(words)
            _, err = cleaning.communicate(timeout=120)
            assert (cleaning.returncode, b"CLEANUP_INCOMPLETE" in err) == (202, True)
    assert rig.start(["cleanup", name]).wait(60) == 0
    told = [(line["run_id"], line["complete"]) for line in rig.since(before) if line["event"] == "CLEANUP"]
    assert told == [(name, False), (name, False), (name, True)]
    assert (rig.processes(), rig.left()) == ([], [])


def test_an_account_that_cannot_be_held_at_the_end_is_not_called_clean(rig: HelperRig) -> None:
    """Whether other runs are there is not known then, so what only the account's last run removes may have stayed."""
    reader, writer = os.pipe()
    words = ["run", "--proxy", str(rig.proxy()), "--status-fd", str(writer), "--", SH, "-c", "echo ready; read x"]
    process = rig.start(words, stdin=subprocess.PIPE, pass_fds=(writer,))
    os.close(writer)
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    (lock,) = [path for path in (rig.rundir / "accounts").glob("*/lock") if records(rig)[0] in os.listdir(path.parent)]
    lock.unlink()
    lock.symlink_to("/nonexistent")
    try:
        process.stdin.close()
        process.wait(60)
    finally:
        lock.unlink()
    with os.fdopen(reader) as status:
        assert '"reason":"CLEANUP_INCOMPLETE"' in status.read()
    assert len(records(rig)) == 1
    assert rig.run("/usr/bin/true").code == 0
    assert rig.left() == []
