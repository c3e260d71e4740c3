"""`pilotage-server`: make its keys, check its configuration, run it, prove its audit."""

import argparse
import asyncio
import contextlib
import gc
import importlib.metadata
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server import audit_commands, key_commands, logs, processors
from pilotage_server import config as configuration
from pilotage_server import keys as key_files
from pilotage_server.app import App, prepare_state
from pilotage_server.clock import utc_now
from pilotage_server.config import DEFAULT_PATH, Config
from pilotage_server.credentials.service_keys import ServiceKeys
from pilotage_server.exposition import CRLS, certificate_end, crl_end
from pilotage_server.gateway.wire import check_python
from pilotage_server.rpc.tls import Certificates

log = structlog.get_logger("pilotage.server")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    parser = argparse.ArgumentParser(prog="pilotage-server", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {importlib.metadata.version('pilotage')}")
    commands = parser.add_subparsers(dest="command", required=True)
    with_config = argparse.ArgumentParser(add_help=False)
    with_config.add_argument("--config", type=Path, default=DEFAULT_PATH, metavar="FILE", help=f"({DEFAULT_PATH})")
    for name, action, text in (
        ("init", init, "make the state directory and the keys that are missing"),
        ("run", run, "serve until SIGTERM"),
        ("check-config", check_config, "check the configuration file and the files it names"),
    ):
        command = commands.add_parser(name, help=text, description=text, parents=[with_config])
        command.set_defaults(act=action)
    audit_commands.add_to(commands, with_config)
    key_commands.add_to(commands, with_config)
    chosen = parser.parse_args(arguments)
    act: Callable[[Config, argparse.Namespace], int] = chosen.act
    try:
        return act(configuration.load(chosen.config), chosen)
    except PilotageError as error:
        print(f"pilotage-server: {error.reason.name}: {error.message}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.filename is None:
            raise
        found = refuse(Reason.CONFIG_INVALID, f"{error.filename}: {error.strerror}.")
        print(f"pilotage-server: {found.reason.name}: {found.message}", file=sys.stderr)
        return found.exit_code


def init(config: Config, _: argparse.Namespace) -> int:
    """Make what a first start needs."""
    made = prepare_state(config)
    print(f"{config.server.state_dir}: " + (f"made {', '.join(made)}" if made else "nothing was missing"))
    key_files.load(config.server.state_dir / "keys", service=config.pkcs11 is None)
    return 0


def check_config(config: Config, _: argparse.Namespace) -> int:
    """Look at every file the configuration names, changing nothing."""
    configuration.check_files(config)
    Certificates(config.server)
    if config.gateway.listen:
        check_python()
    keys = config.server.state_dir / "keys"
    if keys.exists():
        with contextlib.closing(ServiceKeys(config.pkcs11)) as services:
            services.all(key_files.load(keys, service=config.pkcs11 is None))
    for line in _old(config):
        print(f"warning: {line}", file=sys.stderr)
    print("the configuration is fine" + ("" if keys.exists() else "; `init`, or the first `run`, makes the keys"))
    return 0


def _old(config: Config) -> Iterator[str]:
    """Yield what has grown too old to be believed: nothing is wrong with the configuration, yet nobody is served."""
    for path in (config.server.host_cert, *sorted(config.server.ca_dir.glob(CRLS))):
        try:
            end = (certificate_end if path == config.server.host_cert else crl_end)(path.read_bytes())
        except (OSError, ValueError):
            yield f"{path} cannot be read"
            continue
        if end is not None and end <= utc_now():
            what = "get a new host certificate" if path == config.server.host_cert else "run fetch-crl"
            yield f"{path} is out of date since {end:%Y-%m-%d %H:%M} UTC; {what}"


def run(config: Config, _: argparse.Namespace) -> int:
    """Serve until told to stop."""
    prepare_state(config)
    with logs.open_audit(config.server.state_dir / "audit.jsonl") as audit:
        logs.configure(config.server.log, audit)
        processors.serve_on(config.server.processor)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(config))


async def _serve(config: Config) -> int:
    app = App(config)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(processors.heavy_threads("any"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stopping.set)
    try:
        await app.start()
        # What is here now stays. Looking through it for garbage would stop all calls for 50 ms every few minutes.
        gc.collect()
        gc.freeze()
        # Of what comes and goes with a call, little is garbage that only this finds.
        gc.set_threshold(20_000, 20, 20)
        loop.add_signal_handler(signal.SIGHUP, app.reload)
        notify("READY=1")
        await app.stopping.wait()
        notify("STOPPING=1")
    finally:
        await app.close()
    return 1 if app.failed else 0


def notify(state: str) -> None:
    """Tell systemd, if it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as made:
        made.sendto(state.encode(), name)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop when it is installed: the same behaviour for less CPU."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
