"""The whole main job for tests that run as root: the real server, the real setuid helper, real pilot processes.

Each pilot is `pilotage-pilot`, run by the pilot's own account; payloads run under accounts of the helper rig's pool.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from toygrid import Identity

from pilotage.client import Client
from pilotage.jobs import Job, JobSpec, LogStream
from pilotage.x509.files import load_identity
from support.helper_rig import ANALYSIS, PILOT, HelperRig
from support.ports import free_port
from support.server_rig import PILOT_ROLE, Rig, as_toml

ROOT = Path(__file__).resolve().parents[2]
LEASES = {"sent_seconds": 20, "lease_seconds": 20, "heartbeat_seconds": 0.5, "sweep_seconds": 0.5, "retry_seconds": 0.5}


class Pilot:
    """One pilot process."""

    def __init__(self, process: "subprocess.Popen[bytes]", workdir: Path, output: Path) -> None:
        self.process = process
        self.workdir = workdir
        self._output = output

    @property
    def log(self) -> str:
        """Everything it said."""
        return self._output.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 120) -> int:
        """Signal it and return its exit code."""
        self.process.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = 120) -> int:
        """Wait for its end."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError("the pilot does not end:\n" + self.log) from None

    def private_files(self) -> list[Path]:
        """What lies in its private folder for attempts."""
        return [path for path in (self.workdir / "attempts").rglob("*") if path.is_file()]


class PilotRig:
    """A server, an installed helper, owners with proxies, and as many pilots as wanted."""

    def __init__(self, helper: HelperRig, server: Rig, root: Path, python: Sequence[str], path: str) -> None:
        self.helper = helper
        self.server = server
        self._root = root
        self._python = python
        self._path = path
        self._pilots: list[Pilot] = []
        self._clients: list[Client] = []
        self.wrapper = helper.prefix / "libexec" / "pilotage-wrapper.py"
        shutil.copyfile(ROOT / "pilot" / "pilotage_pilot" / "wrapper" / "pilotage_wrapper.py", self.wrapper)
        self.wrapper.chmod(0o644)

    def owner(self, number: int) -> Client:
        """Return the SDK of one of the helper rig's owners."""
        out = self._root / f"owner{number}.proxy"
        if not out.exists():
            self.helper.grid.voms_proxy(self.helper.owners[number], out, fqans=(ANALYSIS, "/demo"))
        identity = load_identity(out)
        client = Client(
            self.server.target, ca_dir=self.helper.grid.ca_dir, identity=identity, environ={"HOME": str(self._root)}
        )
        self._clients.append(client)
        return client

    def robot(self, name: str = "Robot - pilot factory") -> Path:
        """Return a pilot's proxy, with the role, in a file of the pilot's account."""
        out = self._root / f"{name.replace(' ', '')}.proxy"
        if not out.exists():
            self.helper.grid.voms_proxy(self.helper.grid.robot(name), out, fqans=(PILOT_ROLE, "/demo"))
            self.helper.give(out)
        return out

    def settings(self, name: str, **changes: object) -> dict[str, object]:
        """Return a pilot's configuration."""
        return {
            "server": self.server.target,
            "ca_dir": str(self.helper.grid.ca_dir),
            "proxy": str(self.robot()),
            "site": "TOY",
            "worker_node": name,
            "workdir": str(self._root / name),
            "slots": 2,
            "cores": 1,
            "wall_seconds": 7200,
            "helper": str(self.helper.program),
            "wrapper": str(self.wrapper),
            "key_kind": "ec",
            "poll_seconds": 2,
            **changes,
        }

    def start(self, name: str = "wn1", arguments: Sequence[str] = (), **changes: object) -> Pilot:
        """Start a pilot by the pilot's account."""
        config = self._root / f"{name}.toml"
        tables = {key: changes.pop(key) for key, value in list(changes.items()) if isinstance(value, dict)}
        config.write_text(as_toml({"x": self.settings(name, **changes), **tables}).removeprefix("[x]\n"))  # type: ignore[dict-item]
        workdir = self._root / name
        if not workdir.exists():
            workdir.mkdir(mode=0o700)
            os.chown(workdir, self.helper.pilot.pw_uid, self.helper.pilot.pw_gid)
        output = self._root / f"{name}-{len(self._pilots)}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*self._python, "-m", "pilotage_pilot.cli", "--config", str(config), *arguments],
                user=self.helper.pilot.pw_uid,
                group=self.helper.pilot.pw_gid,
                extra_groups=[],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "HOME": self.helper.pilot.pw_dir, "PYTHONPATH": self._path},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        pilot = Pilot(process, workdir, output)
        self._pilots.append(pilot)
        return pilot

    def until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait until a condition of the system holds, or show what the pilots said."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("\n".join(pilot.log for pilot in self._pilots))
            time.sleep(0.05)

    def submit(self, client: Client, *command: str, inputs: Mapping[str, str] | None = None, **spec: object) -> str:
        """Submit one job; `inputs` are the files of its sandbox, by name."""
        members = {}
        for name, text in (inputs or {}).items():
            path = self._root / f"input-{name}"
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)
            members[name] = path
        job = JobSpec(command=command, **{"wall_seconds": 600, **spec})  # type: ignore[arg-type]  # fields of JobSpec
        return client.submit([job], members=members)[0]

    def wait(self, client: Client, job_id: str, seconds: float = 180) -> Job:
        """Wait for a job's end, or show what the pilots said."""
        job = client.wait([job_id], timeout=seconds)[job_id]
        if not job.final:
            raise AssertionError(f"{job.state.label}: {job.reason}\n" + "\n".join(pilot.log for pilot in self._pilots))
        return job

    def printed(self, client: Client, job_id: str, stream: LogStream = LogStream.STDOUT) -> str:
        """Return what a job printed."""
        return b"".join(chunk.data for chunk in client.logs(job_id, stream)).decode()

    def running(self, client: Client, job_id: str) -> None:
        """Wait until a job says `ready` on its standard output."""
        self.until(lambda: "ready" in self.printed(client, job_id))

    def nothing_left(self) -> None:
        """Check that no process, file or proxy of any payload is left."""
        self.helper.wait(lambda: not self.helper.processes() and not self.helper.left())
        left = [str(place) for place in (*self.helper.processes(), *self.helper.left())]
        assert not left, left
        for pilot in self._pilots:
            if pilot.process.poll() is None:
                self.until(lambda pilot=pilot: not pilot.private_files())  # type: ignore[misc]  # bound at once

    def close(self) -> None:
        """End all pilots and clients."""
        for client in self._clients:
            client.close()
        for pilot in self._pilots:
            if pilot.process.poll() is None:
                pilot.process.kill()
            pilot.process.wait(60)


def pilot_python(request: pytest.FixtureRequest, uid: int) -> tuple[list[str], str]:
    """Return an interpreter and module path that the pilot's account can use: this checkout's, else a stage's."""
    path = os.pathsep.join(str(ROOT / name) for name in ("sdk", "pilot", "helper_c/python"))
    try:
        subprocess.run(
            [sys.executable, "-c", "import pilotage_pilot.cli, pilotage.v1.job_pb2, grpc"],
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path},
            capture_output=True,
            check=True,
        )
    except (PermissionError, subprocess.CalledProcessError):
        return [str(request.getfixturevalue("stage") / "venv" / "bin" / "python")], ""
    return [sys.executable], path


@pytest.fixture(scope="session")
def host(rig: HelperRig) -> Identity:
    """The server's certificate."""
    return rig.grid.host("localhost", key="ec")


@pytest.fixture
def make_node(
    request: pytest.FixtureRequest, rig: HelperRig, host: Identity, tmp_path: Path
) -> Iterator[Callable[..., PilotRig]]:
    """Return what starts a server with settings of its own beside the installed helper."""
    # pytest's own folders are closed to other accounts; the rig's prefix is open.
    root = rig.prefix / f"pilot-{tmp_path.name}"
    root.mkdir(mode=0o711)
    root.chmod(0o711)
    python, path = pilot_python(request, rig.pilot.pw_uid)
    with contextlib.ExitStack() as stack:

        def make(**settings: dict[str, object]) -> PilotRig:
            listen = {"listen": f"127.0.0.1:{free_port()}", "listen_mutual": ""}
            server = Rig(rig.grid, tmp_path, host, {"server": listen, "leases": LEASES, **settings})
            server.start()
            stack.callback(server.stop)
            node = PilotRig(rig, server, root, python, path)
            stack.callback(node.close)
            return node

        yield make
    rig.release_all()
    shutil.rmtree(root)


@pytest.fixture
def node(make_node: Callable[..., PilotRig]) -> PilotRig:
    """A server with short leases, and the installed helper."""
    return make_node()


__all__ = ["PILOT", "Pilot", "PilotRig", "host", "make_node", "node"]
