"""A payload that inherits the pilot's terminal can type nothing into it (checklist A15)."""

import os
import select
import subprocess
import termios

import pytest

from support.helper_rig import HelperRig

pytestmark = pytest.mark.root
TAKE = (
    "import fcntl, os, sys, termios\n"
    "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execv(sys.argv[1], sys.argv[1:])\n"
)


def on_a_terminal(rig: HelperRig, *words: str, helper: bool) -> tuple[int, str, bytes]:
    """Run with a terminal of our own as descriptor 0; return code, output and what was typed into it."""
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    program = ["/usr/bin/python3", "-c", TAKE]
    if helper:
        process = rig.start(["run", "--proxy", str(rig.proxy()), "--", *words], program=program, stdin=slave)
    else:
        process = subprocess.Popen(
            [*program, *words], stdin=slave, stdout=subprocess.PIPE, user=rig.pilot.pw_uid, group=rig.pilot.pw_gid
        )
    out, _ = process.communicate(timeout=120)
    typed = os.read(slave, 4096) if select.select([slave], [], [], 0)[0] else b""
    os.close(slave)
    os.close(master)
    return process.returncode, out.decode(), typed


@pytest.mark.parametrize("spaces", ["off", "required"])
def test_nothing_is_injected_into_an_inherited_terminal(rig: HelperRig, spaces: str) -> None:
    attack = str(rig.attack("terminal"))
    # In a session of its own the attack works, so that its failure below means something.
    _, out, typed = on_a_terminal(rig, attack, helper=False)
    if "TIOCSTI" not in out:
        assert "/dev/tty" in out
    else:
        assert typed == b"echo injected\n"
    with rig.configured(f"\n[isolation]\nnamespaces = {spaces}"):
        assert on_a_terminal(rig, attack, helper=True) == (0, "tried\n", b"")
