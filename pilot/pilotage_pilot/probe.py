"""What this node offers, and whether its helper works: asked before the first job, not after it.

The probe proves: the helper is installed root-owned and setuid, can gain privilege from this process, its
configuration is sound, this account may call it, and its verifier judges a real proxy (the pilot's own) against the
node's certificate authorities and revocation lists. It cannot prove, before there is an owner's credential, that
an owner's name is mapped or that the switch to that account works; the first payload shows that, and several failures
in a row make the pilot leave. A probe that fails is final: there is no other way to run a payload.
"""

import asyncio
import os
import stat
from pathlib import Path

import psutil

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.fqans import ADDS
from pilotage_pilot.config import PilotConfig
from pilotage_pilot.lease import Offer
from pilotage_pilot.switch import SWITCH, Helper

HELPER_MODE = 0o4711
MAP_SECONDS = 30.0
HELPER_WORKS = frozenset(
    {
        Reason.NO_MAPPING,
        Reason.CALLER_VO_BOUNDS,
        Reason.CALLER_ACCOUNT_BOUNDS,
        Reason.OWNER_BANNED,
        Reason.OWNER_NOT_LISTED,
        Reason.ACCOUNT_UNKNOWN,
        Reason.ACCOUNT_FORBIDDEN,
        Reason.GROUP_FORBIDDEN,
        Reason.GROUP_UNKNOWN,
        Reason.POOL_EXHAUSTED,
        Reason.ACCOUNT_IN_USE,
        Reason.NOT_A_PROXY,
        Reason.PROXY_LIMITED,
        Reason.LIFETIME_TOO_LONG,
        Reason.VOMS_LIFETIME,
    }
)
"""Refusals of the pilot's own proxy that show a helper at work.

A pilot needs no account to be mapped to, and may live longer than a site lets payloads' proxies. All of these come
after chain, revocation lists and signing policies were found good.
"""


async def probe(config: PilotConfig, version: str) -> Offer:
    """Return what this node offers, or raise HELPER_PROBE_FAILED."""
    check_privilege()
    check_helper_file(config.helper)
    check_wrapper_file(config.wrapper)
    helper = make_helper(config)
    await helper.version()
    await check_mapping(helper, config.proxy)
    return measure(config, version)


def make_helper(config: PilotConfig) -> Helper:
    """Return the helper with the interpreter's real path, for the helper refuses to start a symbolic link."""
    python = Path(os.path.realpath(config.python))
    if not os.access(python, os.X_OK):
        raise _failed(f"{config.python} is no program.")
    return Helper(config.helper, python, config.wrapper)


def check_privilege() -> None:
    """Refuse to start where no setuid program can work, or as root, whom the helper does not serve."""
    if os.geteuid() == 0:
        raise _failed("The pilot runs as root; it needs an account of its own.")
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    if "NoNewPrivs:\t1" in status:
        raise _failed("no_new_privs is set for this process (by a container or service manager): setuid has no effect.")


def check_helper_file(path: Path) -> None:
    """Check owner, mode and mount of the helper."""
    try:
        facts = os.lstat(path)
        mount = os.statvfs(path)
    except OSError as error:
        raise _failed(f"{path}: {error.strerror}.") from error
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != 0 or mode != HELPER_MODE:
        raise _failed(
            f"{path} must be a file of root with mode {HELPER_MODE:o}; it is uid {facts.st_uid}, mode {mode:o}."
        )
    if mount.f_flag & os.ST_NOSUID:
        raise _failed(f"{path} lies on a file system mounted nosuid.")


def check_wrapper_file(path: Path) -> None:
    """Check that only root can change the program that runs in every owner's name."""
    for place in (path, *path.parents):
        try:
            facts = os.lstat(place)
        except OSError as error:
            raise _failed(f"{place}: {error.strerror}.") from error
        open_to_others = facts.st_mode & 0o022 and not (stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX)
        if facts.st_uid != 0 or (open_to_others and not stat.S_ISLNK(facts.st_mode)):
            raise _failed(f"{place} must belong to root and be writable by nobody else: payloads start from it.")
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _failed(f"{path} is not a file.")


async def check_mapping(helper: Helper, proxy: Path) -> None:
    """Let the helper judge the pilot's own proxy; any answer that comes from a working helper will do."""
    try:
        run = await helper.map(proxy)
    except PilotageError as error:
        raise _failed(error.message) from error
    try:
        async with asyncio.timeout(MAP_SECONDS):
            code = await run.wait()
    except TimeoutError:
        raise _failed(f"{helper.path} map did not end within {MAP_SECONDS:.0f} s.") from None
    finally:
        run.abandon()
    refused = run.status.refused
    if run.fault:
        raise _failed(run.fault.message)
    for line in (run.status.mapped, refused):
        if line and line.mode != SWITCH:
            raise _failed(
                f"{helper.path} is in mode {line.mode}; it must run payloads as their owners (mode = switch)."
            )
    if run.status.mapped and code == 0:
        return
    if refused is None:
        raise _failed(f"{helper.path} map ended with {code} and did not say why.")
    if refused.known not in HELPER_WORKS:
        raise _failed(f"{helper.path} map: {refused.reason} ({refused.number}): {refused.message}")


def measure(config: PilotConfig, version: str) -> Offer:
    """Return what one slot offers: what the site says, else an even share of what there is."""
    cores = len(os.sched_getaffinity(0))
    memory = psutil.virtual_memory().total
    disk = os.statvfs(config.workdir)
    return Offer(
        site=config.site,
        worker_node=config.worker_node,
        slots=config.slots,
        cores=config.cores or max(1, cores // config.slots),
        memory_bytes=config.memory_bytes or memory // config.slots,
        disk_bytes=config.disk_bytes or disk.f_bavail * disk.f_frsize // config.slots,
        wall_seconds=config.wall_seconds,
        tags=(*config.tags, *(ADDS + voms.vo for voms in config.vos)),
        version=version,
    )


def _failed(why: str) -> PilotageError:
    return refuse(Reason.HELPER_PROBE_FAILED, why)
