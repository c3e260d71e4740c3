"""The real setuid helper, built, installed and given accounts, for tests that run as root.

Everything lies below one root-owned prefix and is removed at the end, also after failures. Accounts and prefix
carry the session's pid, so sessions do not meet; what a killed session left is tidied up by the next one.
"""

import contextlib
import grp
import json
import os
import platform
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from toygrid import Identity, ToyGrid

ROOT = Path(__file__).resolve().parents[2]
OURS = f"pgt{os.getpid()}-"
PILOT, SECOND_PILOT, VERIFIER, EXTRA_GROUP = (f"{OURS}{name}" for name in ("pilot", "pilot2", "verify", "extra"))
POOL = f"{OURS}pool"
POOL_SIZE = 12
LIBC = {"libc.so.6"} | ({"ld-linux-aarch64.so.1"} if platform.machine() == "aarch64" else set())
LIBEXEC = {
    **dict.fromkeys(("pilotage-verify", "pilotage-map", "pilotage-sweep", "pilotage-control"), 0o755),
    "pilotage-keep": 0o700,
    "pilotage-logonly": 0o711,
}
ANALYSIS = "/demo/Role=analysis"
CONFIG = """\
[helper]
ca_dir = {grid}/certificates
voms_dir = {grid}/vomsdir
verify_user = {verifier}
min_uid = 1000
min_gid = 1000
audit_file = {log}
syslog = no
{more}

[map]
grid_mapfile = {etc}/grid-mapfile
gridmapdir = {etc}/gridmapdir
{mapping}

[caller {pilot}]
vos = demo
accounts = {pool}*
"""


class Outcome(msgspec.Struct, frozen=True):
    """What one call of the helper gave back."""

    code: int
    out: str
    err: str
    status: tuple[dict[str, object], ...]

    @property
    def reason(self) -> str:
        """The reason of the refusal, or of the end."""
        return str(self.status[-1].get("reason", "")) if self.status else ""

    def line(self, event: str) -> dict[str, object]:
        """The one status line of this event."""
        (found,) = [line for line in self.status if line["event"] == event]
        return found


def command(*words: str, retries: int = 300) -> None:
    """Run an administrator's program; the account database may be locked by another one for a moment."""
    for _ in range(retries):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "lock" not in done.stderr:
            break
        time.sleep(0.2)
    raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


class HelperRig:
    """One installation of the helper and the grid it trusts."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.etc = prefix / "etc"
        self.log = prefix / "log" / "helper.jsonl"
        self.rundir = prefix / "run"
        self.program = prefix / "sbin" / "pilotage-exec"
        self.keeper = prefix / "libexec" / "pilotage-keep"
        self.verifier = prefix / "libexec" / "pilotage-verify"
        self.mapper = prefix / "libexec" / "pilotage-map"
        self.config = self.etc / "helper.conf"
        self.gridmapdir = self.etc / "gridmapdir"
        self.attacks = prefix / "attacks"
        for folder in ("etc", "log", "sbin", "libexec", "attacks", "home", "grid", "proxies"):
            (prefix / folder).mkdir(parents=True)
            (prefix / folder).chmod(0o755)
        self._make_accounts()
        self._build()
        self.grid = ToyGrid(prefix / "grid")
        self.owners = [self.grid.user(f"owner {n}") for n in range(1, 4)]
        self._proxies: dict[tuple[str, str, str], Path] = {}
        self.calls: list[subprocess.Popen[bytes]] = []
        self.map(f'"{ANALYSIS}" .{POOL}\n"/demo" .{POOL}\n')
        self.configure()
        self.no_namespaces = self._ask_for_namespaces()

    # made once

    def _make_accounts(self) -> None:
        command("groupadd", EXTRA_GROUP)
        command("useradd", "-r", "-M", "-d", "/nonexistent", "-s", "/usr/sbin/nologin", VERIFIER)
        self.pools = [f"{POOL}{n:02}" for n in range(1, POOL_SIZE + 1)]
        for name in (PILOT, SECOND_PILOT, *self.pools):
            home = self.prefix / "home" / name
            command("useradd", "-m", "-K", "HOME_MODE=0700", "-d", str(home), "-s", "/bin/sh", name)
        command("usermod", "-a", "-G", EXTRA_GROUP, PILOT)
        self.pilot = pwd.getpwnam(PILOT)
        self.groups = (self.pilot.pw_gid, grp.getgrnam(EXTRA_GROUP).gr_gid)
        self.uids = {pwd.getpwnam(name).pw_uid for name in self.pools}
        self.gridmapdir.mkdir(mode=0o755)
        self.release_all()

    def _build(self) -> None:
        tree = self.prefix / "build"
        paths = {"CONFIG": self.config, "VERIFY": self.verifier, "RUNDIR": self.rundir}
        options = [f"-DPILOTAGE_{name}={path}" for name, path in paths.items()]
        configure = ["cmake", "-S", str(ROOT), "-B", str(tree), "-DCMAKE_BUILD_TYPE=RelWithDebInfo", *options]
        build = ["cmake", "--build", str(tree), "--target", "pilotage-exec", *LIBEXEC]
        for words in (configure, build):
            subprocess.run(words, check=True, capture_output=True, timeout=800)
        for name, target, mode in (
            ("pilotage-exec", self.program, 0o4711),
            *((name, self.verifier.with_name(name), mode) for name, mode in LIBEXEC.items()),
        ):
            shutil.copyfile(tree / "helper_c" / name, target)
            target.chmod(mode)

    def attack(self, name: str) -> Path:
        """Compile one program of tests/attack."""
        program = self.attacks / name
        if not program.exists():
            source = ROOT / "tests" / "attack" / f"{name}.c"
            words = ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o", str(program)]
            words += ["-I", str(ROOT / "helper_c" / "include"), "-I", str(ROOT / "helper_c" / "src")]
            subprocess.run([*words, str(source)], check=True, timeout=120)
            program.chmod(0o755)
        return program

    # configuration

    def configure(self, more: str = "", text: str | None = None, mapping: str = "") -> None:
        """Write helper.conf anew; `more` goes into [helper], `mapping` into [map]."""
        names = {"grid": self.prefix / "grid", "etc": self.etc, "log": self.log, "more": more, "mapping": mapping}
        whole = text or CONFIG.format(**names, verifier=VERIFIER, pilot=PILOT, pool=POOL)
        self.config.unlink(missing_ok=True)
        self.config.write_text(whole)
        self.config.chmod(0o644)

    @contextlib.contextmanager
    def configured(
        self, more: str = "", change: Callable[[str], str] | None = None, mapping: str = ""
    ) -> Iterator[None]:
        """Run the block with another configuration."""
        before = self.config.read_text()
        self.configure(more, mapping=mapping)
        if change:
            self.configure(text=change(self.config.read_text()))
        try:
            if "namespaces = required" in self.config.read_text() and self.no_namespaces:
                pytest.skip(f"no namespaces here: {self.no_namespaces}")
            yield
        finally:
            self.configure(text=before)

    def _ask_for_namespaces(self) -> str:
        """Tell why the helper cannot make namespaces on this machine, by its own word; empty when it can.

        In a chroot whose root is no mount point, for one, the mounts cannot be made slaves of the machine's.
        """
        self.configure("\n[isolation]\nnamespaces = required")
        done = self.run("/bin/true")
        self.configure()
        self.release_all()
        self.log.unlink(missing_ok=True)
        return str(done.status[0]["message"]) if done.reason == "ISOLATION_FAILED" else ""

    def map(self, text: str | bytes) -> None:
        """Write the grid-mapfile anew."""
        path = self.etc / "grid-mapfile"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(0o644)

    @contextlib.contextmanager
    def mapped(self, text: str | bytes) -> Iterator[None]:
        """Run the block with another grid-mapfile."""
        before = (self.etc / "grid-mapfile").read_bytes()
        self.map(text)
        try:
            yield
        finally:
            self.map(before)

    def release_all(self) -> None:
        """Make every account of the pool free again."""
        for path in self.gridmapdir.iterdir():
            path.unlink()
        for name in self.pools:
            (self.gridmapdir / name).touch(mode=0o644)

    # proxies

    def proxy(self, owner: int = 0, *, fqans: Sequence[str] = (ANALYSIS,), vo: str = "demo") -> Path:
        """Return the pilot's file with a VOMS proxy of an owner, made on first use by voms-proxy-fake."""
        key = (str(owner), vo, " ".join(fqans))
        if key not in self._proxies:
            out = self.prefix / "proxies" / f"p{len(self._proxies)}.pem"
            self.grid.voms_proxy(self.owners[owner], out, vo=vo, fqans=fqans)
            self._proxies[key] = self.give(out)
        return self._proxies[key]

    def plain_proxy(self, who: Identity, name: str, *, hours: int = 12) -> Path:
        """Return the pilot's file with a proxy without attributes."""
        return self.give(self.grid.plain_proxy(who, self.prefix / "proxies" / name, hours=hours))

    def give(self, path: Path, mode: int = 0o600) -> Path:
        """Hand a file to the pilot."""
        os.chown(path, self.pilot.pw_uid, self.pilot.pw_gid)
        path.chmod(mode)
        return path

    # calling

    def start(
        self,
        arguments: Sequence[str | bytes],
        *,
        user: str = PILOT,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
        program: Sequence[str] = (),
    ) -> "subprocess.Popen[bytes]":
        """Start the helper as the pilot's account, with its groups; `prepare` runs as it just before."""
        entry = pwd.getpwnam(user)
        groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
        process = subprocess.Popen(
            [*program, str(self.program), *arguments],
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=groups,
            cwd="/",
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            env=environment or {"PATH": "/usr/bin:/bin"},
            preexec_fn=prepare,
        )
        self.calls.append(process)
        return process

    def end_calls(self) -> None:
        """End what a failed test left running, so that it fails alone."""
        for process in self.calls:
            if process.poll() is None:
                process.kill()
                process.wait()
                self.wait(lambda: self.processes() == [])
        self.calls.clear()

    def run(
        self,
        *payload: str | Path,
        proxy: Path | None = None,
        options: Sequence[str] = (),
        verb: str = "run",
        user: str = PILOT,
        environment: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
        program: Sequence[str] = (),
        seconds: float = 120,
    ) -> Outcome:
        """Run one payload and wait for its end."""
        reader, writer = os.pipe()
        try:
            arguments = [verb, "--proxy", str(proxy or self.proxy()), "--status-fd", str(writer), *options]
            arguments += ["--", *map(str, payload)] if payload else []
            process = self.start(
                arguments, user=user, pass_fds=(writer,), environment=environment, prepare=prepare, program=program
            )
            os.close(writer)
            writer = -1
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            with os.fdopen(reader, closefd=False) as file:
                lines = tuple(json.loads(line) for line in file)
        finally:
            os.close(reader)
            if writer != -1:
                os.close(writer)
        return Outcome(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"), lines)

    # looking

    def audit(self) -> list[dict[str, object]]:
        """Every line of the audit log; each must be valid JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def since(self, before: int) -> list[dict[str, object]]:
        """The audit lines after the first `before` ones."""
        return self.audit()[before:]

    def processes(self) -> list[int]:
        """The living processes of all pool accounts; one that only waits to be reaped is dead."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if folder.name.isdigit() and os.stat(folder).st_uid in self.uids:
                    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                    found += [int(folder.name)] if state != "Z" else []
        return found

    def left(self) -> list[Path]:
        """What is left of any run: run directories, shared files, records and control groups."""
        found = [*(self.prefix / "home").glob("*/pilotage-*"), *(self.rundir / "jobs").glob("*")]
        for folder in ("/tmp", "/var/tmp", "/dev/shm"):
            for path in Path(folder).iterdir():
                # Other programs' files go meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    found += [path] if path.lstat().st_uid in self.uids else []
        mine = {f"pilotage-{line['run_id']}" for line in self.audit()}
        # os.walk does not mind the groups of other sessions that go meanwhile.
        return found + [
            Path(top, name) for top, names, _ in os.walk("/sys/fs/cgroup") for name in names if name in mine
        ]

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> bool:
        """Wait until a condition of the system holds; the bound is for one that never will, on a slow machine too."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True


def is_over(name: str) -> bool:
    """Tell whether an account, group or prefix is this session's, or of one that is no more."""
    found = re.match(r"pgt(\d+)-|pilotage-rig-(\d+)$", name)
    if found is None:
        return False
    pid = found.group(1) or found.group(2)
    return int(pid) == os.getpid() or not Path(f"/proc/{pid}").exists()


def tidy_up() -> None:
    """Remove accounts, their processes and files, of this session and of killed ones; nobody else's."""
    for entry in [entry for entry in pwd.getpwall() if is_over(entry.pw_name)]:
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and os.stat(folder).st_uid == entry.pw_uid:
                    os.kill(int(folder.name), 9)
        command("userdel", "-f", entry.pw_name)
    for group in [group.gr_name for group in grp.getgrall() if is_over(group.gr_name)]:
        command("groupdel", group)
    for prefix in Path("/opt").glob("pilotage-rig-*"):
        if is_over(prefix.name):
            shutil.rmtree(prefix, ignore_errors=True)


@pytest.fixture(scope="session")
def rig() -> Iterator[HelperRig]:
    """Install the helper for the session."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes accounts and installs the setuid helper")
    if shutil.which("useradd") is None or shutil.which("voms-proxy-fake") is None:
        pytest.skip("needs useradd and voms-proxy-fake: see deploy/packages.txt")
    if os.statvfs("/opt").f_flag & os.ST_NOSUID:
        pytest.skip("needs a file system without nosuid at /opt")
    tidy_up()
    try:
        yield HelperRig(Path(f"/opt/pilotage-rig-{os.getpid()}"))
    finally:
        tidy_up()
