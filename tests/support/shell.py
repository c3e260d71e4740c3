"""An owner at a shell: the commands they type, against a real server."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec
from click.testing import CliRunner
from toygrid import ToyGrid

from pilotage.cli.commands import cli


class Done(msgspec.Struct, frozen=True):
    """What a command left."""

    code: int
    out: str
    err: str


class Server(Protocol):
    """A server that a shell speaks to, in this process or in one of its own."""

    grid: ToyGrid

    @property
    def target(self) -> str:
        """Return the address of the login port."""
        ...


class Shell:
    """An owner at a shell of their own: home, proxy, current folder."""

    def __init__(self, rig: Server, proxy: Path, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.environ = {
            "HOME": str(home),
            "X509_USER_PROXY": str(proxy),
            "X509_CERT_DIR": str(rig.grid.ca_dir),
            "PILOTAGE_SERVER": rig.target,
        }

    def run(self, *words: str, environ: Mapping[str, str] | None = None, typed: str = "") -> Done:
        """Run a command in this process."""
        here = Path.cwd()
        os.chdir(self.home)
        cleared = dict.fromkeys((name for name in os.environ if name.startswith(("XDG_", "PILOTAGE_"))), None)
        try:
            result = CliRunner().invoke(cli, words, typed, env={**cleared, **self.environ, **(environ or {})})
        finally:
            os.chdir(here)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def ok(self, *words: str) -> str:
        """Run a command that must work."""
        done = self.run(*words)
        assert done.code == 0, done.err
        return done.out
