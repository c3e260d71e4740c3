"""What a member of a sandbox may be called and where a link in it may lead.

The rules are by name alone, so that packing, checking and unpacking cannot disagree. A link may
climb only in its first steps: a target such as `sub/../../x` could leave the sandbox if `sub` were
itself a link, and the names alone do not say what it will be.
"""

import posixpath

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason

LONGEST_PATH_BYTES = 1024
LONGEST_NAME_BYTES = 255
DEEPEST_PATH = 64
LONGEST_SHOWN = 120


def shown(name: str) -> str:
    """Return a hostile name in a form that is safe in a log or on a terminal."""
    return ascii(name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}...")


def check_name(name: str) -> tuple[str, ...]:
    """Return the parts of a member's path, or raise SANDBOX_UNSAFE_PATH; () is the sandbox itself."""
    if name.startswith("/"):
        raise _path(name, "is absolute")
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise _path(name, "is not UTF-8") from error
    if any(byte < 0x20 or byte == 0x7F for byte in raw):
        raise _path(name, "holds a control character")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise _path(name, "climbs with '..'")
    too_long = len(raw) > LONGEST_PATH_BYTES or any(len(part.encode()) > LONGEST_NAME_BYTES for part in parts)
    if too_long or len(parts) > DEEPEST_PATH:
        raise _path(name, "is too long or too deep")
    return parts


def check_symlink(parts: tuple[str, ...], target: str) -> None:
    """Raise SANDBOX_UNSAFE_LINK unless a symbolic link at `parts` stays inside, whatever else is there."""
    name = "/".join(parts)
    if not target or target.startswith("/"):
        raise _link(name, target)
    try:
        raw = target.encode()
    except UnicodeEncodeError as error:
        raise _link(name, target) from error
    if len(raw) > LONGEST_PATH_BYTES or any(byte < 0x20 or byte == 0x7F for byte in raw):
        raise _link(name, target)
    steps = [step for step in target.split("/") if step not in ("", ".")]
    climbs = 0
    while climbs < len(steps) and steps[climbs] == "..":
        climbs += 1
    if ".." in steps[climbs:] or climbs > len(parts) - 1:
        raise _link(name, target)


def parents(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the folders a path lies in, outermost first, without the sandbox itself."""
    return [parts[:depth] for depth in range(1, len(parts))]


def join(parts: tuple[str, ...]) -> str:
    """Return parts as a path."""
    return posixpath.join(*parts) if parts else "."


def _path(name: str, why: str) -> PilotageError:
    return refuse(Reason.SANDBOX_UNSAFE_PATH, f"The sandbox's member {shown(name)} {why}.")


def _link(name: str, target: str) -> PilotageError:
    return refuse(
        Reason.SANDBOX_UNSAFE_LINK, f"The sandbox's link {shown(name)} leads to {shown(target)}, which may be outside."
    )
