"""The main job, end to end: two owners, one pilot, each payload under its own account.

demo.py run      what `make demo` runs, as root, after deploy/stage (KEEP=1 leaves everything running)
demo.py clean    what `make clean-demo` runs: ends, and removes exactly what the demo made
"""

import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from journey import accounts
from journey.processes import Processes, is_running
from journey.steps import DemoError, Steps, complain, say

if TYPE_CHECKING:
    from journey.leftovers import Leftovers
    from journey.report import JobLine
    from journey.world import World

PREFIX = Path("/opt/pilotage-demo")
BUILD = Path(__file__).resolve().parent.parent.parent / "build"
READY_SECONDS = 30


def run(keep: bool) -> int:
    """Show the journey; return the exit code."""
    from journey import world as worlds

    steps = Steps()
    processes = Processes(PREFIX / "processes.json", PREFIX / "log")
    if processes.stop():
        say("an earlier demo was still running; it was ended")
    port, mutual_port = worlds.choose_ports()
    world = worlds.World(PREFIX, port, mutual_port)
    shutil.rmtree(BUILD / "demo", ignore_errors=True)
    try:
        jobs, left = journey(steps, world, processes)
    except BaseException:
        tell_logs(processes)
        processes.stop()
        raise
    if not keep:
        with steps.step("Stop pilot and server"):
            processes.stop()
    finish(jobs, left)
    print(f"Total {steps.total_seconds():.1f} s. JSON: {BUILD / 'demo' / 'report.json'}", flush=True)
    if keep:
        tell_kept(world, jobs)
    return 1 if left else 0


def journey(steps: Steps, world: "World", processes: Processes) -> "tuple[list[JobLine], Leftovers]":
    """Do what the demo shows, in order."""
    from journey import world as worlds
    from journey.leftovers import Search, end_entity
    from journey.owners import Owner

    with steps.step("Make accounts: pilot, two owners, a pool, the server's and the verifier's"):
        accounts.Accounts(world.homes).make()
        begun = time.time()
    with steps.step("Make a toy grid: authority, host, robot and users; VOMS proxies by voms-proxy-fake"):
        dns = worlds.make(world)
    with steps.step(f"Start the server as {accounts.SERVER}, and one pilot with two slots as {accounts.PILOT}"):
        start_services(world, processes)
    owners = [Owner(name, dns[name], world) for name in accounts.OWNERS]
    with steps.step("Each owner submits an analysis of their own"):
        submitted = [(owner, owner.submit()) for owner in owners]
    with steps.step("Wait for both, then show, read and fetch"):
        for owner, job_id in submitted:
            owner.wait(job_id, processes.check)
        jobs = [owner.collect(job_id) for owner, job_id in submitted]
    if len({job.uid for job in jobs}) != len(jobs):
        raise DemoError("two owners' payloads ran under one account")
    with steps.step("Nobody sees another owner's job"):
        for owner, other in ((owners[1], submitted[0]), (owners[0], submitted[1])):
            say(owner.is_refused(other[1]))
    search = Search(
        uids=frozenset(accounts.uid(name) for name in accounts.POOL),
        homes=tuple(world.homes / name for name in accounts.POOL),
        places=(world.pilot, world.server, world.prefix / "run", world.homes),
        dns=tuple(dns.values()),
        certificates=frozenset(end_entity(worlds.user_proxy(name)) for name in accounts.OWNERS),
        allowed=frozenset(worlds.user_proxy(name) for name in accounts.OWNERS),
        since=begun,
    )
    with steps.step("Search the machine for what the payloads left behind"):
        return jobs, search.measure()


def start_services(world: "World", processes: Processes) -> None:
    """Start server and pilot; go on when the server says SERVING."""
    server = processes.start(
        "server",
        accounts.SERVER,
        [world.command("pilotage-server"), "run", "--config", f"{world.server}/server.toml"],
        {},
    )
    deadline = time.monotonic() + READY_SECONDS
    while not is_serving(world, world.port):
        if not is_running(server):
            raise DemoError("the server ended before it served")
        if time.monotonic() > deadline:
            raise DemoError(f"the server did not say SERVING within {READY_SECONDS} s")
        time.sleep(0.1)
    say(f"localhost:{world.port} says SERVING")
    if not is_serving(world, world.mutual_port, robot=world.monitor):
        raise DemoError(f"the mutual-TLS port localhost:{world.mutual_port} does not say SERVING to a robot")
    say(f"localhost:{world.mutual_port}, the mutual-TLS port, says SERVING to a robot with a certificate")
    if is_serving(world, world.mutual_port):
        raise DemoError(f"the mutual-TLS port localhost:{world.mutual_port} answers callers without a certificate")
    processes.start(
        "pilot", accounts.PILOT, [world.command("pilotage-pilot"), "--config", f"{world.pilot}/pilot.toml"], {}
    )


def is_serving(world: "World", port: int, robot: Path | None = None) -> bool:
    """Ask the standard health service; a robot shows the certificate of its folder."""
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

    credentials = grpc.ssl_channel_credentials(
        (world.grid / "ca.pem").read_bytes(),
        (robot / "key.pem").read_bytes() if robot else None,
        (robot / "cert.pem").read_bytes() if robot else None,
    )
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        try:
            reply = check(HealthCheckRequest(), timeout=5)
        except grpc.RpcError:
            return False
        return bool(reply.status == HealthCheckResponse.SERVING)


def finish(jobs: "list[JobLine]", left: "Leftovers") -> None:
    """Print the report and write it as JSON."""
    from journey.report import as_text, write_json

    write_json(BUILD / "demo" / "report.json", jobs, left)
    print("\n" + as_text(jobs, left) + "\n", flush=True)


def tell_kept(world: "World", jobs: "list[JobLine]") -> None:
    """Print what to try while everything still runs."""
    run_as = world.prefix / "as"
    print("Server and pilot are still running. Try:")
    print(f"    {run_as} alice pilotage submit --wait -- /usr/bin/id")
    print(f"    {run_as} alice pilotage ls")
    print(f"    {run_as} bob pilotage show {jobs[0].job_id}      # alice's job: refused")
    print("and `make clean-demo` when you have seen enough.")


def tell_logs(processes: Processes) -> None:
    """Print the last words of server and pilot after a failure."""
    for name in ("server", "pilot"):
        log = processes.log(name)
        if log.exists():
            lines = log.read_text(errors="replace").splitlines()[-25:]
            complain(f"--- last lines of {log}")
            complain("\n".join(lines))


def clean() -> int:
    """End what runs and remove what was made: processes, accounts, proxies, folders."""
    made = accounts.Accounts(PREFIX / "home")
    Processes(PREFIX / "processes.json", PREFIX / "log").stop()
    for name in accounts.EVERYBODY:
        if made.is_ours(name):
            end_processes_of(accounts.uid(name))
            remove_proxy(accounts.uid(name))
    removed = made.remove()
    if PREFIX.exists():
        if not (PREFIX / "stage.json").exists():
            raise DemoError(f"{PREFIX} was not made by the demo: left alone")
        shutil.rmtree(PREFIX)
    for folder in (BUILD / "demo", BUILD / "stage" / PREFIX.name):
        shutil.rmtree(folder, ignore_errors=True)
    print(f"Removed {PREFIX} and {len(removed)} accounts{': ' + ' '.join(removed) if removed else ''}")
    return 0


def end_processes_of(uid: int) -> None:
    """Kill what still runs under an account of the demo that is about to go."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == uid:
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue


def remove_proxy(uid: int) -> None:
    """Remove the proxy file of an account, if it is that account's."""
    proxy = Path(f"/tmp/x509up_u{uid}")
    if proxy.exists() and proxy.lstat().st_uid == uid:
        proxy.unlink()


@contextmanager
def alone() -> Iterator[None]:
    """Keep a second demo out while one runs."""
    with open("/run/pilotage-demo.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another demo runs on this machine: wait for it") from None
        yield
        Path(lock.name).unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Run or clean, as root."""
    if arguments not in (["run"], ["clean"]):
        complain(str(__doc__))
        return 2
    if os.geteuid() != 0:
        complain(
            "The demo needs root: it makes accounts and installs a setuid program. It says so instead of half-working."
        )
        return 1
    os.umask(0o022)
    try:
        with alone():
            return clean() if arguments == ["clean"] else run(keep=os.environ.get("KEEP", "") not in ("", "0"))
    except DemoError as error:
        complain(f"demo: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
