"""The demo's accounts: made once, told from others' by their mark, removed with the rest.

Standard library only: `make clean-demo` works when nothing is installed any more.
"""

import grp
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from journey.steps import DemoError

PILOT, SERVER, VERIFIER = "pilot", "toy-server", "toy-verify"
OWNERS = ("alice", "bob")
POOL = ("demo01", "demo02", "demo03", "demo04")
EVERYBODY = (PILOT, SERVER, VERIFIER, *OWNERS, *POOL)
MARK = "Pilotage demo - make clean-demo removes it"


class Accounts:
    """All accounts of one demo; their homes lie below one folder."""

    def __init__(self, homes: Path) -> None:
        self.homes = homes

    def is_ours(self, name: str) -> bool:
        """Return whether an account exists and this demo made it: the mark and the home both say so."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return False
        return entry.pw_gecos == MARK and entry.pw_dir == str(self.homes / name)

    def make(self) -> None:
        """Make every account that is missing, with an empty home; refuse a name somebody else uses."""
        for name in EVERYBODY:
            if not self.is_ours(name):
                self._refuse_taken(name)
        for name in EVERYBODY:
            if not self.is_ours(name):
                command = ["useradd", "--user-group", "--no-create-home", "--home-dir", str(self.homes / name)]
                command += ["--shell", "/bin/sh", "--comment", MARK, name]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise DemoError(f"useradd {name} failed: {done.stderr.strip()}")
        self.empty_homes()

    def empty_homes(self) -> None:
        """Give every account a new, empty home that is its own alone."""
        self.homes.mkdir(exist_ok=True)
        self.homes.chmod(0o755)
        for name in EVERYBODY:
            home = self.homes / name
            if home.exists():
                shutil.rmtree(home)
            home.mkdir(mode=0o700)
            give(home, name)

    def remove(self) -> list[str]:
        """Remove the accounts this demo made and no other; return their names."""
        removed = []
        for name in EVERYBODY:
            if self.is_ours(name):
                done = subprocess.run(["userdel", name], capture_output=True, text=True, check=False)
                if done.returncode:
                    raise DemoError(f"userdel {name} failed: {done.stderr.strip()}")
                removed.append(name)
        return removed

    def _refuse_taken(self, name: str) -> None:
        for kind, look in (("an account", pwd.getpwnam), ("a group", grp.getgrnam)):
            try:
                look(name)
            except KeyError:
                continue
            raise DemoError(
                f"this machine already has {kind} called {name} that the demo did not make, and it is left alone: "
                "run the demo on another machine (a container will do)"
            )


def uid(name: str) -> int:
    """Return the uid of an account."""
    return pwd.getpwnam(name).pw_uid


def home(name: str) -> str:
    """Return the home of an account, as the machine's account table has it."""
    return pwd.getpwnam(name).pw_dir


def give(path: Path, name: str, mode: int | None = None) -> None:
    """Give a path to an account and its group."""
    entry = pwd.getpwnam(name)
    os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    if mode is not None:
        path.chmod(mode)
