"""MyProxy's own programs: Debian's clients as their users run them, and Debian's server on loopback."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec
from toygrid import Identity, ToyGrid

from support.ports import free_port

CLIENTS = "myproxy"
SERVER = "myproxy-server"
START_SECONDS = 120.0
Who = Identity | Path | None
"""A certificate and key, a proxy file, or nobody."""


class Done(msgspec.Struct, frozen=True):
    """What a program left."""

    code: int
    text: str


class Clients:
    """Debian's programs against one server; each call has a home of its own in which nothing is left."""

    def __init__(self, grid: ToyGrid, home: Path, port: int) -> None:
        if shutil.which("myproxy-init") is None:
            raise RuntimeError(f"Debian's package {CLIENTS} is not installed: see deploy/packages.txt")
        self.grid = grid
        self.home = home
        self.port = port
        self.ca_dir = grid.ca_dir

    def run(self, who: Who, program: str, *words: str, typed: Sequence[str] = ()) -> Done:
        """Run `myproxy-<program>`, typing lines where it reads its pass phrases from standard input (-S)."""
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LC_ALL": "C",
            "LOGNAME": "alice",
            "X509_CERT_DIR": str(self.ca_dir),
            "MYPROXY_SERVER": "localhost",
            "MYPROXY_SERVER_PORT": str(self.port),
            # Where there is none it is where some programs put one; else they would use the account's own.
            "X509_USER_PROXY": str(who if isinstance(who, Path) else self.home / "nobody"),
        }
        if isinstance(who, Identity):
            environ |= {"X509_USER_CERT": str(who.cert_path), "X509_USER_KEY": str(who.key_path)}
        if program == "logon" and "-o" not in words:
            # It would be the proxy of the account that runs the tests.
            words = (*words, "-o", str(self.home / "logon.pem"))
        done = subprocess.run(
            [f"myproxy-{program}", *words],
            env=environ,
            cwd=self.home,
            input="".join(f"{line}\n" for line in typed),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout + done.stderr)

    def ok(self, who: Who, program: str, *words: str, typed: Sequence[str] = ()) -> str:
        """Run a program that must work."""
        done = self.run(who, program, *words, typed=typed)
        assert done.code == 0, done.text
        return done.text

    def no(self, who: Who, program: str, *words: str, typed: Sequence[str] = ()) -> str:
        """Run a program that must fail; return the reason code that it prints, or all it says."""
        done = self.run(who, program, *words, typed=typed)
        assert done.code != 0, done.text
        _, found, said = done.text.partition("ERROR from myproxy-server:\n")
        return said.partition(":")[0] if found else done.text


class RealServer:
    """Debian's myproxy-server on loopback, with a store that ends with it."""

    def __init__(self, grid: ToyGrid, root: Path, host: Identity, policy: str) -> None:
        program = shutil.which("myproxy-server", path="/usr/sbin:/usr/bin")
        if program is None:
            raise RuntimeError(f"Debian's package {SERVER} is not installed: see deploy/packages.txt")
        self.port = free_port()
        config, store = root / "myproxy-server.config", root / "store"
        config.write_text(policy)
        config.chmod(0o600)
        store.mkdir(mode=0o700)
        environ = {
            "PATH": "/usr/sbin:/usr/bin",
            "HOME": str(root),
            "X509_USER_CERT": str(host.cert_path),
            "X509_USER_KEY": str(host.key_path),
            "X509_CERT_DIR": str(grid.ca_dir),
        }
        pid_file = root / "pid"
        words = [
            "-l",
            "localhost",
            "-p",
            str(self.port),
            "-c",
            str(config),
            "-s",
            str(store),
            "--pidfile",
            str(pid_file),
        ]
        done = subprocess.run([program, *words], env=environ, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"myproxy-server did not start: {done.stdout}{done.stderr}")
        self._pid = 0
        self._wait(pid_file)

    def __enter__(self) -> "RealServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def _wait(self, pid_file: Path) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                self._pid = int(pid_file.read_text())
                socket.create_connection(("localhost", self.port), 10).close()
            except (OSError, ValueError):
                time.sleep(0.05)
            else:
                return
        self.close()
        raise AssertionError("myproxy-server did not come up")
