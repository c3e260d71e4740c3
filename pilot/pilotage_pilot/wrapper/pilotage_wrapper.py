"""Prepare, run and tidy up one payload, as the job's owner.

A pilot starts this file through `pilotage-exec run` as `/usr/bin/python3 -I <this file>`, with a UNIX stream
socket as descriptor 0 and pipes as 1 and 2 (docs/helper-interface.md, "The wrapper's socket"). It needs nothing
but the standard library of Python 3.9. It is longer than other modules because it must stay one file: a site
installs it root-owned, and `-I` leaves it nothing of its own to import.

It runs under the owner's account and guards nothing against the owner: whoever reads its frames takes them for the
owner's word. Its checks give early and clear errors, and keep an owner from being harmed by a foreign archive.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import gzip
import json
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from types import FrameType
from typing import IO, cast

FRAME = struct.Struct("!cI")
MAX_BODY = 1 << 20
CHUNK = 256 << 10
MAX_MEMBERS = 20_000
MAX_DEPTH = 64
FAILED_EXIT = 120
DRAIN_SECONDS = 10
PATH = "/usr/local/bin:/usr/bin:/bin"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
OURS = frozenset(
    "HOME USER LOGNAME SHELL TMPDIR X509_USER_PROXY PANDAID PILOT_SITENAME ATHENA_PROC_NUMBER".split()  # noqa: SIM905
)
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Failed(Exception):
    """Stop the attempt: the name of a reason of `pilotage.reasons` and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Manifest:
    """What the pilot asks for, checked."""

    def __init__(self, body: bytes) -> None:
        try:
            fields = json.loads(body)
            self.job_id = str(fields["job_id"])
            self.attempt = int(fields["attempt"])
            self.command = [str(word) for word in fields["command"]]
            self.environment = {str(name): str(value) for name, value in fields["environment"].items()}
            self.outputs = [str(pattern) for pattern in fields["outputs"]]
            self.has_input = bool(fields["has_input"])
            self.max_input_bytes = int(fields["max_input_bytes"])
            self.max_unpacked_bytes = int(fields["max_unpacked_bytes"])
            self.max_output_bytes = int(fields["max_output_bytes"])
            self.wall_seconds = float(fields["wall_seconds"])
            self.cores = int(fields["cores"])
            self.site = str(fields["site"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Failed("WRAPPER_PROTOCOL", f"The manifest is not what it should be: {error!r}") from None
        if not self.command or not self.command[0]:
            raise Failed("COMMAND_NOT_FOUND", "The job has no command.")
        if any("\0" in word for word in self.command):
            raise Failed("COMMAND_NOT_FOUND", "The job's command has a NUL byte in it.")


class Wire:
    """Frames over the pilot's socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Send one frame."""
        self.sock.sendall(FRAME.pack(kind, len(body)) + body)

    def say(self, kind: bytes, **fields: object) -> None:
        """Send one frame with a JSON object."""
        self.send(kind, json.dumps(fields).encode())

    def fail(self, reason: str, message: str) -> None:
        """Send why it failed and end the stream.

        What the pilot still sends is read and dropped: a socket closed before that would be reset, and the reason lost.
        """
        self.say(b"E", reason=reason, message=message[:1000].encode("utf-8", "backslashreplace").decode())
        self.sock.shutdown(socket.SHUT_WR)
        self.sock.settimeout(DRAIN_SECONDS)
        while self.sock.recv(CHUNK):
            pass

    def receive(self, kind: bytes) -> bytes:
        """Receive one frame, which must be of this kind."""
        got, length = FRAME.unpack(self.exactly(FRAME.size))
        if got != kind or length > MAX_BODY:
            raise Failed("WRAPPER_PROTOCOL", f"Expected a frame {kind!r}, got {got!r} of {length} bytes.")
        return self.exactly(length)

    def exactly(self, length: int) -> bytes:
        """Receive so many bytes or fail."""
        parts = bytearray()
        while len(parts) < length:
            part = self.sock.recv(min(length - len(parts), CHUNK))
            if not part:
                raise Failed("SANDBOX_TRUNCATED", "The pilot's stream ended in the middle.")
            parts += part
        return bytes(parts)


# --- the environment and the command ---------------------------------------------------------------------------------


def payload_environment(manifest: Manifest) -> dict[str, str]:
    """Return the helper's environment with the job's and PanDA's names added, or refuse a name."""
    environment = dict(os.environ)
    for name, value in manifest.environment.items():
        if not NAME.match(name):
            raise Failed("ENVIRONMENT_REFUSED", f"{name[:80]!r} is not a name of an environment variable.")
        if name.startswith(("LD_", "PILOTAGE_")) or name in OURS:
            raise Failed("ENVIRONMENT_REFUSED", f"The job may not set {name[:80]}.")
        if "\0" in value:
            raise Failed("ENVIRONMENT_REFUSED", f"The value of {name[:80]} has a NUL byte in it.")
        environment[name] = value
    environment["PANDAID"] = manifest.job_id
    environment["ATHENA_PROC_NUMBER"] = str(manifest.cores)
    environment["PILOTAGE_ATTEMPT"] = str(manifest.attempt)
    environment["PILOTAGE_WALL_SECONDS"] = f"{manifest.wall_seconds:.0f}"
    if manifest.site:
        environment["PILOT_SITENAME"] = manifest.site
    return environment


def find_program(name: str) -> str:
    """Return where the program is: by its path when it has a slash, else in the constant PATH."""
    if "/" in name:
        return name
    found = shutil.which(name, path=PATH)
    if found is None:
        raise Failed("COMMAND_NOT_FOUND", f"{name[:200]!r} is not in {PATH}; a program of the sandbox needs './'.")
    return found


# --- paths: every component is opened by itself and no link is ever followed -----------------------------------------


def components(path: str, what: str) -> list[str]:
    """Split a relative path, refusing one that is absolute or climbs."""
    if path.startswith("/") or "\0" in path:
        raise Failed("SANDBOX_UNSAFE_PATH", f"{what} {path[:200]!r} is not a relative path.")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Failed("SANDBOX_UNSAFE_PATH", f"{what} {path[:200]!r} leads out of the work directory.")
    if len(parts) > MAX_DEPTH:
        raise Failed("SANDBOX_UNSAFE_PATH", f"{what} {path[:200]!r} is deeper than {MAX_DEPTH} directories.")
    return parts


def open_directory(parts: list[str], *, make: bool) -> int:
    """Open a directory below the work directory and return its descriptor."""
    fd = os.open(".", DIRECTORY)
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=fd)
            below = os.open(part, DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
    except BaseException:
        os.close(fd)
        raise
    return fd


# --- the input sandbox -----------------------------------------------------------------------------------------------


class Input:
    """The input sandbox's bytes, uncompressed and counted, as tarfile reads them."""

    def __init__(self, wire: Wire, max_input: int, max_unpacked: int) -> None:
        self.wire = wire
        self.left = max_input
        self.unpacked_left = max_unpacked
        self.inflate = zlib.decompressobj(wbits=31)
        self.ended = False

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end of the archive."""
        out = bytearray()
        while len(out) < size and not self.inflate.eof:
            data = self.inflate.unconsumed_tail or self.next()
            if not data:
                raise Failed("SANDBOX_TRUNCATED", "The input sandbox ends in the middle.")
            try:
                part = self.inflate.decompress(data, size - len(out))
            except zlib.error as error:
                raise Failed("SANDBOX_MALFORMED", f"The input sandbox is not gzip data: {error}") from None
            self.unpacked_left -= len(part)
            if self.unpacked_left < 0:
                raise Failed("SANDBOX_TOO_LARGE", "The unpacked input sandbox is larger than allowed.")
            out += part
        return bytes(out)

    def next(self) -> bytes:
        """Return the next frame's bytes, empty at the end."""
        if self.ended:
            return b""
        data = self.wire.receive(b"I")
        self.left -= len(data)
        if self.left < 0:
            raise Failed("SANDBOX_TOO_LARGE", "The input sandbox is larger than allowed.")
        self.ended = not data
        return data

    def finish(self) -> None:
        """Read what is left, and insist that the archive was whole and nothing follows it."""
        while self.read(CHUNK):
            pass
        if self.inflate.unused_data or self.next():
            raise Failed("SANDBOX_MALFORMED", "Something follows the input sandbox.")


def unpack(source: Input) -> None:
    """Unpack the input sandbox into the work directory."""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|", errorlevel=2) as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise Failed("SANDBOX_TOO_LARGE", f"The input sandbox has more than {MAX_MEMBERS} members.")
                unpack_member(archive, member)
        source.finish()
    except FileExistsError as error:
        raise Failed("SANDBOX_UNSAFE_MEMBER", f"The input sandbox has {error.filename!r} twice.") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Failed(
                "SANDBOX_UNSAFE_LINK", f"A path in the input sandbox crosses a link or a file: {error}"
            ) from None
        if error.errno == errno.ENAMETOOLONG:
            raise Failed("SANDBOX_UNSAFE_PATH", "A path in the input sandbox is too long.") from None
        raise Failed("INPUT_FAILED", f"The input sandbox could not be unpacked: {error}") from None
    except (tarfile.TarError, ValueError, UnicodeError) as error:
        raise Failed("SANDBOX_MALFORMED", f"The input sandbox is not a tar archive: {error}") from None


def unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Unpack one member, never through a link and never over something that is there."""
    parts = components(member.name, "Member")
    if member.isdir():
        os.close(open_directory(parts, make=True))
        return
    if not parts:
        raise Failed("SANDBOX_UNSAFE_PATH", f"Member {member.name[:200]!r} is the work directory itself.")
    parent = open_directory(parts[:-1], make=True)
    try:
        if member.issym():
            check_link(parts, member.linkname)
            os.symlink(member.linkname, parts[-1], dir_fd=parent)
        elif member.islnk():
            unpack_hard_link(member, parts[-1], parent)
        elif member.isreg() and not member.issparse():
            unpack_file(archive, member, parts[-1], parent)
        else:
            raise Failed("SANDBOX_UNSAFE_MEMBER", f"Member {member.name[:200]!r} is neither file, directory nor link.")
    finally:
        os.close(parent)


def check_link(parts: list[str], target: str) -> None:
    """Refuse a symbolic link that may lead out.

    The parents of a link are real directories, so climbing first and descending afterwards can be judged by
    counting. A `..` after a name cannot, for the name may be another link: it is refused.
    """
    steps = [step for step in target.split("/") if step not in ("", ".")]
    climbs = 0
    while climbs < len(steps) and steps[climbs] == "..":
        climbs += 1
    if not target or target.startswith("/") or ".." in steps[climbs:] or climbs > len(parts) - 1:
        raise Failed("SANDBOX_UNSAFE_LINK", f"Link {'/'.join(parts)[:200]!r} leads to {target[:200]!r}.")


def unpack_hard_link(member: tarfile.TarInfo, name: str, parent: int) -> None:
    """Make a hard link to a file that the archive brought."""
    target = components(member.linkname, "Hard link to")
    if not target:
        raise Failed("SANDBOX_UNSAFE_LINK", f"Hard link {member.name[:200]!r} leads nowhere.")
    other = open_directory(target[:-1], make=False)
    try:
        if not stat.S_ISREG(os.stat(target[-1], dir_fd=other, follow_symlinks=False).st_mode):
            raise Failed("SANDBOX_UNSAFE_LINK", f"Hard link {member.name[:200]!r} does not lead to a file.")
        os.link(target[-1], name, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(other)


def unpack_file(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, parent: int) -> None:
    """Write one regular file; of its mode only the owner's execute bit counts."""
    source = archive.extractfile(member)
    if source is None:
        raise Failed("SANDBOX_MALFORMED", f"Member {member.name[:200]!r} has no content.")
    mode = 0o700 if member.mode & 0o100 else 0o600
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent)
    with source, open(fd, "wb") as target:
        shutil.copyfileobj(source, target, CHUNK)


# --- the payload -----------------------------------------------------------------------------------------------------


class Payload:
    """The owner's command, in a process group of its own."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes]
        self.pid = 0
        self.pending: list[int] = []
        self.over = False

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: hand it to the payload, or keep it until there is one."""
        if not self.pid:
            self.pending.append(number)
        elif not self.over:
            kill_group(self.pid, number)

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        """Start the command; descriptors 1 and 2 are its own, 0 is /dev/null, there is no other."""
        program = find_program(command[0])
        if self.pending:
            raise Failed("PAYLOAD_FAILED", "The attempt was ended before the payload started.")
        try:
            # Kept: a Popen that is dropped reaps its child behind our back, and with it the payload's usage.
            self.process = subprocess.Popen(
                command,
                executable=program,
                env=environment,
                stdin=subprocess.DEVNULL,
                close_fds=True,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise Failed("COMMAND_NOT_FOUND", f"{command[0][:200]!r} cannot be executed: {error}") from None
        self.pid = self.process.pid
        for number in self.pending:
            kill_group(self.pid, number)

    def wait(self) -> tuple[int, int, dict[str, float]]:
        """Wait for the end, kill the rest of its group; return exit code (-1 after a signal), signal and usage."""
        begun = time.monotonic()
        _, status, usage = os.wait4(self.pid, 0)
        self.process.returncode = status
        self.over = True
        kill_group(self.pid, signal.SIGKILL)
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return (
            -1 if killed else os.WEXITSTATUS(status),
            killed,
            {
                "wall_seconds": time.monotonic() - begun,
                "cpu_user_seconds": usage.ru_utime,
                "cpu_system_seconds": usage.ru_stime,
                "max_rss_bytes": usage.ru_maxrss * 1024,
            },
        )


def kill_group(pid: int, number: int) -> None:
    """Signal the payload's process group; that it is gone already is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


# --- the outputs -----------------------------------------------------------------------------------------------------


class Outputs:
    """Sends the outputs as frames while they are packed, within the limit."""

    def __init__(self, wire: Wire, limit: int) -> None:
        self.wire = wire
        self.left = limit

    def write(self, data: bytes) -> int:
        """Send bytes of the archive."""
        self.left -= len(data)
        if self.left < 0:
            raise Failed("SANDBOX_TOO_LARGE", "The outputs are larger than allowed.")
        for start in range(0, len(data), CHUNK):
            self.wire.send(b"O", bytes(data[start : start + CHUNK]))
        return len(data)

    def flush(self) -> None:
        """Do nothing: every write is sent at once."""


def matches(parts: list[str], fd: int, before: str = "") -> Iterator[str]:
    """Yield the files and directories that a split pattern names; links are not followed and not matched."""
    with os.scandir(fd) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
        )
    for name in names:
        if not fnmatch.fnmatchcase(name, parts[0]) or (name.startswith(".") and not parts[0].startswith(".")):
            continue
        if len(parts) == 1:
            yield before + name
            continue
        try:
            below = os.open(name, DIRECTORY, dir_fd=fd)
        except OSError:
            continue
        try:
            yield from matches(parts[1:], below, f"{before}{name}/")
        finally:
            os.close(below)


def pack(archive: tarfile.TarFile, path: str, packed: set[str]) -> bool:
    """Pack a file, or a directory with what is below it; return False for anything else."""
    if path in packed:
        return True
    parts = components(path, "Output")
    parent = open_directory(parts[:-1], make=False)
    try:
        fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return False
        raise
    finally:
        os.close(parent)
    try:
        status = os.fstat(fd)
        member = tarfile.TarInfo(path)
        member.mtime = max(0, int(status.st_mtime))
        member.mode = status.st_mode & 0o777
        if stat.S_ISREG(status.st_mode):
            member.size = status.st_size
            with open(fd, "rb", closefd=False) as source:
                archive.addfile(member, source)
        elif stat.S_ISDIR(status.st_mode):
            member.type = tarfile.DIRTYPE
            archive.addfile(member)
            for name in sorted(os.listdir(fd)):
                if not pack(archive, f"{path}/{name}", packed):
                    print(f"pilotage: not packed, neither file nor directory: {path}/{name}", file=sys.stderr)
        else:
            return False
    finally:
        os.close(fd)
    packed.add(path)
    if len(packed) > MAX_MEMBERS:
        raise Failed("SANDBOX_TOO_LARGE", f"There are more than {MAX_MEMBERS} outputs.")
    return True


def send_outputs(wire: Wire, manifest: Manifest, *, all_must_be_there: bool) -> None:
    """Send the declared outputs as one archive."""
    patterns = [(pattern, components(pattern, "Output")) for pattern in manifest.outputs]
    work = os.open(".", DIRECTORY)
    try:
        found = [(pattern, list(matches(parts, work))) for pattern, parts in patterns]
        missing = [pattern[:200] for pattern, names in found if not names]
        if missing and all_must_be_there:
            raise Failed(
                "OUTPUT_MISSING", f"No file or directory (links do not count) matches {', '.join(missing[:10])}."
            )
        sink = cast("IO[bytes]", Outputs(wire, manifest.max_output_bytes))
        packed: set[str] = set()
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=sink, compresslevel=5, mtime=0) as squeezed,
            tarfile.open(fileobj=squeezed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in (name for _, names in found for name in names):
                pack(archive, path, packed)
        wire.send(b"O")
    except ConnectionError:
        raise
    except (OSError, tarfile.TarError, ValueError) as error:
        raise Failed("OUTPUT_FAILED", f"The outputs could not be packed: {error}") from None
    finally:
        os.close(work)


# --- the whole -------------------------------------------------------------------------------------------------------


def take_socket() -> socket.socket:
    """Move the pilot's socket to a high descriptor that no payload inherits, and make 0 /dev/null."""
    fd = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 100)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    return socket.socket(fileno=fd)


def run(wire: Wire, payload: Payload) -> int:
    """Run one payload from manifest to outputs and return the exit code for this process."""
    manifest = Manifest(wire.receive(b"M"))
    environment = payload_environment(manifest)
    for pattern in manifest.outputs:
        if not components(pattern, "Output"):
            raise Failed("SANDBOX_UNSAFE_PATH", f"Output {pattern[:200]!r} is the work directory itself; say '*'.")
    if manifest.has_input:
        unpack(Input(wire, manifest.max_input_bytes, manifest.max_unpacked_bytes))
    payload.start(manifest.command, environment)
    wire.say(b"S", state="started", pid=payload.pid)
    code, killed, usage = payload.wait()
    wire.say(b"X", exit_code=code, signal=killed, **usage)
    if manifest.outputs:
        send_outputs(wire, manifest, all_must_be_there=code == 0)
    wire.send(b"D")
    return 128 + killed if killed else code


def main() -> int:
    """Serve one pilot; every failure becomes one frame."""
    try:
        wire = Wire(take_socket())
    except OSError as error:
        print(f"pilotage: descriptor 0 is not the pilot's socket: {error}", file=sys.stderr)
        return FAILED_EXIT
    payload = Payload()
    for number in PASSED_ON:
        signal.signal(number, payload.pass_on)
    try:
        try:
            return run(wire, payload)
        except Failed as failure:
            wire.fail(failure.reason, failure.message)
        except ConnectionError:
            raise
        except Exception as error:
            wire.fail("INTERNAL", f"The wrapper failed: {error!r}")
    except OSError as error:
        print(f"pilotage: the pilot does not listen any more: {error}", file=sys.stderr)
    return FAILED_EXIT


if __name__ == "__main__":
    sys.exit(main())
