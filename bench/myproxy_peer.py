"""The real myproxy-server and its real clients, as the peer that our credential service is measured against."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
from bench.service import PROCESSOR
from toygrid import Identity, ToyGrid

CONFIGURATION = """\
accepted_credentials "*"
authorized_retrievers "*"
default_retrievers "*"
authorized_renewers "*"
default_renewers "none"
trusted_retrievers "*"
default_trusted_retrievers "none"
authorized_key_retrievers "*"
default_key_retrievers "none"
"""


class MyProxy:
    """One myproxy-server of Debian's package on loopback; it forks for every connection."""

    def __init__(self, grid: ToyGrid, folder: Path, host: Identity, owner: Path, pilot: Path) -> None:
        self._folder = folder
        storage = folder / "storage"
        storage.mkdir(mode=0o700)
        (folder / "myproxy.conf").write_text(CONFIGURATION)
        key = folder / "hostkey.pem"
        shutil.copyfile(host.key_path, key)
        key.chmod(0o600)
        base = {"PATH": "/usr/sbin:/usr/bin:/bin", "X509_CERT_DIR": str(grid.ca_dir), "HOME": str(folder)}
        self._client = base | {"MYPROXY_SERVER_DN": host.dn}
        self._pilot = str(pilot)
        self._owner = str(owner)
        port, pid = folder / "port", folder / "pid"
        server = base | {"X509_USER_CERT": str(host.cert_path), "X509_USER_KEY": str(key)}
        words = ["myproxy-server", "-l", "localhost", "-p", "0", "-s", str(storage)]
        words += ["-c", str(folder / "myproxy.conf"), "-z", str(port), "-P", str(pid)]
        subprocess.run(words, env=server, check=True, capture_output=True, timeout=30)
        deadline = time.monotonic() + 10
        while not (port.exists() and port.read_text().strip() and pid.exists() and pid.read_text().strip()):
            if time.monotonic() > deadline:
                raise RuntimeError("myproxy-server did not start")
            time.sleep(0.05)
        self._port = port.read_text().strip()
        self._process = psutil.Process(int(pid.read_text()))
        # What it forks for a connection inherits this.
        self._process.cpu_affinity([PROCESSOR])
        request = folder / "request.pem"
        words = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
        words += ["-keyout", str(folder / "request.key"), "-out", str(request)]
        subprocess.run(words, check=True, capture_output=True, timeout=60)
        self._request = request

    def put(self, name: str = "peer") -> None:
        """Delegate a credential to it, whose key the server makes, for trusted retrievers without a pass phrase."""
        hours = ("-c", "12", "-t", "12")
        self._run(
            self._owner, "myproxy-init", "-l", name, "-n", "-Z", "*", *hours, "-C", self._owner, "-y", self._owner
        )

    def get(self, name: str = "peer") -> None:
        """Let it delegate to the pilot, for a request that was made before: the client makes no key."""
        files = ("-Q", str(self._request), "-o", str(self._folder / f"out-{threading.get_ident()}"))
        self._run(self._pilot, "myproxy-logon", "-l", name, "-n", *files)

    def info(self, name: str = "peer") -> None:
        """Ask what it holds."""
        self._run(self._owner, "myproxy-info", "-l", name)

    def cpu_seconds(self) -> float:
        """Return the processor time of the server and of all connections that are over."""
        times = self._process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system

    def settle(self) -> None:
        """Wait until no connection is open, so that its time is counted."""
        deadline = time.monotonic() + 10
        while self._process.children() and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(self._process.pid, signal.SIGTERM)
            self._process.wait(10)

    def _run(self, proxy: str, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [program, "-s", "localhost", "-p", self._port, *arguments],
            env=self._client | {"X509_USER_PROXY": proxy},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')}")
        self.settle()
