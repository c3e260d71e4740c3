"""Debian's own voms-server on a private MariaDB, in namespaces of its own.

voms-server listens on every address and cannot be told otherwise, so it gets a network namespace
that has nothing but `lo`. It and the database also get a PID namespace: when its first process is
killed, the kernel kills all of them, daemons included. That process waits for the end of a pipe, so
it ends with the tests even if they are killed themselves.
"""

import ctypes
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from toygrid import ToyGrid

PACKAGES = "voms-server voms-mysql-plugin mariadb-server"
PROGRAMS = ("/usr/sbin/voms", "/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db", "/usr/bin/mariadb")
SCHEMA = Path("/usr/share/voms/voms-mysql.data")
PLUGIN = Path("/usr/lib/voms/libvomsmysql.so")
CLONE_NEWNET = 0x40000000
START_SECONDS = 240
PORT = 15000

ResultT = TypeVar("ResultT")
UNSHARE = ("unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")


def why_not() -> str:
    """Return why the real server cannot be run here, or an empty text."""
    missing = [path for path in (*PROGRAMS, str(SCHEMA), str(PLUGIN)) if not Path(path).exists()]
    if missing:
        return f"{missing[0]} is missing: apt-get install --no-install-recommends {PACKAGES}"
    if os.geteuid() != 0:
        return "namespaces and the voms and mysql accounts need root"
    probe = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    # In a chroot whose root is no mount point, the mounts cannot be made private.
    return "" if probe.returncode == 0 else f"no network and mount namespaces here: {probe.stderr.strip()}"


class RealVoms:
    """One VO, `demo`, on `localhost:15000` inside the namespaces; left by `close` without a trace.

    `members` maps subjects to FQANs of groups and roles.
    """

    def __init__(self, grid: ToyGrid, members: Mapping[str, Sequence[str]], *, newformat: bool = False) -> None:
        self.grid = grid
        self.host = grid.host("localhost")
        self.root = Path(tempfile.mkdtemp(prefix="pilotage-voms-", dir="/tmp"))
        self.log = self.root / "log" / "voms"
        self._namespace: subprocess.Popen[bytes] | None = None
        try:
            self._start(members, newformat)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "RealVoms":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill everything in the namespaces and remove every file."""
        if self._namespace is not None:
            self._namespace.kill()
            self._namespace.communicate()
            self._namespace = None
        for _ in range(600):
            shutil.rmtree(self.root, ignore_errors=True)
            if not self.root.exists():
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.root} could not be removed")

    @property
    def vomses_line(self) -> str:
        """Return the server's line for a vomses file."""
        return f'"demo" "localhost" "{PORT}" "{self.host.dn}" "demo"\n'

    def inside(self, call: Callable[[], ResultT]) -> ResultT:
        """Run a call in a thread that sees the server's network; its sockets stay there."""
        with open(f"/proc/{self._init_pid}/ns/net", "rb") as namespace, ThreadPoolExecutor(1) as pool:

            def enter_and_call() -> ResultT:
                # Only this thread changes its network, and it ends with the pool.
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                return call()

            return pool.submit(enter_and_call).result()

    def run(self, *command: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program inside the namespaces."""
        enter = ["nsenter", "--target", str(self._init_pid), "--net", "--pid", "--mount", "--wd=/"]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **(environ or {})}
        return subprocess.run(
            [*enter, *command],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    # inside

    def _start(self, members: Mapping[str, Sequence[str]], newformat: bool) -> None:
        self.root.chmod(0o755)
        for name, owner in (("data", "mysql"), ("run", "mysql"), ("log", "voms"), ("keys", "voms")):
            folder = self.root / name
            folder.mkdir(mode=0o755)
            shutil.chown(folder, owner)
        self._namespace = subprocess.Popen(
            [*UNSHARE, "sh", "-c", "ip link set lo up && echo up && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._namespace.stdout is not None
        if self._namespace.stdout.readline() != b"up\n":
            raise RuntimeError("the network namespace did not come up")
        children = Path(f"/proc/{self._namespace.pid}/task/{self._namespace.pid}/children").read_text().split()
        self._init_pid = int(children[0])
        self._start_database(members)
        self._start_voms(newformat)

    def _start_database(self, members: Mapping[str, Sequence[str]]) -> None:
        self._must("mariadb-install-db", "--no-defaults", f"--datadir={self.root}/data", "--user=mysql")
        options = ["--no-defaults", f"--datadir={self.root}/data", f"--socket={self._socket}", "--skip-networking"]
        options += [f"--pid-file={self.root}/run/pid", f"--log-error={self.root}/run/log", "--user=mysql"]
        options += ["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--innodb-flush-method=fsync"]
        self._must("sh", "-c", 'setsid mariadbd "$@" >/dev/null 2>&1 &', "sh", *options)
        self._wait(lambda: self._query("SELECT 1;").returncode == 0, "MariaDB", self.root / "run" / "log")
        self._password = secrets.token_hex(12)
        done = self._query(self._database_text(members))
        if done.returncode:
            raise RuntimeError(f"the VO's database cannot be made: {done.stderr}")

    def _start_voms(self, newformat: bool) -> None:
        keys = {"cert.pem": self.host.cert_path.read_bytes(), "key.pem": self.host.key_path.read_bytes()}
        keys["password"] = self._password.encode() + b"\n"
        for name, content in keys.items():
            path = self.root / "keys" / name
            path.write_bytes(content)
            shutil.chown(path, "root" if name == "password" else "voms", "voms")
            path.chmod(0o640 if name == "password" else 0o400)
        options = [f"--vo=demo\n--port={PORT}\n--uri=localhost:{PORT}\n--dbname=voms_demo\n--username=voms_demo"]
        options += ["--contactstring=localhost", f"--mysql-socket={self._socket}", f"--sqlloc={PLUGIN}"]
        options += [f"--passfile={self.root}/keys/password", f"--x509_user_cert={self.root}/keys/cert.pem"]
        options += [f"--x509_user_key={self.root}/keys/key.pem", f"--x509_cert_dir={self.root}/certificates"]
        options += [f"--logfile={self.log}", "--loglevel=5", "--timeout=43200", "--socktimeout=20"]
        options += ["--newformat"] if newformat else []
        lsc = self.grid.voms_dir / "demo" / "localhost.lsc"
        lsc.parent.mkdir(exist_ok=True)
        lsc.parent.chmod(0o755)
        lsc.write_text(f"{self.host.dn}\n{self.grid.ca_dn}\n")
        lsc.chmod(0o644)
        # The tests' own folders are closed to the account that the server runs as.
        shutil.copytree(self.grid.ca_dir, self.root / "certificates")
        shutil.copytree(self.grid.voms_dir, self.root / "vomsdir")
        conf = self.root / "voms.conf"
        conf.write_text("\n".join(options) + "\n")
        conf.chmod(0o644)
        trust = {"X509_VOMS_DIR": f"{self.root}/vomsdir", "X509_CERT_DIR": f"{self.root}/certificates"}
        self._must("runuser", "-u", "voms", "--", "/usr/sbin/voms", "--conf", str(conf), environ=trust)
        listening = f":{PORT:04X} 00000000:0000 0A"
        table = Path(f"/proc/{self._init_pid}/net/tcp")
        self._wait(lambda: listening in table.read_text(), "voms-server", self.log)

    @property
    def _socket(self) -> str:
        return f"{self.root}/run/socket"

    def _database_text(self, members: Mapping[str, Sequence[str]]) -> str:
        """Return what voms_install_db does, with this VO's members."""
        groups: dict[str, int] = {"/demo": 1}
        roles: dict[str, int] = {}
        statements = ["CREATE DATABASE voms_demo; USE voms_demo;", SCHEMA.read_text()]
        statements.append(
            f"GRANT SELECT, LOCK TABLES ON voms_demo.* TO voms_demo@localhost IDENTIFIED BY '{self._password}';"
        )
        statements.append(f"INSERT INTO ca VALUES (6, '{self.grid.ca_dn}', 'Toy Grid CA');")
        statements.append("INSERT INTO seqnumber VALUES ('00'); INSERT INTO version (version) VALUES (2);")
        statements.append("INSERT INTO `groups` VALUES (1, '/demo', 1, 1);")
        for user, (dn, fqans) in enumerate(members.items(), start=1):
            statements.append(f"INSERT INTO usr VALUES ({user}, '{dn}', 6, 'a member', NULL, NULL);")
            for fqan in dict.fromkeys(("/demo", *fqans)):
                group, _, role = fqan.partition("/Role=")
                if group not in groups:
                    groups[group] = len(groups) + 1
                    statements.append(f"INSERT INTO `groups` VALUES ({groups[group]}, '{group}', 1, 1);")
                if role and role not in roles:
                    roles[role] = len(roles) + 1
                    statements.append(f"INSERT INTO roles VALUES ({roles[role]}, '{role}');")
                row = f"{user}, {groups[group]}, {roles[role] if role else 'NULL'}"
                statements.append(f"INSERT INTO m (userid, gid, rid) VALUES ({row});")
        return "\n".join(statements)

    def _query(self, text: str) -> subprocess.CompletedProcess[str]:
        command = ["mariadb", "--no-defaults", f"--socket={self._socket}", "--user=root", "--batch"]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=240, check=False)

    def _must(self, *command: str, environ: Mapping[str, str] | None = None) -> None:
        done = self.run(*command, environ=environ)
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-1000:]}")

    def _wait(self, ready: Callable[[], bool], what: str, log: Path) -> None:
        end = time.monotonic() + START_SECONDS
        while not ready():
            if time.monotonic() > end:
                tail = log.read_text(errors="replace")[-1000:] if log.exists() else "it wrote no log"
                raise RuntimeError(f"{what} did not come up: {tail}")
            time.sleep(0.05)
