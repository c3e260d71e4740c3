"""Put a pilot together and run it."""

import asyncio
import importlib.metadata
import logging
import sys
from pathlib import Path

from pilotage.errors import AuthenticationError, ConfigError, CredentialFileError, PilotageError
from pilotage.reasons import Reason
from pilotage.x509.keys import KeyKind
from pilotage.x509.pool import KeyPool
from pilotage_pilot.agent import GENERAL, NO_PROXY, Agent
from pilotage_pilot.attributes import check_servers
from pilotage_pilot.config import PilotConfig, load_config
from pilotage_pilot.identity import PilotIdentity
from pilotage_pilot.logs import start_logging
from pilotage_pilot.probe import make_helper, probe
from pilotage_pilot.session import Session
from pilotage_pilot.tools import Tools
from pilotage_pilot.workspace import Workspace

log = logging.getLogger(__name__)

USAGE, NO_WORKSPACE, CRASHED = 2, 66, 70


def start(path: Path, *, probe_only: bool) -> int:
    """Run a pilot by its configuration file and return the exit code."""
    try:
        config = load_config(path)
        for voms in config.vos:
            check_servers(voms)
        with Workspace(config.workdir) as workspace:
            start_logging(config.workdir / config.log_file if config.log_file else None)
            workspace.sweep()
            if probe_only:
                print(asyncio.run(probe(config, version())))
                return 0
            return asyncio.run(run(config, workspace))
    except PilotageError as error:
        if logging.getLogger().handlers:
            log.error("%s", error)
        else:
            print(f"pilotage-pilot: {error}", file=sys.stderr)
        return exit_code(error)
    except Exception:
        log.exception("the pilot has a fault")
        return CRASHED


async def run(config: PilotConfig, workspace: Workspace) -> int:
    """Probe the node, then work; return the exit code."""
    identity = PilotIdentity(config.proxy)
    offer = await probe(config, version())
    log.info("helper %s works; one slot offers %d cores, %d bytes", config.helper, offer.cores, offer.memory_bytes)
    kind = KeyKind.RSA_2048 if config.key_kind == "rsa" else KeyKind.EC_P256
    session = Session(config.server, ca_dir=config.ca_dir, identity=identity, audience=config.audience or None)
    with KeyPool(kind, min(config.slots + 1, 8)) as keys:
        async with session:
            return await Agent(Tools(config, session, make_helper(config), workspace, keys), offer, identity).run()


def version() -> str:
    """Return the installed version, or "0" for a source tree."""
    try:
        return importlib.metadata.version("pilotage")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def exit_code(error: PilotageError) -> int:
    """Return PanDA's number for a pilot that cannot begin."""
    if isinstance(error, ConfigError):
        return USAGE
    if isinstance(error, CredentialFileError | AuthenticationError):
        return NO_PROXY
    return NO_WORKSPACE if error.reason is Reason.WORKSPACE_UNUSABLE else GENERAL
