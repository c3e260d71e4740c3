"""Key files of the server: 32 bytes each, 0600, made once and whole or not at all."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

KEY_BYTES = 32
NAMES = ("session.key", "challenge.key", "token.key", "wrap.key", "service.key")
OLD_SERVICE_KEYS = "service-*.key"


class Keys(msgspec.Struct, frozen=True):
    """All keys of one server.

    `session` signs session tokens and `token` credential tokens (Ed25519 seeds); `challenge` MACs login
    challenges; `wrap` wraps retrieval keys in the jobs database; `service` seals credentials, and the
    `old_services` (files `service-<anything>.key`) still open what they sealed.
    """

    session: Ed25519PrivateKey
    challenge: Secret
    token: Ed25519PrivateKey
    wrap: Secret
    service: Secret
    old_services: tuple[Secret, ...]

    def __repr__(self) -> str:
        return "Keys(***)"


def make_missing(directory: Path) -> list[str]:
    """Make the folder and the keys that are not there; return the names of the new ones."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [name for name in NAMES if _make(directory / name)]


def load(directory: Path) -> Keys:
    """Load the keys; raise CONFIG_INVALID for one that is missing, short or open to others."""
    session, challenge, token, wrap, service = (read_key(directory / name) for name in NAMES)
    return Keys(
        session=Ed25519PrivateKey.from_private_bytes(session.reveal()),
        challenge=challenge,
        token=Ed25519PrivateKey.from_private_bytes(token.reveal()),
        wrap=wrap,
        service=service,
        old_services=tuple(read_key(path) for path in sorted(directory.glob(OLD_SERVICE_KEYS))),
    )


def token_keys(directory: Path) -> list[Ed25519PublicKey]:
    """Return the keys that what was signed by this service's token key is checked with."""
    return [Ed25519PrivateKey.from_private_bytes(read_key(directory / "token.key").reveal()).public_key()]


def read_key(path: Path) -> Secret:
    """Read one key file."""
    value = read_private(path, KEY_BYTES + 1)
    if len(value.reveal()) != KEY_BYTES:
        raise refuse(Reason.CONFIG_INVALID, f"{path}: a key has {KEY_BYTES} bytes; restore it, or remove it if unused.")
    return value


def read_private(path: Path, most: int = 1024 * 1024) -> Secret:
    """Read a file that nobody but its owner, who is us or root, may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise _unusable(path, f"it cannot be opened ({error.strerror})") from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise _unusable(path, "it is not a regular file")
    with open(descriptor, "rb") as file:
        if facts.st_uid not in (os.geteuid(), 0):
            raise _unusable(path, f"it belongs to uid {facts.st_uid}")
        if facts.st_mode & 0o077:
            raise _unusable(path, f"others may use it (mode {stat.S_IMODE(facts.st_mode):04o}); chmod 600 it")
        return Secret(file.read(most))


def _make(path: Path) -> bool:
    """Make a key file unless there is one. The name appears with the whole content behind it."""
    if path.exists():
        return False
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
            return True
        return False
    finally:
        partial.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _unusable(path: Path, why: str) -> PilotageError:
    return refuse(Reason.CONFIG_INVALID, f"{path}: {why}.")
