#!/usr/bin/python3 -I
"""Put the variables of GLEXEC_ENV back and become the command; runs inside glexec, under the owner's account.

    glexec .../glexec_unwrapenv [--exclude=A,B] [--] COMMAND [ARGUMENT ...]

One single word is a line for /bin/sh -c, as with the Perl program of this name; several are a command with its
arguments, looked for in the PATH that was unwrapped. What names the account (HOME, LOGNAME, USER, X509_USER_PROXY, _)
is not touched, and nothing is put back unless all of GLEXEC_ENV is sound. Standard library only.
"""

import base64
import binascii
import os
import signal
import sys
import zlib
from collections.abc import Iterable

OWN = frozenset({b"HOME", b"LOGNAME", b"USER", b"X509_USER_PROXY", b"_", b"GLEXEC_ENV"})
PLAIN_MAX = 6 * 1024 * 1024  # more than the kernel's limit for arguments and environment together
USAGE = "usage: glexec_unwrapenv [--exclude=NAME[,NAME ...]] ... [--] COMMAND [ARGUMENT ...]"


class UnwrapError(Exception):
    """GLEXEC_ENV or the command line is not sound."""


def decode(text: bytes) -> bytes:
    """Decode strict base64, in which other programs may have put line ends."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise UnwrapError(f"GLEXEC_ENV is not base64: {error}") from None


def inflate(packed: bytes) -> bytes:
    """Decompress one whole stream that is not larger than an environment can be."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(packed, PLAIN_MAX)
    except zlib.error as error:
        raise UnwrapError(f"GLEXEC_ENV cannot be decompressed: {error}") from None
    if not stream.eof:
        raise UnwrapError("GLEXEC_ENV is cut off or larger than any environment")
    if stream.unused_data:
        raise UnwrapError("GLEXEC_ENV goes on after its end")
    return plain


def unwrap(text: bytes, exclude: Iterable[bytes] = ()) -> dict[bytes, bytes]:
    """Return the variables of GLEXEC_ENV but the excluded ones."""
    dropped = OWN.union(exclude)
    found: dict[bytes, bytes] = {}
    for word in inflate(decode(text)).split():
        name, equals, value = decode(word).partition(b"=")
        if not name or not equals or b"\0" in name + value:
            raise UnwrapError("GLEXEC_ENV holds something that is no variable")
        if name not in dropped:
            found[name] = value
    return found


def command_line(arguments: list[str]) -> tuple[list[bytes], list[str]]:
    """Split the words into excluded names and the command."""
    names: list[bytes] = []
    words = list(arguments)
    while words and words[0].startswith("--exclude"):
        word = words.pop(0)
        if word == "--exclude" and words:
            text = words.pop(0)
        elif word.startswith("--exclude="):
            text = word.removeprefix("--exclude=")
        else:
            raise UnwrapError(USAGE)
        names += [os.fsencode(name) for name in text.split(",") if name]
    if words and words[0] == "--":
        words.pop(0)
    if not words or not words[0]:
        raise UnwrapError(USAGE)
    return names, words if len(words) > 1 else ["/bin/sh", "-c", words[0]]


def main() -> int:
    """Become the command, or say why not: 126 and 127 as a shell does, 1 for GLEXEC_ENV."""
    try:
        exclude, command = command_line(sys.argv[1:])
        wrapped = os.environb.get(b"GLEXEC_ENV")
        if not wrapped:
            raise UnwrapError("GLEXEC_ENV is not set: there is nothing to unwrap")
        variables = unwrap(wrapped, exclude)
    except UnwrapError as error:
        print(f"glexec_unwrapenv: {error}", file=sys.stderr)
        return 1
    os.environb.update(variables)
    del os.environb[b"GLEXEC_ENV"]
    # Python ignores these two, and the command would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the caller's command is the purpose
    except OSError as error:
        print(f"glexec_unwrapenv: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126


if __name__ == "__main__":
    sys.exit(main())
