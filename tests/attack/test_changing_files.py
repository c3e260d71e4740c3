"""Files that change while they are read, and trees while they are removed (checklist C1-C3, C7)."""

import collections
import concurrent.futures
import contextlib
import hashlib
import os
import re
import select
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import SECOND_PILOT, HelperRig, Outcome
from support.pace import at_once, soon
from support.tracing import traced

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")


@pytest.fixture(autouse=True)
def _alone(rig: HelperRig) -> Iterator[None]:
    yield
    rig.end_calls()


@pytest.fixture
def folder(rig: HelperRig) -> Iterator[Path]:
    """A folder of the pilot's."""
    made = rig.prefix / "changing"
    made.mkdir()
    os.chown(made, rig.pilot.pw_uid, rig.pilot.pw_gid)
    yield made
    subprocess.run(["rm", "-rf", str(made)], check=True)


def refused(rig: HelperRig, path: Path | str) -> float:
    """Be refused at once; return in how many seconds."""

    def once() -> float:
        start = time.monotonic()
        done = rig.run("/usr/bin/id", proxy=Path(path))
        seconds = time.monotonic() - start
        assert (done.code, done.reason, done.out) == (201, "PROXY_FILE_UNUSABLE", ""), path
        return seconds

    return soon(once, 1)


# C1: what is there and what is not


SECRET = ("/etc/shadow", "/root/.ssh/id_rsa", "/etc/no-such-file", "/root/no/such/file")


def test_a_file_that_is_not_the_pilots_takes_the_same_steps_as_none(rig: HelperRig) -> None:
    """One timing class: the same system calls, in the same order, whatever the path is."""
    # The end of a log that is not empty is looked at.
    assert rig.run("/usr/bin/true").code == 0
    seen = {}
    for path in SECRET:
        done = traced(rig, ["run", "--proxy", path, "--", "/usr/bin/id"], "all")
        ours = [call for call in done.calls if call.program.startswith(str(rig.prefix))]
        names = [call.name for call in ours if call.name not in ("brk", "mmap", "munmap")]
        results = [call.result for call in ours if call.name in ("open", "openat") and path in call.paths]
        assert len(results) == 1, "opened exactly once"
        seen[path] = (done.code, done.err.replace(path, "FILE"), names)
    assert len(set(map(repr, seen.values()))) == 1


def test_a_file_that_is_not_the_pilots_takes_as_long_as_none(rig: HelperRig) -> None:
    times: dict[str, list[float]] = collections.defaultdict(list)

    def spread() -> float:
        """How many times as long the slowest takes, by all that was measured so far."""
        for _ in range(12):
            for path in SECRET:
                times[path].append(refused(rig, path))
        medians = [statistics.median(values) for values in times.values()]
        return max(medians) / min(medians)

    assert spread() < 2 or min(spread() for _ in range(5)) < 2, dict(times)


# C2: what hangs or never ends


def test_nodes_that_hang_or_never_end_are_refused_at_once(rig: HelperRig, folder: Path) -> None:
    theirs = rig.prefix / "proxies" / "theirs"
    theirs.write_bytes(rig.proxy().read_bytes())
    os.chown(theirs, *(os.stat(rig.prefix / "home" / SECOND_PILOT).st_uid, rig.pilot.pw_gid))
    theirs.chmod(0o644)
    os.link(theirs, folder / "their-hardlink")
    (folder / "their-symlink").symlink_to(theirs)
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder / "loop")
    for name, kind in (("tape", 0o020000), ("disk", 0o060000)):
        os.mknod(folder / name, 0o600 | kind, os.makedev(7, 250))
        rig.give(folder / name)
    with (folder / "gibibyte").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 30)
    rig.give(folder / "gibibyte")
    for name in ("their-hardlink", "their-symlink", "dangling", "loop", "tape", "disk", "gibibyte"):
        refused(rig, folder / name)
    (folder / "gibibyte").unlink()
    for path in (
        "/dev/zero",
        "/dev/full",
        "/dev/tty",
        "/proc/self/environ",
        "/proc/self/mem",
        "/proc/kmsg",
        "/proc/self/fd/0",
        "/",
        "",
    ):
        refused(rig, path)


def test_a_file_that_grows_is_refused_or_read_as_it_was(rig: HelperRig, folder: Path) -> None:
    path = folder / "grows"
    with attacker(rig, "grow", rig.proxy(), path):
        for _ in range(15):
            done = at_once(lambda: rig.run("/usr/bin/true", proxy=path))
            # What it ends with are empty lines, so a part of it can be a whole proxy.
            assert done.reason in ("", "PROXY_FILE_UNUSABLE", "PROXY_MALFORMED", "PROXY_EMPTY"), done


# C3: the file is read once, and all that follows is about those bytes


@contextlib.contextmanager
def attacker(rig: HelperRig, *words: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Let the pilot change files while the block runs."""
    process = subprocess.Popen(
        [rig.attack("rewrite"), *map(str, words)],
        stdout=subprocess.PIPE,
        user=rig.pilot.pw_uid,
        group=rig.pilot.pw_gid,
    )
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("how", ["rename", "inplace"])
def test_ten_thousand_rewrites_never_mix_two_owners(rig: HelperRig, folder: Path, how: str) -> None:
    first, second, path = rig.proxy(0), rig.proxy(1), folder / "proxy"
    owner = {
        hashlib.sha256(proxy.read_bytes()).hexdigest(): rig.owners[number].dn
        for number, proxy in ((0, first), (1, second))
    }
    before = len(rig.audit())
    end = time.monotonic() + 600
    runs: list[Outcome] = []
    enough = False
    with attacker(rig, how, first, second, path) as process, concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert process.stdout
        # Ten thousand rewrites may take less than fifty runs, or more; the attacker goes on as long as we do.
        while not enough or not any(done.code == 0 for done in runs) or len(runs) <= 50:
            assert time.monotonic() < end, collections.Counter(done.reason for done in runs)
            runs += pool.map(lambda _: rig.run("/usr/bin/sha256sum", "../proxy", proxy=path), range(10))
            enough = enough or bool(select.select([process.stdout], [], [], 0)[0])
        assert process.stdout.readline() == b"enough\n"
    lines = rig.since(before)
    starts = {str(line["run_id"]): line for line in lines if line["event"] == "START"}
    good = [done for done in runs if done.code == 0]
    assert good, collections.Counter(done.reason for done in runs)
    for done in good:
        start = done.line("start")
        logged = starts[str(start["run_id"])]
        # Payload, log and status speak of the same bytes, and these are one owner's.
        assert done.out.split()[0] == logged["proxy_sha256"]
        assert logged["proxy_sha256"] in owner, "bytes of two files were taken for a proxy"
        assert start["dn"] == logged["dn"] == owner[str(logged["proxy_sha256"])]
    allowed = {"PROXY_FILE_UNUSABLE", "PROXY_MALFORMED", "PROXY_EMPTY", "KEY_MISSING", "KEY_MISMATCH", "NOT_A_PROXY"}
    allowed |= {
        "CHAIN_UNKNOWN_CA",
        "CHAIN_SIGNATURE",
        "PROXY_NAME",
        "PROXY_EXTRA_CERTIFICATE",
        "VOMS_SIGNATURE",
        "VOMS_MALFORMED",
    }
    assert {done.reason for done in runs if done.code} <= allowed


def test_the_files_are_opened_exactly_once(rig: HelperRig) -> None:
    source = rig.prefix / "proxies" / "source-once"
    source.write_bytes(rig.proxy(0, fqans=("/demo",)).read_bytes())
    rig.give(source)
    words = ["run", "--proxy", str(rig.proxy()), "--source-proxy", str(source), "--", "/usr/bin/true"]
    calls = "open,openat,openat2,stat,lstat,newfstatat,statx,access,faccessat,faccessat2,readlink"
    done = traced(rig, words, calls)
    assert done.code == 0, done.err
    for path in (rig.proxy(), source):
        touched = [call for call in done.of(*calls.split(",")) if str(path) in call.paths]
        assert [call.name for call in touched if not call.program.startswith("/usr")] == ["openat"], touched
        (call,) = touched
        assert not call.root, "with the caller's rights"
        for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC"):
            assert flag in call.arguments


def test_ownership_and_rights_are_changed_by_descriptor_or_without_following(rig: HelperRig) -> None:
    """C6: no chmod or chown by a path that somebody else could turn into a link."""
    calls = "chmod,fchmod,fchmodat,chown,lchown,fchown,fchownat,creat,mkdir,mknod,rename,link,symlink,unlink,rmdir"
    done = traced(rig, ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"], calls)
    ours = [call for call in done.of(*calls.split(",")) if call.program.startswith(str(rig.prefix)) and call.root]
    assert {call.name for call in ours} <= {"fchmod", "fchown", "fchownat", "fchmodat"}
    assert all("AT_SYMLINK_NOFOLLOW" in call.arguments for call in ours if call.name in ("fchownat", "fchmodat"))
    assert [call for call in ours if call.name == "fchmod"]


# C7: cleaning


def test_a_tree_of_4096_levels_is_removed(rig: HelperRig) -> None:
    done = rig.run(rig.attack("mess"), "deep", "4096")
    assert done.code == 0
    assert (done.line("end")["left_files"], rig.left()) == (0, [])


def test_a_hundred_thousand_files_are_removed(rig: HelperRig) -> None:
    done = rig.run(rig.attack("mess"), "wide", "100000", seconds=600)
    assert done.code == 0
    assert (done.line("end")["left_files"], rig.left()) == (0, [])


def test_a_tree_that_changes_while_it_is_removed_leads_nowhere(rig: HelperRig) -> None:
    """The attacker is a second run of the same owner, on the same account, so that the cleaner may not kill it."""
    account = str(rig.run("/usr/bin/true").line("start")["account"])
    home = rig.prefix / "home" / account
    precious = home / "precious"
    precious.mkdir()
    (precious / "f").write_text("kept")
    (precious / "sub").mkdir()
    (precious / "sub" / "f").write_text("kept")
    for path in (precious, precious / "f", precious / "sub", precious / "sub" / "f"):
        os.chown(path, home.stat().st_uid, home.stat().st_gid)
    before = sorted(precious.rglob("*"))
    try:
        for _ in range(6):
            script = "mkdir trap; pwd; for i in 1 2 3; do mkdir trap/$i; touch trap/$i/f; done; read line; exit 0"
            first = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", script], stdin=subprocess.PIPE)
            assert first.stdout
            work = first.stdout.readline().decode().strip()
            second = rig.start(
                [
                    "run",
                    "--proxy",
                    str(rig.proxy()),
                    "--",
                    str(rig.attack("mess")),
                    "swap",
                    f"{work}/trap",
                    str(precious),
                ]
            )
            assert second.stdout
            assert second.stdout.readline() == b"ready\n"
            assert first.stdin
            first.stdin.write(b"\n")
            first.stdin.close()
            assert first.wait(240) == 0
            second.kill()
            second.wait(60)
            assert rig.wait(lambda: rig.processes() == [])
            assert sorted(precious.rglob("*")) == before
            assert (precious / "sub" / "f").read_text() == "kept"
        assert rig.run("/usr/bin/true").code == 0
        assert rig.wait(lambda: [path for path in rig.left() if path != precious] == [])
    finally:
        subprocess.run(["rm", "-rf", str(precious)], check=True)


def mounts_below(folder: Path) -> list[Path]:
    places = [Path(line.split()[1]) for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [place for place in places if place.is_relative_to(folder)]


@pytest.mark.parametrize("place", ["mount", "work/mount", "work/a/mount"])
@pytest.mark.parametrize("kind", ["directory", "tmpfs", "file"])
def test_what_is_mounted_in_the_run_directory_is_not_emptied(rig: HelperRig, kind: str, place: str) -> None:
    """An automounter, or an administrator, has put the account's own files there: they are not the run's."""
    account = str(rig.run("/usr/bin/true").line("start")["account"])
    home = rig.prefix / "home" / account
    owner = home.stat()
    precious = home / "precious"
    precious.mkdir()
    script = (
        f"cd ..; mkdir work/a; {'touch' if kind == 'file' else 'mkdir'} {place}; echo ready; pwd; read line; exit 0"
    )
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", script], stdin=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    target = Path(process.stdout.readline().decode().strip()) / place
    try:
        (precious / "f").write_text("kept")
        source = precious / "f" if kind == "file" else precious
        words = ["mount", "--bind", str(source), str(target)]
        if kind == "tmpfs":
            words = ["mount", "-t", "tmpfs", "-o", f"mode=700,uid={owner.st_uid}", "tmpfs", str(target)]
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
        if kind == "tmpfs":
            (target / "f").write_text("kept")
        for path in (precious, precious / "f", *target.glob("f")):
            os.chown(path, owner.st_uid, owner.st_gid)
        before = len(rig.audit())
        process.stdin.close()
        assert process.wait(60) == 0
        if not mounted:
            pytest.skip("this machine lets nobody mount")
        # Its directory may have been moved, and the mount with it.
        (there,) = mounts_below(home)
        assert (there if kind == "file" else there / "f").read_text() == "kept"
        assert (precious / "f").read_text() == "kept"
        end = rig.since(before)[-1]
        # It cannot be removed, and that is said.
        assert (end["event"], end["reason"], end["left_files"]) == ("END", "CLEANUP_INCOMPLETE", 1)
    finally:
        for path in mounts_below(home):
            subprocess.run(["umount", str(path)], check=True)
        subprocess.run(["rm", "-rf", str(precious)], check=True)
    assert rig.run("/usr/bin/true").code == 0
    assert rig.wait(lambda: rig.left() == [])


def test_the_cleaner_opens_nothing_by_a_path_with_more_than_one_step(rig: HelperRig) -> None:
    script = "mkdir -p a/b/c; touch a/b/c/f; ln -s /etc a/b/link; chmod 0 a/b"
    done = traced(
        rig, ["run", "--proxy", str(rig.proxy()), "--", SH, "-c", script], "openat,openat2,unlinkat,renameat,fchmodat"
    )
    sweep = [call for call in done.calls if call.program.endswith("pilotage-sweep") and not call.root]
    assert [call for call in sweep if call.name == "unlinkat"]
    for call in sweep:
        for path in call.paths:
            if not re.match(r"/(etc/ld\.so|lib|usr/lib|proc/self/fd/)", path):
                steps = path.strip("/").count("/")
                assert steps == 0 or path.startswith((str(rig.prefix / "home"), "/var/tmp", "/dev/", "/run/lock")), call
