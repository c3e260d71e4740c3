#!/usr/bin/python3 -I
"""Make a folder that belongs to the account that glexec maps to, and print its path.

    mkgltempdir [-t MODE] [-m PARENTMODE] [DIR]      MODE 0700, PARENTMODE 0755, DIR $TMPDIR or /tmp
    mkgltempdir -r FOLDER [-f]                       -f: with all that is in it

The folder lies in a new one of the caller's, so that the caller can remove it. It uses the glexec beside this file,
with the caller's GLEXEC_CLIENT_CERT. Nothing is said on standard error when all is well. Standard library only.
"""

import argparse
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile

PARENT, TARGET = "mkgltempdir.", "target."
FAILED = 1
# Both run as the account. The interpreter is the one command of which we know that it is no symbolic link.
MAKE = "import os, sys; os.mkdir(sys.argv[1], 0o700); os.chmod(sys.argv[1], int(sys.argv[2], 8)); print(os.getuid())"
CLEAR = """
import os, shutil, sys
for folder, names, _ in os.walk(sys.argv[1]):
    for path in [os.path.join(folder, name) for name in names]:
        if not os.path.islink(path) and os.stat(path).st_uid == os.getuid():
            os.chmod(path, 0o700)
for entry in os.scandir(sys.argv[1]):
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        os.unlink(entry.path)
"""


class FolderError(Exception):
    """A step failed; `code` is the program's exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def as_account(code: str, *words: str) -> str:
    """Run a piece of Python through glexec and return what it prints."""
    glexec = os.path.join(os.path.dirname(os.path.realpath(__file__)), "glexec")
    done = subprocess.run(
        [glexec, os.path.realpath(sys.executable), "-I", "-c", code, *words],
        env={**os.environ, "GLEXEC_TARGET_PROXY": "/dev/null"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FolderError(f"glexec ended with {done.returncode}", done.returncode)
    return done.stdout


def make(base: str, mode: int, parent_mode: int) -> str:
    """Make the caller's folder and the account's in it.

    The parent is open to all while the account makes its folder, because nobody knows yet which account that is.
    Others cannot list it, and cannot guess the name; whatever else they put there meanwhile ends the attempt.
    """
    parent = tempfile.mkdtemp(prefix=PARENT, dir=base)
    target = os.path.join(parent, TARGET + secrets.token_hex(16))
    try:
        os.chmod(parent, 0o733)  # noqa: S103 - see above
        owner = int(as_account(MAKE, target, f"{mode:o}"))
        os.chmod(parent, 0o700)
        status = os.lstat(target)
        if os.listdir(parent) != [os.path.basename(target)] or not stat.S_ISDIR(status.st_mode):
            raise FolderError(f"somebody else has written into {parent}")
        if status.st_uid != owner:
            raise FolderError(f"{target} is not the account's")
        os.chmod(parent, parent_mode)
    except BaseException:
        os.chmod(parent, 0o700)
        shutil.rmtree(parent, ignore_errors=True)
        raise
    return target


def remove(folder: str, force: bool) -> None:
    """Remove a folder that `make` made, and its parent."""
    target = os.path.realpath(folder)
    parent = os.path.dirname(target)
    status = os.lstat(parent)
    ours = os.path.basename(parent).startswith(PARENT) and os.path.basename(target).startswith(TARGET)
    if not ours or status.st_uid != os.getuid() or not os.path.isdir(target):
        raise FolderError(f"{folder} is not a folder that mkgltempdir made for this account")
    if not force:
        os.rmdir(target)
        os.rmdir(parent)
        return
    if os.lstat(target).st_uid != os.getuid() and (not os.access(target, os.R_OK) or os.listdir(target)):
        as_account(CLEAR, target)
    try:
        os.rmdir(target)
    except OSError:
        # What is left is the caller's own. rmtree does not follow a link that the account may plant meanwhile.
        shutil.rmtree(target)
    shutil.rmtree(parent)


def octal(text: str) -> int:
    """Read a mode, of permission bits and the sticky bit."""
    mode = int(text, 8)
    if not 0 <= mode <= 0o1777:
        raise ValueError(text)
    return mode


def main() -> int:
    """Make or remove."""
    parser = argparse.ArgumentParser(prog="mkgltempdir", description="Make a folder for the account of glexec.")
    parser.add_argument("-t", dest="mode", type=octal, default=0o700, help="mode of the folder (0700)")
    parser.add_argument("-m", dest="parent_mode", type=octal, default=0o755, help="mode of its parent (0755)")
    parser.add_argument("-r", dest="remove", metavar="FOLDER", help="remove a folder made earlier, and its parent")
    parser.add_argument("-f", dest="force", action="store_true", help="with -r: also what is in it")
    parser.add_argument("dir", nargs="?", default=os.environ.get("TMPDIR") or "/tmp", help="where (TMPDIR or /tmp)")
    chosen = parser.parse_args()
    try:
        if chosen.remove is not None:
            remove(chosen.remove, chosen.force)
        else:
            print(make(os.path.realpath(chosen.dir), chosen.mode, chosen.parent_mode))
    except FolderError as error:
        print(f"mkgltempdir: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"mkgltempdir: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
