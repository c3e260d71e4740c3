"""Measure what payloads left behind: processes, files, proxies. Nothing here is assumed."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

PUBLIC_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/dev/mqueue"), Path("/run/lock"))
SYSTEM_V = Path("/proc/sysvipc")
PROXY_CERT_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
LARGEST_PROXY = 256 * 1024
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Leftovers:
    """What was found, one readable line each; three empty lists are the aim."""

    processes: list[str]
    files: list[str]
    proxies: list[str]

    def __bool__(self) -> bool:
        return bool(self.processes or self.files or self.proxies)


@dataclass(frozen=True)
class Search:
    """Where to look, and whose things to look for.

    `uids` are the pool accounts; `homes` their homes, empty before the payloads ran; `places` folders where a
    proxy of an owner in `dns` must not lie; `certificates` the owners' own certificates (DER), so that a proxy of a
    namesake of another grid is not taken for theirs; `allowed` the owners' own proxy files. Only what changed
    after `since` (seconds since 1970) counts, so that the leavings of others are not blamed on a payload.
    """

    uids: frozenset[int]
    homes: tuple[Path, ...]
    places: tuple[Path, ...]
    dns: tuple[str, ...]
    certificates: frozenset[bytes]
    allowed: frozenset[Path]
    since: float

    def measure(self) -> Leftovers:
        """Look now."""
        return Leftovers(
            sorted(self.processes()), sorted({*self.files(), *self.shared_memory()}), sorted(self.proxies())
        )

    def processes(self) -> Iterator[str]:
        """Yield each process that any of the pool's uids is part of."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                status = dict(
                    line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line
                )
            except (OSError, UnicodeDecodeError):
                continue  # it ended while we looked
            if self.uids & {int(word) for word in status.get("Uid", "").split()}:
                yield f"{folder.name} {status.get('Name', '?')} uid {status['Uid'].split()[0]}"

    def files(self) -> Iterator[str]:
        """Yield each path in a public folder that a pool account owns, and all that lies in the homes."""
        for path, status in walk(PUBLIC_FOLDERS, self.since):
            if status.st_uid in self.uids:
                yield str(path)
        for path, _ in walk(self.homes, self.since):
            yield str(path)

    def shared_memory(self) -> Iterator[str]:
        """Yield each System V segment, queue or semaphore of a pool account."""
        for kind in ("shm", "sem", "msg"):
            table = SYSTEM_V / kind
            lines = table.read_text().splitlines() if table.exists() else []
            for line in lines[1:]:
                row = dict(zip(lines[0].split(), line.split(), strict=False))
                if self.uids & {int(row.get("uid", -1)), int(row.get("cuid", -1))}:
                    yield f"System V {kind} {line.split()[1]}"

    def proxies(self) -> Iterator[str]:
        """Yield each file that holds a proxy made for one of the owners."""
        for path, status in walk((*self.places, *self.homes, *PUBLIC_FOLDERS), self.since):
            if path in self.allowed or not path.is_file() or path.is_symlink() or status.st_size > LARGEST_PROXY:
                continue
            try:
                content = path.read_bytes()
            except OSError:
                continue
            if self._holds_proxy_of_an_owner(list(certificates(content))):
                yield str(path)

    def _holds_proxy_of_an_owner(self, found: list[x509.Certificate]) -> bool:
        """Judge by the name, unless the certificate behind the proxy is there and is a namesake's."""
        for dn in self.dns:
            if not any(is_proxy(each) and slash(each.subject).startswith(f"{dn}/CN=") for each in found):
                continue
            people = [each for each in found if not is_proxy(each) and slash(each.subject) == dn]
            if not people or any(each.public_bytes(Encoding.DER) in self.certificates for each in people):
                return True
        return False


def certificates(content: bytes) -> Iterator[x509.Certificate]:
    """Yield the certificates of a file, whatever else it holds."""
    for block in CERTIFICATE.findall(content):
        with contextlib.suppress(ValueError):
            yield x509.load_pem_x509_certificate(block)


def end_entity(proxy: Path) -> bytes:
    """Return the certificate behind a proxy file, DER."""
    return next(c.public_bytes(Encoding.DER) for c in certificates(proxy.read_bytes()) if not is_proxy(c))


def is_proxy(certificate: x509.Certificate) -> bool:
    """Return whether a certificate calls itself a proxy (RFC 3820)."""
    try:
        certificate.extensions.get_extension_for_oid(PROXY_CERT_INFO)
    except (ValueError, x509.ExtensionNotFound):
        return False
    return True


def slash(name: x509.Name) -> str:
    """Return a name of organisations and common names in slash form."""
    short = {NameOID.ORGANIZATION_NAME: "O", NameOID.COMMON_NAME: "CN"}
    return "".join(f"/{short.get(part.oid, part.oid.dotted_string)}={part.value!s}" for part in name)


def walk(folders: Iterable[Path], since: float) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what lies below some folders and changed since a time, never following a link."""
    for top in folders:
        for folder, folders_inside, files in os.walk(top, followlinks=False):
            for name in (*folders_inside, *files):
                path = Path(folder, name)
                try:
                    status = path.lstat()
                except OSError:
                    continue
                if status.st_ctime >= since:
                    yield path, status
