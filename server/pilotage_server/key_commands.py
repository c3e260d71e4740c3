"""`pilotage-server keys`: put new keys in the place of the present ones while the server runs; see which are used."""

import argparse
import contextlib
import datetime
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server import keys as key_files
from pilotage_server.config import Config
from pilotage_server.credentials import proving, sealing
from pilotage_server.credentials.hsm import KeyToken
from pilotage_server.jobs import wrapping
from pilotage_server.store import credentials, job_keys

CREDENTIALS = "credentials.sqlite"
JOBS = "jobs.sqlite"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", config: argparse.ArgumentParser) -> None:
    """Add the commands; `config` has the option that each takes."""
    text = "rotate the keys, and list them"
    verbs = commands.add_parser("keys", help=text, description=text).add_subparsers(dest="verb", required=True)
    text = "make new keys the present ones; old ones stay for what they sealed or signed"
    rotate = verbs.add_parser("rotate", help=text, description=text, parents=[config])
    rotate.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"{', '.join(key_files.ROTATED)}; all of them when none is named"
    )
    rotate.set_defaults(act=rotate_keys)
    text = "list the keys, and how much each service key seals and each wrapping key wraps"
    listed = verbs.add_parser("list", help=text, description=text, parents=[config])
    listed.set_defaults(act=list_keys)


def rotate_keys(config: Config, chosen: argparse.Namespace) -> int:
    """Rotate; a server that runs takes the new keys up within a minute, or at SIGHUP."""
    kinds: list[str] = chosen.kinds or list(key_files.ROTATED)
    unknown = [kind for kind in kinds if kind not in key_files.ROTATED]
    if unknown:
        print(f"pilotage-server: there is no kind {unknown[0]}; there are {', '.join(key_files.ROTATED)}")
        return 2
    folder, now = config.server.state_dir / "keys", datetime.datetime.now(datetime.UTC)
    _want(folder)
    for kind in dict.fromkeys(kinds):
        if kind == "service" and config.pkcs11 is not None:
            with contextlib.closing(KeyToken(config.pkcs11)) as token:
                print(f"the token has a new service key, {token.make(now).key_id.hex()}; those before stay in it")
        else:
            old = key_files.rotate(folder, kind, now)
            print(f"{folder / kind}.key is new; the one before is kept as {old}")
    print("a server that runs takes them up within a minute, or at once when it gets SIGHUP")
    return 0


def list_keys(config: Config, _: argparse.Namespace) -> int:
    """Say which keys there are."""
    folder = config.server.state_dir / "keys"
    _want(folder)
    used = _count(config.server.state_dir / CREDENTIALS, credentials.sealed_with)
    for where, name in _service_keys(config):
        print(f"{where}  {name.hex()}  seals {used.pop(name, 0)} credentials")
    wrapped = _count(config.server.state_dir / JOBS, job_keys.wrapped_with)
    for path in _present_and_old(folder, "wrap"):
        name = wrapping.key_id(key_files.read_key(path))
        print(f"{path.name}  {name.hex()}  wraps {wrapped.pop(wrapping.VERSION + name, 0)} retrieval keys")
    if wrapped:
        count = sum(wrapped.values())
        print(f"{count} retrieval keys are wrapped in the older form, which names no key, or with none of these")
    for kind in ("token", "session"):
        for path in _present_and_old(folder, kind):
            key_files.read_key(path)
            print(path.name)
    for name, count in used.items():
        print(f"MISSING  {name.hex()}  seals {count} credentials, which nothing can open")
    return 1 if used else 0


def _want(folder: Path) -> None:
    if not folder.exists():
        raise refuse(Reason.CONFIG_INVALID, f"{folder}: there are no keys yet; `pilotage-server init` makes them.")


def _present_and_old(folder: Path, kind: str) -> list[Path]:
    return [folder / f"{kind}.key", *sorted(folder.glob(f"{kind}-*.key"))]


def _count(database: Path, query: Callable[[sqlite3.Connection], dict[bytes, int]]) -> dict[bytes, int]:
    """Return how much there is by key; nothing where there is no database yet."""
    if not database.exists():
        return {}
    with proving.opened(database) as connection:
        return query(connection)


def _service_keys(config: Config) -> Iterator[tuple[str, bytes]]:
    """Yield where each service key is, and its id, the present one first."""
    folder = config.server.state_dir / "keys"
    if config.pkcs11 is not None:
        with contextlib.closing(KeyToken(config.pkcs11)) as token:
            yield from (("in the token", key.key_id) for key in token.held())
    for path in (folder / key_files.SERVICE, *sorted(folder.glob(key_files.OLD_SERVICE_KEYS))):
        if config.pkcs11 is None or path.exists():
            yield path.name, sealing.key_id(key_files.read_key(path))
