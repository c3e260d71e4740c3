"""The server's side of both VOMS protocols: requests in, answers out, as voms-server does it."""

import base64
import re
import urllib.parse
from http import HTTPStatus
from xml.sax.saxutils import escape

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.voms.answers import FIRST_ERROR_NUMBER
from pilotage.voms.fqans import normalise
from pilotage.voms.members import Remark, Wish

_COMMAND = re.compile(r"<command>([^<]*)</command>")
_STATUS = {
    "NoSuchUser": HTTPStatus.FORBIDDEN,
    "SuspendedUser": HTTPStatus.FORBIDDEN,
    "BadRequest": HTTPStatus.BAD_REQUEST,
}
_DUMMY = b"A"


class Answer(msgspec.Struct, frozen=True):
    """What goes back: an attribute certificate or a listing of FQANs, with remarks; or an error among them."""

    certificate: bytes = b""
    listing: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def error(self) -> Remark | None:
        """Return the error, if this is a refusal."""
        return next((remark for remark in self.remarks if remark.number >= FIRST_ERROR_NUMBER), None)


def read_rest(request: bytes) -> Wish:
    """Read a GET request; an unknown parameter is remarked upon, anything else wrong is refused."""
    line = request.split(b"\n", 1)[0].decode("ascii", errors="replace").strip()
    method, _, rest = line.partition(" ")
    target, _, version = rest.rpartition(" ")
    path, _, query = target.partition("?")
    if method != "GET" or path != "/generate-ac" or not version.startswith("HTTP/1."):
        raise refuse(Reason.INVALID_ARGUMENT, "Only GET /generate-ac is served.")
    values: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        values[name] = urllib.parse.unquote(value)
    asked = values.get("fqans", "")
    return Wish(
        fqans=() if asked == "all" else tuple(normalise(text) for text in _split(asked)),
        everything=asked == "all",
        order=_read_order(values.get("order", "")),
        lifetime_seconds=_seconds(values.get("lifetime", "")),
        targets=_split(values.get("targets", "")),
        unknown=not values.keys() <= {"fqans", "lifetime", "targets", "order"},
    )


def read_legacy(request: bytes) -> Wish | None:
    """Read a legacy request; None asks for a listing."""
    text = request.decode("ascii", errors="replace")
    if "<voms>" not in text:
        raise refuse(Reason.INVALID_ARGUMENT, "The request is in neither of the protocols served.")
    commands = [command.strip() for command in _COMMAND.findall(text)]
    if not commands:
        raise refuse(Reason.INVALID_ARGUMENT, "The request has no command.")
    if commands == ["N"]:
        return None
    fqans, roles = [], []
    for command in commands:
        if command == "A":
            continue
        kind, operand = command[:1], command[1:]
        if kind == "G":
            fqans.append(normalise(operand))
        elif kind == "B":
            group, _, role = operand.partition(":")
            fqans.append(normalise(f"{group}/Role={role}"))
        elif kind == "R":
            roles.append(operand)
        else:
            raise refuse(Reason.INVALID_ARGUMENT, "The request has an unknown command.")
    return Wish(
        fqans=tuple(fqans),
        roles=tuple(roles),
        everything="A" in commands,
        order=_read_order(_element(text, "order")),
        lifetime_seconds=_seconds(_element(text, "lifetime")),
        targets=_split(_element(text, "targets")),
    )


def write_rest(answer: Answer) -> bytes:
    """Return the HTTP response."""
    error = answer.error
    if error is not None:
        status = _STATUS.get(error.name, HTTPStatus.INTERNAL_SERVER_ERROR)
        inside = f"<error><code>{error.name}</code><message>{escape(error.message)}</message></error>"
    else:
        status = HTTPStatus.OK
        inside = f"<ac>{_base64(answer.certificate)}</ac>"
        inside += "".join(f"<warning>{escape(remark.message)}</warning>" for remark in answer.remarks)
    body = f'<?xml version="1.0" encoding="UTF-8"?><voms>{inside}</voms>'.encode()
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: text/xml; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return ("\r\n".join(head) + "\r\n\r\n").encode("ascii") + body


def write_legacy(answer: Answer) -> bytes:
    """Return the answer of the legacy protocol; without a certificate there is a dummy in its place."""
    parts = ['<?xml version="1.0" encoding = "US-ASCII"?><vomsans><version>3</version>']
    if answer.remarks:
        items = (
            f"<item><number>{remark.number}</number><message>{escape(remark.message)}</message></item>"
            for remark in answer.remarks
        )
        parts.append(f"<error>{''.join(items)}</error>")
    parts.append(f"<ac>{_base64(answer.certificate or _DUMMY)}</ac>")
    if answer.listing:
        parts.append(f"<bitstr>{_base64(chr(10).join(answer.listing).encode())}</bitstr>")
    return ("".join(parts) + "</vomsans>").encode("ascii", errors="xmlcharrefreplace")


def _base64(content: bytes) -> str:
    """Encode in lines: without a newline libvomsapi takes it for an alphabet of its own."""
    return base64.encodebytes(content).decode("ascii")


def _element(text: str, name: str) -> str:
    match = re.search(f"<{name}>([^<]*)</{name}>", text)
    return match[1].strip() if match else ""


def _read_order(text: str) -> tuple[str, ...]:
    return tuple(normalise(part.replace(":", "/Role=")) for part in _split(text))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _seconds(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
