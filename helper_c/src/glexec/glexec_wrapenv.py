#!/usr/bin/python3 -I
"""Print the environment as one text for GLEXEC_ENV, which glexec lets through.

    export GLEXEC_ENV=`glexec_wrapenv [--exclude=A,B] [--exclude=C]`
    glexec .../glexec_unwrapenv -- COMMAND [ARGUMENT ...]

Each variable is base64 of NAME=value; these, joined by blanks, are compressed by zlib, and that is base64 again. What
names the caller's own identity (HOME, LOGNAME, USER, X509_USER_PROXY, _) stays behind, and so does an older GLEXEC_ENV.
Standard library only.
"""

import base64
import os
import sys
import zlib
from collections.abc import Iterable, Mapping

OWN = frozenset({b"HOME", b"LOGNAME", b"USER", b"X509_USER_PROXY", b"_", b"GLEXEC_ENV"})
STRING_MAX = 128 * 1024  # the kernel's for one variable, with name, "=" and NUL (MAX_ARG_STRLEN)
ROOM = STRING_MAX - len("GLEXEC_ENV=") - 1


class WrapError(Exception):
    """The environment cannot be wrapped."""


def wrap(environ: Mapping[bytes, bytes], exclude: Iterable[bytes] = ()) -> bytes:
    """Return the text for GLEXEC_ENV; names are excluded when they are equal, not when they look alike."""
    dropped = OWN.union(exclude)
    kept = [(name, value) for name, value in environ.items() if name and name not in dropped]
    texts = [base64.b64encode(name + b"=" + value) for name, value in kept]
    wrapped = base64.b64encode(zlib.compress(b" ".join(texts)))
    if len(wrapped) > ROOM:
        raise WrapError(f"the environment takes {len(wrapped)} bytes and GLEXEC_ENV holds {ROOM}: exclude some of it")
    return wrapped


def excluded(arguments: list[str]) -> list[bytes]:
    """Return the names of --exclude=A,B and --exclude A,B."""
    names: list[bytes] = []
    words = iter(arguments)
    for word in words:
        if word == "--exclude":
            text = next(words, None)
        elif word.startswith("--exclude="):
            text = word.removeprefix("--exclude=")
        else:
            text = None
        if text is None:
            raise WrapError("usage: glexec_wrapenv [--exclude=NAME[,NAME ...]] ...")
        names += [os.fsencode(name) for name in text.split(",") if name]
    return names


def main() -> int:
    """Print the wrapped environment, without a line end."""
    try:
        text = wrap(os.environb, excluded(sys.argv[1:]))
    except WrapError as error:
        print(f"glexec_wrapenv: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
