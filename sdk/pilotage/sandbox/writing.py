"""Unpack a sandbox into a folder without ever leaving it."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.sandbox.reading import Contents, Limits, Parts, check_archive, read_archive
from pilotage.sandbox.rules import join, shown

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(file: IO[bytes], directory: Path, limits: Limits | None = None, *, overwrite: bool = False) -> Contents:
    """Unpack an archive below an existing directory, by the rules of `check_archive`.

    The archive (a seekable file) is read twice: nothing is written unless all of it is safe and, but
    for `overwrite`, none of its files is there already. Nothing is written through a link, and
    modes are 0755 or 0644 less the caller's mask. When writing fails (a full disk), what was new is removed, and of
    what was to be replaced each file is the old one or the new one, whole.
    """
    limits = limits or Limits()
    start = file.tell()
    contents = check_archive(file, limits)
    with _Writer(directory, overwrite) as writer:
        if not overwrite:
            for name in contents.names:
                writer.refuse_existing(name)
        file.seek(start)
        return read_archive(file, limits, writer)


class _Writer:
    """Write below one open folder, step by step by descriptors, never by long paths."""

    def __init__(self, directory: Path, overwrite: bool) -> None:
        self._directory = directory
        self._overwrite = overwrite
        self._new: list[Parts] = []
        try:
            # The folder itself is the caller's choice and may be reached by a link.
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise refuse(
                Reason.INVALID_ARGUMENT, f"{directory} is not a folder that can be used ({error.strerror})."
            ) from error

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for parts in self._new:
                with contextlib.suppress(OSError, PilotageError), self._open_folder(parts[:-1]) as parent:
                    os.unlink(parts[-1], dir_fd=parent)
        os.close(self._root)

    def refuse_existing(self, name: str) -> None:
        """Refuse a file that is there already."""
        if os.path.lexists(self._directory / name):
            raise refuse(
                Reason.INVALID_ARGUMENT,
                f"{self._directory / name} exists already and is left alone; choose another folder.",
            )

    def folder(self, parts: Parts) -> None:
        with self._open_folder(parts):
            pass

    @contextlib.contextmanager
    def file(self, parts: Parts, executable: bool) -> Iterator[IO[bytes]]:
        mode = 0o755 if executable else 0o644
        with self._place(parts) as (parent, taken):
            name = f".pilotage-{secrets.token_hex(8)}" if taken else parts[-1]
            try:
                with open(os.open(name, NEW_FILE, mode, dir_fd=parent), "wb") as out:
                    yield out
                if taken:
                    os.rename(name, parts[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=parent)
                raise

    def symlink(self, parts: Parts, target: str) -> None:
        with self._free(parts) as parent:
            os.symlink(target, parts[-1], dir_fd=parent)

    def hardlink(self, parts: Parts, target: Parts) -> None:
        with self._open_folder(target[:-1]) as source, self._free(parts) as parent:
            os.link(target[-1], parts[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    @contextlib.contextmanager
    def _open_folder(self, parts: Parts) -> Iterator[int]:
        """Open a folder below the root, making what is missing and following no link."""
        descriptor = os.dup(self._root)
        try:
            for part in parts:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=descriptor)
                below = os.open(part, FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise refuse(
                    Reason.INVALID_ARGUMENT,
                    f"{shown(join(parts))} cannot be a folder: something else is there already.",
                ) from error
            raise
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _place(self, parts: Parts) -> Iterator[tuple[int, bool]]:
        """Open the folder a new member goes to; tell whether something is there that it may replace."""
        with self._open_folder(parts[:-1]) as parent:
            facts = None
            with contextlib.suppress(FileNotFoundError):
                facts = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
            if facts is not None and (not self._overwrite or stat.S_ISDIR(facts.st_mode)):
                raise refuse(Reason.INVALID_ARGUMENT, f"{shown(join(parts))} exists already and is left alone.")
            yield parent, facts is not None
            if facts is None:
                self._new.append(parts)

    @contextlib.contextmanager
    def _free(self, parts: Parts) -> Iterator[int]:
        """Open the folder a new link goes to, with the place free."""
        with self._place(parts) as (parent, taken):
            if taken:
                os.unlink(parts[-1], dir_fd=parent)
            yield parent
