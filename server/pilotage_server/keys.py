"""Key files of the server: 32 bytes each, 0600, made once and whole or not at all; two kinds can be rotated.

A rotation first gives the present key a second name, with the time in it, and then puts a new key under the first.
After a crash at any point the present key is there and so is every older one.
"""

import contextlib
import datetime
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.tokens import RetiredKey, TokenKeys

KEY_BYTES = 32
NAMES = ("session.key", "challenge.key", "token.key", "wrap.key", "service.key")
SERVICE = "service.key"
OLD_SERVICE_KEYS = "service-*.key"
OLD_TOKEN_KEYS = "token-*.key"
ROTATED = ("service", "token")
STAMP = "%Y%m%dT%H%M%S.%fZ"
"""How the time at which a key was retired stands in its name."""
KEEP_TOKEN_KEYS = datetime.timedelta(hours=1)
"""How long a retired token key is kept: longer than any token lives."""


class Keys(msgspec.Struct, frozen=True):
    """All keys of one server.

    `session` signs session tokens and `token` credential tokens (Ed25519 seeds); `challenge` MACs login
    challenges; `wrap` wraps retrieval keys in the jobs database; `service` seals credentials, unless a PKCS#11 token
    does, and the `old_services` (files `service-<anything>.key`) still open what they sealed. The `old_tokens`
    (files `token-<time>.key`) still verify what they signed before they were retired.
    """

    session: Ed25519PrivateKey
    challenge: Secret
    token: Ed25519PrivateKey
    wrap: Secret
    service: Secret | None
    old_services: tuple[Secret, ...]
    old_tokens: tuple[RetiredKey, ...] = ()

    def __repr__(self) -> str:
        return "Keys(***)"

    def token_keys(self) -> TokenKeys:
        """Return what signs and verifies credential tokens."""
        return TokenKeys(self.token, self.old_tokens)


def make_missing(directory: Path, *, service: bool = True) -> list[str]:
    """Make the folder and the keys that are not there, the service key only if asked; return the new ones' names."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [name for name in NAMES if (service or name != SERVICE) and _make(directory / name)]


def load(directory: Path, *, service: bool = True) -> Keys:
    """Load the keys; raise CONFIG_INVALID for one that is missing, short or open to others.

    Without `service`, the service key is in a PKCS#11 token; one in a file still opens what it sealed. A rotation may
    go on meanwhile: the present keys are read before the old ones, so no key is missed.
    """
    session, challenge, token, wrap = (read_key(directory / name) for name in NAMES if name != SERVICE)
    file = directory / SERVICE
    present = read_key(file) if service or file.exists() else None
    return Keys(
        session=Ed25519PrivateKey.from_private_bytes(session.reveal()),
        challenge=challenge,
        token=Ed25519PrivateKey.from_private_bytes(token.reveal()),
        wrap=wrap,
        service=present,
        old_services=tuple(read_key(path) for path in sorted(directory.glob(OLD_SERVICE_KEYS))),
        old_tokens=tuple(_retired(path) for path in sorted(directory.glob(OLD_TOKEN_KEYS))),
    )


def seen(directory: Path) -> frozenset[tuple[str, int, int]]:
    """Return what tells that keys have changed, without reading any: names, inodes, times of change."""
    found = set()
    for path in directory.glob("*.key"):
        with contextlib.suppress(FileNotFoundError):
            facts = path.lstat()
            found.add((path.name, facts.st_ino, facts.st_ctime_ns))
    return frozenset(found)


def rotate(directory: Path, kind: str, now: datetime.datetime) -> str:
    """Put a new key of a kind in the place of the present one, which is kept; return the name it is kept under."""
    current = directory / f"{kind}.key"
    with _alone(directory):
        read_key(current)
        old = directory / f"{kind}-{now.astimezone(datetime.UTC).strftime(STAMP)}.key"
        with _partial(current) as partial:
            os.link(current, old)
            sync(directory)
            partial.replace(current)
            sync(directory)
    return old.name


def forget_retired(directory: Path, now: datetime.datetime) -> list[str]:
    """Remove token keys that nothing valid was signed with; return their names."""
    gone = [
        path
        for path in sorted(directory.glob(OLD_TOKEN_KEYS))
        if _retire_time(path) + KEEP_TOKEN_KEYS < now.astimezone(datetime.UTC)
    ]
    for path in gone:
        path.unlink(missing_ok=True)
    return [path.name for path in gone]


def _retired(path: Path) -> RetiredKey:
    key = Ed25519PrivateKey.from_private_bytes(read_key(path).reveal()).public_key()
    return RetiredKey(key, _retire_time(path))


def _retire_time(path: Path) -> datetime.datetime:
    stamp = path.stem.partition("-")[2]
    try:
        return datetime.datetime.strptime(stamp, STAMP).replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise _unusable(path, "its name does not tell when it was retired") from error


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
    with _partial(path) as partial, contextlib.suppress(FileExistsError):
        os.link(partial, path)
        sync(path.parent)
        return True
    return False


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """Make a whole new key under a name of its own, for the block to rename or link; what is left of it goes."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let one rotation at a time into the folder."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def sync(directory: Path) -> None:
    """Have the names in a folder outlive a power cut."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unusable(path: Path, why: str) -> PilotageError:
    return refuse(Reason.CONFIG_INVALID, f"{path}: {why}.")
