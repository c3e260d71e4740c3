"""A log daemon of the test's own: /dev/log in a mount namespace of the helper's caller."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import HelperRig


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[tuple[socket.socket, list[str]]]:
    """A log daemon's socket, and the words that run a program where it is /dev/log: in a mount namespace of its own."""
    dev = tmp_path / "dev"
    dev.mkdir()
    for number, name in ((3, "null"), (5, "zero"), (7, "full"), (8, "random"), (9, "urandom")):
        os.mknod(dev / name, 0o666 | stat.S_IFCHR, os.makedev(1, number))
        (dev / name).chmod(0o666)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(dev / "log"))
        (dev / "log").chmod(0o666)
        server.settimeout(60)
        script = f'mount --bind {dev} /dev && exec setpriv --reuid $0 --regid $1 --clear-groups "$@"'
        yield server, ["unshare", "--mount", "/bin/sh", "-c", script]


def as_pilot(rig: HelperRig, words: list[str]) -> list[str]:
    """The words that end in `setpriv`, with the pilot's ids."""
    return [*words[:-1], words[-1].replace("$0", str(rig.pilot.pw_uid)).replace("$1", str(rig.pilot.pw_gid)), "sh"]
