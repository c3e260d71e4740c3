"""What a VOMS server is asked, in both of its languages.

Nothing is percent-encoded or escaped: VOMS servers decode nothing, so only characters that need
neither are let through.
"""

import datetime
import re
from collections.abc import Iterable

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.voms.fqans import check_vo, normalise_all, split

LONGEST_FQAN_LIST = 512
"""What INDIGO IAM takes."""
MOST_TARGETS = 50
NO_DELEGATION = b"0"
"""What a client of the Grid Security Infrastructure sends first, in a TLS record of its own."""

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}", re.ASCII)


class VomsRequest(msgspec.Struct, frozen=True):
    """Attributes wanted: the first FQAN is to be the first of the answer. None: the VO's group.

    `allow_subset` takes an answer that lacks some of them, or has another one first.
    """

    vo: str
    fqans: tuple[str, ...] = ()
    lifetime: datetime.timedelta = datetime.timedelta(hours=12)
    targets: tuple[str, ...] = ()
    allow_subset: bool = False


def make_request(
    vo: str,
    fqans: Iterable[str] = (),
    *,
    lifetime: datetime.timedelta = datetime.timedelta(hours=12),
    targets: Iterable[str] = (),
    allow_subset: bool = False,
) -> VomsRequest:
    """Make a request whose every part may be sent as it is, or raise INVALID_ARGUMENT or VOMS_FQAN."""
    wanted = tuple(dict.fromkeys(normalise_all(fqans, check_vo(vo))))
    hosts = tuple(targets)
    if lifetime < datetime.timedelta(seconds=1):
        raise refuse(Reason.INVALID_ARGUMENT, "Attributes must live for at least a second.")
    if len(",".join(wanted)) > LONGEST_FQAN_LIST:
        raise refuse(Reason.INVALID_ARGUMENT, f"The list of FQANs has more than {LONGEST_FQAN_LIST} characters.")
    if len(hosts) > MOST_TARGETS or not all(_HOST.fullmatch(host) for host in hosts):
        raise refuse(Reason.INVALID_ARGUMENT, f"Targets are at most {MOST_TARGETS} host names.")
    return VomsRequest(vo=vo, fqans=wanted, lifetime=lifetime, targets=hosts, allow_subset=allow_subset)


def rest_request(request: VomsRequest, host: str, port: int) -> bytes:
    """Return the HTTP request; 1.0, so that the answer ends with the connection and is never chunked."""
    query = [f"lifetime={_seconds(request)}"]
    if request.fqans:
        query.insert(0, f"fqans={','.join(request.fqans)}")
    if request.targets:
        query.append(f"targets={','.join(request.targets)}")
    if len(request.fqans) > 1:
        query.append(f"order={','.join(_order(fqan) for fqan in request.fqans)}")
    name = f"[{host}]" if ":" in host else host
    lines = [
        f"GET /generate-ac?{'&'.join(query)} HTTP/1.0",
        f"Host: {name}:{port}",
        "User-Agent: pilotage",
        "Accept: text/xml",
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def legacy_request(request: VomsRequest) -> bytes:
    """Return the request of the legacy protocol; NO_DELEGATION goes before it, not in one piece with it."""
    commands = [legacy_command(fqan) for fqan in request.fqans] or [f"G/{request.vo}"]
    parts = ['<?xml version="1.0" encoding="US-ASCII"?><voms>']
    parts += [f"<command>{command}</command>" for command in commands]
    if len(request.fqans) > 1:
        parts.append(f"<order>{','.join(_order(fqan) for fqan in request.fqans)}</order>")
    if request.targets:
        parts.append(f"<targets>{','.join(request.targets)}</targets>")
    parts.append(f"<base64>1</base64><version>4</version><lifetime>{_seconds(request)}</lifetime></voms>")
    return "".join(parts).encode("ascii")


def legacy_command(fqan: str) -> str:
    """Return the command of the legacy protocol that asks for an FQAN."""
    group, role = split(fqan)
    return f"B{group}:{role}" if role else f"G{group}"


def _seconds(request: VomsRequest) -> int:
    return max(1, int(request.lifetime.total_seconds()))


def _order(fqan: str) -> str:
    group, role = split(fqan)
    return f"{group}:{role}" if role else group
