"""`pilotage-map recycle` ends leases whose owner has nothing left on the node, and no others."""

import fcntl
import mmap
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import HelperRig
from support.injection import numbers
from support.lease_rig import MONTH, World, age, ask, home, leases, world

pytestmark = pytest.mark.root
MYSELF = str(os.getpid())
RUNS = "a run is on it, or one that died has not been cleaned up"
OLD, NEW = "/O=Grid/CN=the old owner", "/O=Grid/CN=the new owner"


@pytest.fixture(scope="module")
def place(rig: HelperRig) -> Iterator[World]:
    with world(rig) as made:
        yield made


@pytest.fixture
def account(place: World) -> Iterator[str]:
    """The account of the one lease, which is long due."""
    place.rig.release_all()
    name = ask(place.rig, OLD).account
    age(place.rig)
    yield name
    shutil.rmtree(home(name))
    shutil.copytree("/etc/skel", home(name))
    home(name).chmod(0o700)
    entry = pwd.getpwnam(name)
    for path in (home(name), *home(name).iterdir()):
        os.chown(path, entry.pw_uid, entry.pw_gid)


def test_a_lease_whose_owner_left_nothing_ends_and_its_account_is_the_next_owners(place: World, account: str) -> None:
    assert place.recycle() == {account: ""}
    assert leases(place.rig) == {}
    assert ask(place.rig, NEW).account == account
    assert ask(place.rig, OLD).account not in {account, ""}
    assert place.recycle() == {}


def test_a_lease_is_kept_for_its_time(place: World, account: str) -> None:
    age(place.rig, MONTH - 60)
    assert place.recycle() == {}
    # A clock that was wrong once: used in the future is used.
    age(place.rig, -MONTH)
    assert place.recycle() == {}
    assert list(leases(place.rig).values()) == [account]


def test_without_the_key_nothing_is_recycled(place: World, account: str) -> None:
    with place.rig.configured():
        done = subprocess.run([place.rig.mapper, "recycle"], capture_output=True, text=True, check=True)
    assert done.stdout == "no lease is ever recycled: [map] has no lease_keep_seconds\n"
    assert list(leases(place.rig).values()) == [account]


def test_only_root_recycles(rig: HelperRig) -> None:
    done = subprocess.run([rig.mapper, "recycle"], user=rig.pilot.pw_uid, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "pilotage-map: recycle is root's\n")


LEFT = {
    "a file in /tmp": ("open('/tmp/x', 'w')", "x in /tmp"),
    "a link in /var/tmp": ("import os; os.symlink('/etc/passwd', '/var/tmp/x')", "x in /var/tmp"),
    "a file in /dev/shm": ("open('/dev/shm/x', 'w')", "x in /dev/shm"),
    "a file in /run/lock": ("open('/run/lock/pilotage-left', 'w')", "pilotage-left in /run/lock"),
    "a key": (
        "import ctypes; k = ctypes.CDLL(None).syscall(ADD_KEY, b'user', b'pilotage-left', b'x', 1, -4); assert k > 0",
        "the kernel keeps keys",
    ),
    "a file in another's directory": ("open('/tmp/others/x', 'w')", "x in /tmp"),
    "a message queue": (
        "import ctypes; q = ctypes.CDLL('librt.so.1').mq_open(b'/x', 0o102, 0o600, None); assert q >= 0",
        "x in the message queues",
    ),
    "shared memory": ("import ctypes; assert ctypes.CDLL(None).shmget(0, 1, 0o1600) >= 0", "shared memory"),
    "semaphores": ("import ctypes; assert ctypes.CDLL(None).semget(0, 1, 0o1600) >= 0", "semaphores"),
    "messages": ("import ctypes; assert ctypes.CDLL(None).msgget(0, 0o1600) >= 0", "a message queue"),
    "a file in its home": ("import os; open(os.path.expanduser('~/x'), 'w')", "its home holds x"),
    "a directory in its home": ("import os; os.mkdir(os.path.expanduser('~/x'))", "its home holds x"),
    "a changed skeleton": (
        "import os; open(os.path.expanduser('~/.profile'), 'a').write(' ')",
        "its home holds .profile",
    ),
    "a skeleton with another name": (
        "import os; h = os.path.expanduser('~/'); os.unlink(h + '.profile'); os.mkdir(h + '.profile')",
        "its home holds .profile",
    ),
    "a skeleton that others can write": (
        "import os; os.chmod(os.path.expanduser('~/.bashrc'), 0o666)",
        "its home holds .bashrc",
    ),
    "a skeleton with a second name": (
        "import os; h = os.path.expanduser('~/'); os.link(h + '.bashrc', h + '.bash_logout~')",
        "its home holds .bash",
    ),
    "data beside a skeleton": (
        "import os; os.setxattr(os.path.expanduser('~/.bashrc'), 'user.x', b'secret')",
        "its home holds .bashrc",
    ),
    "a home for everybody": ("import os; os.chmod(os.path.expanduser('~'), 0o777)", "not its own alone"),
}


@pytest.mark.parametrize("what", LEFT)
def test_something_left_keeps_the_lease(place: World, account: str, what: str) -> None:
    script, reason = LEFT[what]
    script = script.replace("ADD_KEY", str(numbers()["add_key"]))
    place.root("mkdir -m 777 /tmp/others")
    place.as_account(account, f"import os; os.environ['HOME'] = {str(home(account))!r}; {script}")
    assert reason in place.recycle()[account]
    assert list(leases(place.rig).values()) == [account]
    place.root(
        "rm -rf /tmp/* /var/tmp/* /dev/shm/*; ipcrm --all; mkdir /tmp/q; mount -t mqueue q /tmp/q; rm -f /tmp/q/*"
    )
    place.root("umount /tmp/q; rmdir /tmp/q; rm -f /run/lock/pilotage-left")
    if what == "a key":
        place.as_account(account, f"import ctypes; assert ctypes.CDLL(None).syscall({numbers()['keyctl']}, 7, -4) == 0")
    if "home" not in what and "skeleton" not in what:
        assert place.recycle() == {account: ""}


@pytest.mark.parametrize("mapped", [False, True], ids=["open", "mapped"])
def test_a_file_that_somebody_else_can_still_write_to_keeps_the_lease(
    place: World, account: str, *, mapped: bool
) -> None:
    """A payload can hand an open file to another account's process, which outlives it; the next owner sources it."""
    skeleton = home(account) / ".bashrc"
    before = skeleton.read_bytes()
    with skeleton.open("r+b") as handed, mmap.mmap(handed.fileno(), len(before)) as memory:
        if mapped:
            handed.close()
        else:
            memory.close()
        assert place.recycle() == {account: "its home holds .bashrc"}
        assert list(leases(place.rig).values()) == [account]
    with skeleton.open("rb"):
        assert place.recycle() == {account: ""}


def test_a_process_of_any_of_the_four_ids_keeps_the_lease(place: World, account: str) -> None:
    uid = pwd.getpwnam(account).pw_uid
    for ids in ((uid, uid, uid), (uid, 0, 0), (0, 0, uid)):
        words = ["python3", "-c", f"import os; os.setresuid{ids}; print(1, flush=True); input()"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            assert place.recycle() == {account: "it has processes"}
            process.kill()
    assert place.recycle() == {account: ""}


def test_a_spool_with_its_name_keeps_the_lease(place: World, account: str) -> None:
    place.root(f"mkdir -p /var/spool/cron/crontabs && touch /var/spool/cron/crontabs/{account}")
    assert "crontabs has a file of its name" in place.recycle()[account]
    place.root("rm -r /var/spool/cron")
    assert place.recycle() == {account: ""}


def test_what_cannot_be_looked_at_keeps_every_lease(place: World, account: str) -> None:
    place.root("mkdir /tmp/m && mount -t tmpfs none /tmp/m")
    assert "another file system" in place.recycle()[account]
    place.root(f"umount /tmp/m && mkdir -p /tmp/{'d/' * 40}")
    assert "too deep" in place.recycle()[account]
    place.root("rm -r /tmp/d")
    hidden = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace"
    words = place.enter("unshare", "-m", "sh", "-ec", f"{hidden} {place.rig.mapper} recycle")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (202, "")
    assert "processes cannot be seen" in done.stderr
    assert place.recycle() == {account: ""}


def test_a_directory_that_other_nodes_may_share_is_refused(place: World, account: str) -> None:
    # ramfs stands for every file system that is not known to be one node's.
    mount = f"mount -t ramfs none {place.rig.gridmapdir} && exec {place.rig.mapper} recycle"
    words = place.enter("unshare", "-m", "sh", "-ec", mount)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (202, "")
    assert "what others run cannot be seen" in done.stderr
    assert list(leases(place.rig).values()) == [account]


def test_a_living_run_keeps_its_lease_and_so_does_the_record_of_a_dead_one(place: World) -> None:
    rig = place.rig
    rig.release_all()
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/sleep", "60"])
    assert rig.wait(lambda: rig.processes() != [])
    ((_, account),) = leases(rig).items()
    age(rig)
    assert place.recycle()[account] in {"it has processes", RUNS}
    record = next((rig.rundir / "accounts" / str(pwd.getpwnam(account).pw_uid)).glob("?" * 32))
    holder = next(int(pid.name) for pid in Path("/proc").glob("[0-9]*") if holds(pid, record))
    os.kill(holder, signal.SIGKILL)
    process.wait()
    assert rig.wait(lambda: rig.processes() == [])
    assert place.recycle() == {account: RUNS}
    assert subprocess.run([rig.program, "cleanup"], check=False).returncode == 0
    assert place.recycle() == {account: ""}


def holds(process: Path, record: Path) -> bool:
    try:
        return any(os.path.samefile(entry, record) for entry in (process / "fd").iterdir())
    except OSError:
        return False


def test_between_mapping_and_its_record_a_run_keeps_its_lease(place: World) -> None:
    """The hole that no clock may close: the owner is mapped, and has no record yet; the lease looks old."""
    rig = place.rig
    rig.release_all()
    assert rig.run("/usr/bin/true").code == 0
    ((_, account),) = leases(rig).items()
    lock = rig.rundir / "accounts" / str(pwd.getpwnam(account).pw_uid) / "lock"
    starting = rig.rundir / "accounts" / "starting"
    with lock.open("rb") as account_lock:
        fcntl.flock(account_lock, fcntl.LOCK_EX)
        process = rig.start(["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"])
        # It has been mapped when it waits for the account, and holds the other lock then.
        assert rig.wait(lambda: any(holds(pid, lock) for pid in Path("/proc").glob("[0-9]*") if pid.name != MYSELF))
        assert is_held(starting)
        age(rig)
        assert place.recycle() == {account: RUNS}
    assert process.wait(60) == 0
    assert rig.wait(lambda: not is_held(starting))
    age(rig)
    with starting.open("rb") as begun:
        fcntl.flock(begun, fcntl.LOCK_SH)
        assert place.recycle() == {account: "runs are just beginning"}
    assert place.recycle() == {account: ""}


def is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
