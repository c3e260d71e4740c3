"""Which VOMS servers a VO has: `vomses` files and directories.

A line has five quoted fields, "alias" "host" "port" "server DN" "vo", and sometimes a sixth, an old
Globus version that nobody uses. What is not such a line, empty or a comment is an error with its
file and line number: a server that is silently skipped is looked for for hours.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.fqans import check_vo

SYSTEM_VOMSES = Path("/etc/vomses")
LARGEST_FILE_BYTES = 1024 * 1024
MOST_FILES = 1000

_LINE = re.compile(r'[ \t]*"([^"]*)"' + r'[ \t]+"([^"]*)"' * 4 + r'(?:[ \t]+"([^"]*)")?[ \t]*')
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


class VomsServer(msgspec.Struct, frozen=True):
    """One VOMS server, and the subject its certificate may show instead of the host's name."""

    alias: str
    host: str
    port: int
    dn: str
    vo: str


def find_vomses(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the places that exist, in the order of grid tools.

    X509_VOMSES and VOMS_USERCONF each name the only place; else ~/.voms/vomses, ~/.glite/vomses and
    /etc/vomses all count. A place that is named and missing is an error.
    """
    for variable in ("X509_VOMSES", "VOMS_USERCONF"):
        if named := environ.get(variable):
            if not Path(named).exists():
                raise refuse(Reason.VOMSES_NOT_FOUND, f"{variable} names {named}, which does not exist.")
            return (Path(named),)
    places = [SYSTEM_VOMSES]
    if home := environ.get("HOME"):
        places = [Path(home) / ".voms" / "vomses", Path(home) / ".glite" / "vomses", SYSTEM_VOMSES]
    return tuple(place for place in places if place.exists())


def servers_of(vo: str, places: Sequence[Path]) -> tuple[VomsServer, ...]:
    """Return a VO's servers from the first place that names any; `vo` may be an alias.

    The user's own files come before the system's, so that a user can point elsewhere.
    """
    for place in places:
        servers = read_vomses(place)
        found = [server for server in servers if server.vo == vo] or [s for s in servers if s.alias == vo]
        if found:
            return tuple(dict.fromkeys(found))
    searched = ", ".join(str(place) for place in places) or "no vomses file exists"
    raise refuse(
        Reason.VOMSES_NOT_FOUND, f"No VOMS server of the VO {vo[:80]!r} is named in a vomses file ({searched})."
    )


def read_vomses(place: Path) -> tuple[VomsServer, ...]:
    """Read a vomses file, or every file of a directory in the order of names."""
    try:
        if not place.is_dir():
            return parse_vomses(_read(place), str(place))
        files = sorted(entry for entry in place.iterdir() if not entry.name.startswith(".") and entry.is_file())
    except OSError as error:
        raise refuse(Reason.VOMSES_NOT_FOUND, f"{place} cannot be read ({error.strerror}).") from error
    if len(files) > MOST_FILES:
        raise refuse(Reason.VOMSES_MALFORMED, f"{place} holds more than {MOST_FILES} files.")
    return tuple(server for file in files for server in parse_vomses(_read(file), str(file)))


def parse_vomses(text: str, source: str) -> tuple[VomsServer, ...]:
    """Read the lines of a vomses file; raise VOMSES_MALFORMED with the line's number."""
    servers = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip(" \t") and not line.lstrip(" \t").startswith("#"):
            servers.append(_parse_line(line, f"{source}:{number}"))
    return tuple(servers)


def _parse_line(line: str, where: str) -> VomsServer:
    match = _LINE.fullmatch(line)
    if match is None:
        raise _malformed(where, 'not five or six fields in double quotes: "alias" "host" "port" "DN" "vo"')
    alias, host, port, dn, vo, _ = match.groups()
    if not alias or any(not part.isprintable() for part in (alias, dn)):
        raise _malformed(where, "the alias or the DN is empty or has a character that is not printable")
    if not _HOST.fullmatch(host) and not (":" in host and _IPV6.fullmatch(host)):
        raise _malformed(where, "the second field is not a host name or address")
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise _malformed(where, "the third field is not a port")
    if not dn.startswith("/"):
        raise _malformed(where, "the fourth field is not a DN in slash form")
    try:
        check_vo(vo)
    except PilotageError as error:
        raise _malformed(where, "the fifth field is not the name of a VO") from error
    return VomsServer(alias=alias, host=host, port=int(port), dn=dn, vo=vo)


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise refuse(Reason.VOMSES_MALFORMED, f"{path} is neither a file nor a directory.")
        content = file.read(LARGEST_FILE_BYTES + 1)
    if len(content) > LARGEST_FILE_BYTES:
        raise refuse(Reason.VOMSES_MALFORMED, f"{path} is larger than {LARGEST_FILE_BYTES} bytes.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse(Reason.VOMSES_MALFORMED, f"{path} is not text in UTF-8.") from error


def _malformed(where: str, why: str) -> PilotageError:
    return refuse(Reason.VOMSES_MALFORMED, f"{where}: {why}.")
