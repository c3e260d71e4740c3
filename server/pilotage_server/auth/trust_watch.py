"""When the files that decide whom to trust were changed last: authorities, revocation lists, VOMS servers.

A revocation reaches the server as a changed file. So whoever was verified after the last change need not be verified
again, and of whoever was verified before it nothing is known.
"""

import datetime
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
DEEPEST = 3
"""Directories below the ones named that are looked into; `voms_dir/VO/HOST.lsc` needs one."""


class TrustState(msgspec.Struct, frozen=True):
    """What the files look like: equal states have had no change in between. `newest` is the time of the last change."""

    digest: bytes
    newest: datetime.datetime


class TrustWatch:
    """Look at everything in some directories by stat(2)."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def look(self) -> TrustState:
        """Return the present state; reads directories and no file. Raises OSError for one that cannot be read.

        The time is that of the change of the inode (st_ctime), which no rename, copy or touch(1) sets back.
        """
        seen = hashlib.sha256()
        newest = 0
        for place, facts in self._all():
            row = (place, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
            seen.update(repr(row).encode())
            newest = max(newest, facts.st_ctime_ns)
        # Rounded up: what happened within this microsecond is not before its end.
        microseconds = -(-newest // 1000)
        return TrustState(seen.digest(), EPOCH + datetime.timedelta(microseconds=microseconds))

    def _all(self) -> Iterator[tuple[str, os.stat_result]]:
        for folder in self._folders:
            yield str(folder), folder.lstat()
            yield from _within(str(folder), DEEPEST)


def _within(folder: str, deeper: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield a directory and all in it, links as well as what they lead to, in one order."""
    yield folder, os.stat(folder)
    for name in sorted(os.listdir(folder)):
        place = f"{folder}/{name}"
        try:
            yield place, os.lstat(place)
            is_folder = os.path.isdir(place)
            if is_folder and deeper:
                yield from _within(place, deeper - 1)
            elif not is_folder or os.path.islink(place):
                yield place, os.stat(place)
        except OSError:
            # Gone meanwhile, a link to nothing, or not for us: the verifier cannot read it either.
            continue
