"""Key files of the server: 32 bytes each, 0600, made whole or not at all; every kind can be rotated.

A rotation first gives the present key a second name, with the time in it, and then puts a new key under the first.
After a crash at any point the present key is there and so is every older one; perhaps one of them by two names.
"""

import contextlib
import datetime
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.tokens import RetiredKey, TokenKeys

KEY_BYTES = 32
NAMES = ("session.key", "token.key", "wrap.key", "service.key")
SERVICE = "service.key"
OLD_SERVICE_KEYS = "service-*.key"
OLD_TOKEN_KEYS = "token-*.key"
OLD_SESSION_KEYS = "session-*.key"
OLD_WRAP_KEYS = "wrap-*.key"
ROTATED = ("service", "token", "session", "wrap")
UNUSED = ("challenge.key", "challenge-*.key")
"""Keys of earlier releases that nothing uses any more."""
STAMP = "%Y%m%dT%H%M%S.%fZ"
"""How the time at which a key was retired stands in its name."""
TAKE_UP = datetime.timedelta(minutes=2)
"""Within this time a server that runs signs with a new key: it looks once a minute. Until then the old one was good."""
KEEP = {
    OLD_TOKEN_KEYS: datetime.timedelta(hours=1),
    OLD_SESSION_KEYS: datetime.timedelta(hours=2),
}
"""How long retired keys that signed are kept: longer than anything that they signed lives."""
KEEP_PARTIAL_SECONDS = 3600.0


class OldWrap(msgspec.Struct, frozen=True):
    """A key that wraps no more, and the name of its file, which goes when nothing is wrapped with it."""

    name: str
    key: Secret


class Keys(msgspec.Struct, frozen=True):
    """All keys of one server.

    `session` signs session tokens and `token` credential tokens (Ed25519 seeds); `wrap` wraps retrieval keys in the
    jobs database; `service` seals credentials, unless a PKCS#11 token does, and the `old_services` (files
    `service-<anything>.key`) still open what they sealed. The `old_tokens` and `old_sessions` (files
    `token-<time>.key`, ...) still verify what they signed before they were retired, and `old_wraps` unwrap until all
    is wrapped anew.
    """

    session: Ed25519PrivateKey
    token: Ed25519PrivateKey
    wrap: Secret
    service: Secret | None
    old_services: tuple[Secret, ...]
    old_tokens: tuple[RetiredKey, ...] = ()
    old_sessions: tuple[RetiredKey, ...] = ()
    old_wraps: tuple[OldWrap, ...] = ()

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
    session, token, wrap = (read_key(directory / name) for name in NAMES if name != SERVICE)
    file = directory / SERVICE
    present = read_key(file) if service or file.exists() else None
    return Keys(
        session=Ed25519PrivateKey.from_private_bytes(session.reveal()),
        token=Ed25519PrivateKey.from_private_bytes(token.reveal()),
        wrap=wrap,
        service=present,
        old_services=tuple(key for _, key in _old(directory, OLD_SERVICE_KEYS)),
        old_tokens=tuple(_retired(path, key) for path, key in _old(directory, OLD_TOKEN_KEYS)),
        old_sessions=tuple(_retired(path, key) for path, key in _old(directory, OLD_SESSION_KEYS)),
        old_wraps=tuple(OldWrap(path.name, key) for path, key in _old(directory, OLD_WRAP_KEYS)),
    )


def _old(directory: Path, pattern: str) -> Iterator[tuple[Path, Secret]]:
    """Read the old keys of a kind; one that the server removes at that moment is none."""
    for path in sorted(directory.glob(pattern)):
        try:
            yield path, read_key(path)
        except PilotageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise


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
        old = directory / _old_name(kind, now)
        with _partial(current) as partial:
            os.link(current, old)
            sync(directory)
            partial.replace(current)
            sync(directory)
    return old.name


def retire_late(directory: Path, used: Keys, now: datetime.datetime) -> bool:
    """Write down that the keys which a server used until now are retired now; tell whether anything was to be done.

    That is where it took new keys up later than it should, because it could not read one of them, say. By the time
    of the rotation, what it signed meanwhile would be good no more.
    """
    signing = {
        "token": used.token.private_bytes_raw(),
        "session": used.session.private_bytes_raw(),
    }
    late = [
        (path, directory / _old_name(kind, now))
        for kind, key in signing.items()
        for path, old in _old(directory, f"{kind}-*.key")
        if old.reveal() == key and _good_until(path) < now
    ]
    with _alone(directory):
        for path, renamed in late:
            path.replace(renamed)
        sync(directory)
    return bool(late)


def forget_retired(directory: Path, now: datetime.datetime) -> list[str]:
    """Destroy keys that signed nothing that is still valid; return their names."""
    gone = [
        path
        for pattern, keep in KEEP.items()
        for path in sorted(directory.glob(pattern))
        if _retire_time(path) + keep < now.astimezone(datetime.UTC)
    ]
    for path in gone:
        destroy(path)
    for path in directory.glob(".*.key.*"):
        # A rotation or a destruction that was killed left it; nothing uses what it holds.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > KEEP_PARTIAL_SECONDS:
                _wipe(path)
    return [path.name for path in gone]


def destroy(path: Path) -> None:
    """Overwrite and remove an old key; the bytes stay if they are another name's as well, as after a crash."""
    with _alone(path.parent):
        # Under another name first: half overwritten it would be a key that can be guessed.
        doomed = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            path.replace(doomed)
        except FileNotFoundError:
            return
        sync(path.parent)
        _wipe(doomed)


def destroy_unused(directory: Path) -> list[str]:
    """Destroy the keys that an earlier release left and nothing uses; return their names."""
    gone = [path for pattern in UNUSED for path in sorted(directory.glob(pattern))]
    for path in gone:
        destroy(path)
    return [path.name for path in gone]


def _wipe(path: Path) -> None:
    """Overwrite a file that has no other name, and remove the name."""
    if path.stat().st_nlink == 1:
        with path.open("r+b") as file:
            file.write(bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
    path.unlink()
    sync(path.parent)


def _retired(path: Path, key: Secret) -> RetiredKey:
    return RetiredKey(Ed25519PrivateKey.from_private_bytes(key.reveal()).public_key(), _good_until(path))


def _good_until(path: Path) -> datetime.datetime:
    """Return until when a server may have signed with a key, which is later than the rotation."""
    return _retire_time(path) + TAKE_UP


def _old_name(kind: str, now: datetime.datetime) -> str:
    return f"{kind}-{now.astimezone(datetime.UTC).strftime(STAMP)}.key"


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
