"""Leases of the installed helper: ask its mapper without a monitor, age them, recycle them in a world of one's own."""

import contextlib
import os
import pwd
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pilotage.reasons import Reason
from pilotage_helper._native import ffi, lib
from support.helper_rig import ANALYSIS, HelperRig

MONTH = 30 * 86400
KEEP = f"lease_keep_seconds = {MONTH}"


class Answer(msgspec.Struct, frozen=True):
    """What the mapper said of one owner."""

    reason: str
    account: str
    lease: str
    detail: str


class Question:
    """One request to `pilotage-map answer`, as the monitor makes it, and the process that answers it."""

    def __init__(
        self, mapper: Path, dn: str, *, fqan: str = ANALYSIS, program: Sequence[str] = (), fds: Sequence[int] = ()
    ) -> None:
        self._request = ffi.new("struct pil_map_request *")
        assert lib.pil_map_request_init(self._request) == 0
        self._request.min_uid = self._request.min_gid = 1000
        ffi.memmove(self._request.who.dn, dn.encode(), len(dn))
        ffi.memmove(self._request.who.fqan[0], fqan.encode(), len(fqan))
        self._request.who.fqan_count = 1 if fqan else 0
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [*program, str(mapper), "answer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=fds,
            # The whole request, so that nobody waits for the mapper to read it.
            pipesize=1 << 20,
        )
        self.start_seconds = time.perf_counter() - began

    def send(self) -> None:
        """Write the request; the mapper begins when it has all of it."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
            pipe.write(bytes(ffi.buffer(self._request)))

    def answer(self) -> Answer | None:
        """Read the record and check it as the monitor does; None: it died."""
        assert self.process.stdout
        with self.process.stdout as pipe:
            data = pipe.read()
        if self.process.wait() != 0:
            return None
        record = ffi.new("struct pil_map_record *")
        assert len(data) == ffi.sizeof(record[0])
        ffi.memmove(record, data, len(data))
        assert lib.pil_map_record_check(record, len(data), self._request) == 0
        texts = (ffi.string(field).decode() for field in (record.map.account, record.map.lease, record.map.detail))
        return Answer(Reason(record.reason).name if record.reason else "", *texts)


def ask(rig: HelperRig, dn: str, *, fqan: str = ANALYSIS) -> Answer:
    """Map one owner by the real program."""
    question = Question(rig.mapper, dn, fqan=fqan)
    question.send()
    answer = question.answer()
    assert answer
    return answer


def leases(rig: HelperRig) -> dict[str, str]:
    """Every lease with its account; the links themselves are checked."""
    accounts: dict[int, str] = {}
    owners: dict[int, list[str]] = {}
    for path in rig.gridmapdir.glob("[!.]*"):
        inode = path.lstat().st_ino
        if path.name.startswith("%"):
            owners.setdefault(inode, []).append(path.name)
        else:
            accounts[inode] = path.name
    assert all(len(names) == 1 for names in owners.values()), "two leases on one account"
    return {names[0]: accounts.get(inode, "") for inode, names in owners.items()}


def age(rig: HelperRig, seconds: float = 2 * MONTH) -> None:
    """Let every lease have been used so long ago."""
    for name in leases(rig):
        os.utime(rig.gridmapdir / name, times=(time.time(), time.time() - seconds))


def keepers_of_keys() -> set[int]:
    """The uids with more keys than the two keyrings that each has."""
    path = Path("/proc/key-users")
    rows = [row.split() for row in path.read_text().splitlines()] if path.exists() else []
    return {int(row[0].rstrip(":")) for row in rows if int(row[3].split("/")[0]) > 2}


class World:
    """Namespaces with empty shared directories and no System V objects, so that other sessions' do not count."""

    def __init__(self, rig: HelperRig) -> None:
        self.rig = rig
        mounts = "for d in /tmp /var/tmp /dev/shm /var/spool; do mount -t tmpfs none $d; done"
        script = f"{mounts} && echo ready && exec sleep 3600"
        words = ["unshare", "--mount", "--ipc", "sh", "-ec", script]
        self.holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout
        assert self.holder.stdout.readline() == "ready\n"

    def enter(self, *words: str) -> list[str]:
        """The command line that runs the words in there."""
        return ["nsenter", "-t", str(self.holder.pid), "-m", "-i", "--", *words]

    def as_account(self, account: str, script: str) -> None:
        """Run a script of the account's in there."""
        entry = pwd.getpwnam(account)
        ids = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        subprocess.run(self.enter(*ids, "/usr/bin/python3", "-c", script), check=True, timeout=120)

    def root(self, script: str) -> None:
        """Run a shell script of root's in there."""
        subprocess.run(self.enter("sh", "-ec", script), check=True, timeout=120)

    def start_recycler(self, program: Sequence[str] = (), fds: Sequence[int] = ()) -> "subprocess.Popen[str]":
        """Start the verb in there."""
        words = self.enter(*program, str(self.rig.mapper), "recycle")
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=fds)

    def recycle(self) -> dict[str, str]:
        """Run the verb; each account whose lease was due, with "" or why it is kept."""
        # Keys of processes that have just ended are counted for a moment yet.
        self.rig.wait(lambda: not keepers_of_keys() & self.rig.uids, 6)
        process = self.start_recycler()
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        found = {}
        for line in out.splitlines():
            word, account, rest = line.split(" ", 2)
            found[account] = rest.partition(": ")[2] if word == "kept" else ""
        return found

    def close(self) -> None:
        """End it."""
        self.holder.kill()
        self.holder.communicate()


@contextlib.contextmanager
def world(rig: HelperRig) -> Iterator[World]:
    """Make a world, and one run, so that there is a place for runs."""
    rig.release_all()
    assert rig.run("/usr/bin/true", proxy=rig.proxy(2)).code == 0
    rig.release_all()
    made = World(rig)
    try:
        with rig.configured(mapping=KEEP):
            yield made
    finally:
        made.close()
        rig.release_all()


def home(account: str) -> Path:
    """The account's home."""
    return Path(pwd.getpwnam(account).pw_dir)
