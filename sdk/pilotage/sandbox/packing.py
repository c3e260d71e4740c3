"""Make a sandbox of local files."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from pilotage.errors import SandboxError, refuse
from pilotage.reasons import Reason
from pilotage.sandbox.rules import check_name, check_symlink, join


class Packed(msgspec.Struct, frozen=True):
    """An archive that was made here."""

    sha256: str
    size_bytes: int
    members: int


def pack(paths: Sequence[Path], root: Path, out: IO[bytes]) -> Packed:
    """Write files and whole folders below `root` as an archive; the same content gives the same bytes.

    Members are sorted and named relative to `root`. Times, owners and all of the mode but the
    executable bit are dropped. A link that leads out of `root` and anything that is neither file,
    folder nor link is refused.
    """
    members: dict[str, Path] = {}
    for path in paths:
        for found in _walk(path):
            members.setdefault(_relative(found, root), found)
    return pack_members(members, out)


def gather(inputs: Sequence[Path], base: Path) -> dict[str, Path]:
    """Return what to pack for paths as people give them: below `base` under their own relative
    name, from elsewhere under their last part; two different things of one name are refused."""
    members: dict[str, Path] = {}
    for path in inputs:
        top = path if path.name not in ("", "..") else path.resolve()
        try:
            start = _relative(top, base)
        except SandboxError:
            start = top.name
        for found in _walk(top):
            name = join(check_name(f"{start}/{found.relative_to(top).as_posix()}"))
            known = members.setdefault(name, found)
            if known != found and not (known.is_dir() and found.is_dir()) and not known.samefile(found):
                raise refuse(Reason.INVALID_ARGUMENT, f"{known} and {found} would both be {name} in the sandbox.")
    return members


def pack_members(members: Mapping[str, Path], out: IO[bytes]) -> Packed:
    """Write files, links and folders under chosen names, by the rules of `pack`."""
    counted = _Counting(out)
    names = sorted(name for name in members if name != ".")
    # The level is part of what makes the bytes the same; name and time stay out of gzip's header.
    with (
        gzip.GzipFile(filename="", fileobj=counted, mode="wb", compresslevel=6, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in names:
            _add(archive, name, members[name])
    return Packed(sha256=counted.digest.hexdigest(), size_bytes=counted.size, members=len(names))


def _walk(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        for entry in sorted(path.iterdir()):
            yield from _walk(entry)


def _relative(path: Path, root: Path) -> str:
    try:
        # Only the folder is resolved: a link is packed as the link it is.
        inside = path.parent.resolve(strict=True) / path.name if path.name not in ("", "..") else path.resolve(True)
        name = inside.relative_to(root.resolve(strict=True))
    except FileNotFoundError as error:
        raise refuse(Reason.SANDBOX_NOT_FOUND, f"{path} does not exist.") from error
    except ValueError as error:
        raise refuse(Reason.SANDBOX_UNSAFE_PATH, f"{path} is not below {root}.") from error
    return join(check_name(name.as_posix()))


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    member = tarfile.TarInfo(name)
    try:
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
            check_symlink(check_name(name), member.linkname)
            archive.addfile(member)
        elif stat.S_ISDIR(facts.st_mode):
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        elif stat.S_ISREG(facts.st_mode):
            _add_file(archive, member, path)
        else:
            raise refuse(Reason.SANDBOX_UNSAFE_MEMBER, f"{path} is neither file, folder nor link.")
    except FileNotFoundError as error:
        raise refuse(Reason.SANDBOX_NOT_FOUND, f"{path} does not exist.") from error
    except PermissionError as error:
        raise refuse(Reason.INVALID_ARGUMENT, f"{path} may not be read.") from error


def _add_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    with path.open("rb") as source:
        facts = os.fstat(source.fileno())
        member.size, member.mode = facts.st_size, 0o755 if facts.st_mode & 0o111 else 0o644
        try:
            archive.addfile(member, source)
        except OSError as error:
            raise refuse(Reason.SANDBOX_TRUNCATED, f"{path} changed while it was packed.") from error


class _Counting(io.RawIOBase):
    """Pass bytes on and keep their digest."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # gzip writes bytes, never another buffer
        self._out.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)
