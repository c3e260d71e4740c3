"""Read somebody else's sandbox and refuse whatever could hurt the one who unpacks it.

The archive is read once, forward, in small pieces: what a gzip stream swells to, how much memory a
header may ask for and how many members there are is bounded before it is spent.
"""

import contextlib
import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Protocol

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.sandbox.rules import check_name, check_symlink, parents, shown

CHUNK_BYTES = 256 * 1024
HEADER_BYTES = 64 * 1024
"""What the headers of one member may take: a real one with long names needs four blocks."""
OVERHEAD_BYTES = 1024 * 1024
Parts = tuple[str, ...]


class Limits(msgspec.Struct, frozen=True):
    """What an archive may hold at most."""

    unpacked_bytes: int = 4 * 1024**3
    members: int = 20_000


class Contents(msgspec.Struct, frozen=True):
    """What a checked archive holds; the names are those of files and links."""

    members: int
    unpacked_bytes: int
    names: tuple[str, ...]


class Sink(Protocol):
    """Where the members of an archive go when they are not only looked at."""

    def folder(self, parts: Parts) -> None:
        """Take a folder."""

    def file(self, parts: Parts, executable: bool) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Take a file; its bytes follow."""

    def symlink(self, parts: Parts, target: str) -> None:
        """Take a symbolic link."""

    def hardlink(self, parts: Parts, target: Parts) -> None:
        """Take another name of a file that came before."""


def read_digest(file: IO[bytes]) -> tuple[str, int]:
    """Return the SHA-256 (hex) and the size of a file, from where it stands."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def check_archive(file: IO[bytes], limits: Limits | None = None) -> Contents:
    """Read an archive to its end and refuse it with a SANDBOX_* reason unless every member is safe."""
    return read_archive(file, limits or Limits(), None)


def read_archive(file: IO[bytes], limits: Limits, sink: Sink | None) -> Contents:
    """Read an archive and hand each member, once it is known to be safe, to the sink."""
    source = Source(file, limits.unpacked_bytes + limits.members * 3 * tarfile.BLOCKSIZE + OVERHEAD_BYTES)
    seen = _Seen()
    members = unpacked = 0
    for member in _members(source):
        members += 1
        if members > limits.members:
            raise refuse(Reason.SANDBOX_TOO_LARGE, f"The sandbox has more than {limits.members} members.")
        parts = check_name(member.name)
        _check_kind(member)
        if member.isreg():
            unpacked += member.size
            if unpacked > limits.unpacked_bytes:
                raise refuse(
                    Reason.SANDBOX_TOO_LARGE, f"The sandbox unpacks to more than {limits.unpacked_bytes} bytes."
                )
        seen.add(member, parts)
        _hand_over(member, parts, source, sink)
    return Contents(members=members, unpacked_bytes=unpacked, names=tuple(seen.names))


class Source:
    """A gunzipped stream that tarfile can read forward: bounded in all, and per header."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._stream = gzip.GzipFile(fileobj=file, mode="rb")
        self._limit = limit
        self._position = 0
        self._behind = False
        self._last = b""
        self.header_budget: int | None = HEADER_BYTES
        self.last_block = b""
        self.ended = False

    def read(self, size: int) -> bytes:
        """Read at most so many bytes; fewer only at the end."""
        if size <= 0:
            return b""
        if self.header_budget is not None:
            self.header_budget -= size
            if self.header_budget < 0:
                raise refuse(Reason.SANDBOX_MALFORMED, "A header of the sandbox is larger than any real one.")
        wanted, first = size, b""
        if self._behind:
            first, self._behind, size = self._last, False, size - 1
        data = first + self._inflate(size)
        if data:
            self._last = data[-1:]
        self.ended = self.ended or len(data) < wanted
        self.last_block = data
        return data

    def tell(self) -> int:
        """Return the position in the unzipped stream."""
        return self._position - self._behind

    def seek(self, position: int) -> int:
        """Go forward, or back by the one byte that tarfile looks at again before each header."""
        if position == self._position - 1 and self._last:
            self._behind = True
            return position
        if position < self.tell():
            raise refuse(Reason.SANDBOX_MALFORMED, "The sandbox's headers overlap.")
        self._behind = False
        while self._position < position and (skipped := self._inflate(min(CHUNK_BYTES, position - self._position))):
            self._last = skipped[-1:]
        return self._position

    def _inflate(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0:
            try:
                piece = self._stream.read(min(size, CHUNK_BYTES))
            except EOFError as error:
                raise refuse(Reason.SANDBOX_TRUNCATED, "The sandbox is cut off.") from error
            except (gzip.BadGzipFile, zlib.error) as error:
                raise refuse(Reason.SANDBOX_MALFORMED) from error
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
            self._position += len(piece)
            if self._position > self._limit:
                raise refuse(Reason.SANDBOX_TOO_LARGE, "The sandbox swells to more than it may.")
        return b"".join(pieces)


def _members(source: Source) -> Iterator[tarfile.TarInfo]:
    """Yield the members one by one, and see that the archive ends as one must."""
    try:
        # tarfile reads through three methods only, which its type does not say.
        archive = tarfile.TarFile(fileobj=source, mode="r", errorlevel=2)  # type: ignore[arg-type]
    except tarfile.TarError as error:
        raise _malformed(source) from error
    except (ValueError, OverflowError) as error:
        raise refuse(Reason.SANDBOX_MALFORMED) from error
    while True:
        source.header_budget = HEADER_BYTES
        try:
            member = archive.next()
        except tarfile.TarError as error:
            raise _malformed(source) from error
        except (ValueError, OverflowError, IndexError, RecursionError) as error:
            raise refuse(Reason.SANDBOX_MALFORMED) from error
        # tarfile keeps every member it has met; this archive is read once, forward.
        archive.members.clear()  # type: ignore[attr-defined]  # public but not in its type
        if member is None:
            break
        source.header_budget = None
        yield member
    source.header_budget = None
    # tarfile takes rubbish after the first member for the end; the real end is a block of zeros.
    if len(source.last_block) < tarfile.BLOCKSIZE:
        raise refuse(Reason.SANDBOX_TRUNCATED, "The sandbox has no end mark; it was cut off.")
    if source.last_block.strip(b"\0"):
        raise refuse(Reason.SANDBOX_MALFORMED, "The sandbox holds something that is no member.")
    while rest := source.read(CHUNK_BYTES):
        if rest.strip(b"\0"):
            raise refuse(Reason.SANDBOX_MALFORMED, "The sandbox goes on after its end mark.")


def _malformed(source: Source) -> Exception:
    """Tell an archive that stops too early from one that is none."""
    if source.ended and source.tell() > 0:
        return refuse(Reason.SANDBOX_TRUNCATED, "The sandbox is cut off.")
    return refuse(Reason.SANDBOX_MALFORMED)


def _check_kind(member: tarfile.TarInfo) -> None:
    regular = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    plain = regular or member.isdir() or member.issym() or member.islnk()
    if not plain:
        raise refuse(
            Reason.SANDBOX_UNSAFE_MEMBER,
            f"The sandbox's member {shown(member.name)} is neither file, folder nor link.",
        )
    if member.size < 0 or (member.size and not member.isreg()):
        raise refuse(Reason.SANDBOX_MALFORMED, f"The sandbox's member {shown(member.name)} has an impossible size.")


class _Seen:
    """What came before: no name twice, nothing below a file or a link, links to known files only."""

    def __init__(self) -> None:
        self._folders: set[Parts] = set()
        self._named: set[Parts] = set()
        self._files: set[Parts] = set()
        self.names: list[str] = []

    def add(self, member: tarfile.TarInfo, parts: Parts) -> None:
        name = shown(member.name)
        if not parts:
            if not member.isdir():
                raise refuse(Reason.SANDBOX_UNSAFE_PATH, f"The sandbox's member {name} has no name.")
            return
        if parts in self._named or (parts in self._folders and not member.isdir()):
            raise refuse(Reason.SANDBOX_UNSAFE_PATH, f"The sandbox holds {name} twice.")
        for parent in parents(parts):
            if parent in self._named and parent not in self._folders:
                raise refuse(Reason.SANDBOX_UNSAFE_PATH, f"The sandbox's member {name} lies below a file or link.")
            self._folders.add(parent)
        if member.issym():
            check_symlink(parts, member.linkname)
        elif member.islnk() and check_name(member.linkname) not in self._files:
            raise refuse(
                Reason.SANDBOX_UNSAFE_LINK, f"The sandbox's hard link {name} is not to a file that came before it."
            )
        self._named.add(parts)
        if member.isdir():
            self._folders.add(parts)
        else:
            self.names.append("/".join(parts))
        if member.isreg() or member.islnk():
            self._files.add(parts)


def _hand_over(member: tarfile.TarInfo, parts: Parts, source: Source, sink: Sink | None) -> None:
    if member.isreg():
        if sink is None:
            _copy(member, source, None)
        else:
            with sink.file(parts, bool(member.mode & 0o100)) as out:
                _copy(member, source, out)
    elif sink is None or not parts:
        return
    elif member.isdir():
        sink.folder(parts)
    elif member.issym():
        sink.symlink(parts, member.linkname)
    else:
        sink.hardlink(parts, check_name(member.linkname))


def _copy(member: tarfile.TarInfo, source: Source, out: IO[bytes] | None) -> None:
    source.seek(member.offset_data)
    left = member.size
    while left > 0:
        chunk = source.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise refuse(Reason.SANDBOX_TRUNCATED, f"The sandbox is cut off in {shown(member.name)}.")
        left -= len(chunk)
        if out is not None:
            out.write(chunk)
