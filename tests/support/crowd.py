"""Hundreds of accounts at once: lines of /etc/passwd, added and removed under its lock in one go."""

import contextlib
import ctypes
import os
import pwd
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PASSWD = Path("/etc/passwd")
FIRST_UID = 1_000_000


@contextlib.contextmanager
def crowd(count: int, homes: Path) -> Iterator[list[str]]:
    """Make accounts `pgcPID-N`, whose homes are not made; what a killed session left goes first."""
    ours = f"pgc{os.getpid()}-"
    _rewrite(lambda lines: [line for line in lines if not _is_over(line)])
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    first = FIRST_UID + os.getpid() % 1000 * 1000
    assert not taken & set(range(first, first + count))
    names = [f"{ours}{n}" for n in range(1, count + 1)]
    added = [f"{name}:x:{uid}:{uid}::{homes / name}:/bin/sh" for uid, name in enumerate(names, first)]
    try:
        _rewrite(lambda lines: [*lines, *added])
        yield names
    finally:
        _rewrite(lambda lines: [line for line in lines if not line.startswith(ours)])


def _is_over(line: str) -> bool:
    found = re.match(r"pgc(\d+)-", line)
    return found is not None and not Path(f"/proc/{found.group(1)}").exists()


def _rewrite(change: Callable[[Sequence[str]], list[str]]) -> None:
    """Replace the file, under the lock that useradd and userdel take, too."""
    libc = ctypes.CDLL(None)
    assert libc.lckpwdf() == 0
    try:
        lines = PASSWD.read_text().splitlines()
        changed = change(lines)
        if changed == lines:
            return
        # A name that no other program uses for its own copy.
        copy = PASSWD.with_name(f"passwd.pgc{os.getpid()}")
        copy.write_text("\n".join(changed) + "\n")
        copy.chmod(PASSWD.stat().st_mode & 0o777)
        copy.replace(PASSWD)
    finally:
        libc.ulckpwdf()
