"""The messages of MyProxy's protocol: requests and answers as text, certificates as counted DER.

A text message is lines `NAME=value`, each ended by a line feed, the whole by a NUL. MyProxy's own reader finds names
anywhere in a message; this one splits lines first, so that no value can pass for another field.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret

VERSION = "MYPROXYv2"
LARGEST_TEXT = 64 * 1024
LARGEST_VALUE = 4096
LONGEST_PASSPHRASE = 1024
LONGEST_LIFETIME = 2**31 - 1
MOST_LINES = 64
MOST_CERTIFICATES = 12
LARGEST_DER = 64 * 1024


class Command(enum.IntEnum):
    """What a client can ask for."""

    GET = 0
    PUT = 1
    INFO = 2
    DESTROY = 3
    CHANGE = 4
    STORE = 5
    RETRIEVE = 6
    TRUST_ROOTS = 7


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. A policy that is None was not given, which is something else than an empty one."""

    command: Command
    username: str = ""
    passphrase: Secret = Secret(b"")
    new_passphrase: Secret = Secret(b"")
    lifetime_seconds: int = 0
    name: str = ""
    description: str = ""
    retrievers: str | None = None
    renewers: str | None = None
    trusted_retrievers: str | None = None
    key_retrievers: str | None = None
    trust_roots: bool = False


TEXTS = {
    "USERNAME": "username",
    "CRED_NAME": "name",
    "CRED_DESC": "description",
    "RETRIEVER": "retrievers",
    "RENEWER": "renewers",
    "RETRIEVER_TRUSTED": "trusted_retrievers",
    "KEYRETRIEVERS": "key_retrievers",
}
SECRETS = {"PASSPHRASE": "passphrase", "NEW_PHRASE": "new_passphrase"}
REPEATED = ("VONAME", "VOMSES")


def parse_request(text: bytes) -> Request:
    """Read a request without its final NUL; raise MYPROXY_MALFORMED."""
    lines = _lines(text)
    version, command = lines.pop("VERSION", b""), lines.pop("COMMAND", b"")
    if version != VERSION.encode():
        raise malformed(f"Only {VERSION} is spoken here.")
    if command not in {str(one.value).encode() for one in Command}:
        raise malformed("The command is not one of MyProxy's.")
    request = Request(
        command=Command(int(command)),
        lifetime_seconds=_lifetime(lines.get("LIFETIME", b"0")),
        trust_roots=lines.get("TRUSTED_CERTS") == b"1",
    )
    texts = {field: _text(name, lines[name]) for name, field in TEXTS.items() if name in lines}
    secrets = {field: _secret(name, lines[name]) for name, field in SECRETS.items() if name in lines}
    return msgspec.structs.replace(request, **texts, **secrets)


def format_request(request: Request) -> bytes:
    """Write a request as the stock clients do, its final NUL included. Secret."""
    for value in (request.passphrase.reveal(), request.new_passphrase.reveal()):
        if b"\n" in value or b"\0" in value or len(value) > LONGEST_PASSPHRASE:
            raise refuse(
                Reason.INVALID_ARGUMENT, "MyProxy cannot carry this pass phrase: it is too long, or not a line."
            )
    lines = [
        f"VERSION={VERSION}".encode(),
        f"COMMAND={request.command.value}".encode(),
        b"USERNAME=" + _line_of("user name", request.username),
        b"PASSPHRASE=" + request.passphrase.reveal(),
    ]
    if request.command is Command.CHANGE:
        lines.append(b"NEW_PHRASE=" + request.new_passphrase.reveal())
    lines.append(f"LIFETIME={request.lifetime_seconds}".encode())
    if request.name:
        lines.append(b"CRED_NAME=" + _line_of("credential name", request.name))
    return b"\n".join(lines) + b"\n\0"


class Kind(enum.IntEnum):
    """What an answer says."""

    OK = 0
    ERROR = 1
    CHALLENGE = 2


class Answer(msgspec.Struct, frozen=True):
    """One answer; `challenges` are (method, data)."""

    kind: Kind
    errors: tuple[str, ...] = ()
    challenges: tuple[tuple[str, str], ...] = ()


def format_ok(fields: Iterable[tuple[str, str]] = ()) -> bytes:
    """Write an answer that all is well, with the fields that a command adds."""
    return _answer(Kind.OK, fields)


def format_error(reason: str, message: str) -> bytes:
    """Write a refusal: the stock clients print its lines as they are."""
    text = "".join(character if " " <= character <= "~" else "?" for character in f"{reason}: {message}")
    return _answer(Kind.ERROR, [("ERROR", text[:LARGEST_VALUE])])


def format_challenge(methods: Iterable[str], data: str) -> bytes:
    """Write an answer that asks for a proof."""
    return _answer(Kind.CHALLENGE, [("AUTHORIZATION_DATA", f"{method}:{data}") for method in methods])


def parse_answer(text: bytes) -> Answer:
    """Read a server's answer without its final NUL; raise MYPROXY_ANSWER_INVALID."""
    version, kind = "", ""
    errors: list[str] = []
    challenges: list[tuple[str, str]] = []
    for line in text.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition("=")
        if name == "VERSION":
            version = value
        elif name == "RESPONSE":
            kind = value
        elif name == "ERROR":
            errors.append(value)
        elif name == "AUTHORIZATION_DATA":
            method, _, data = value.partition(":")
            challenges.append((method, data))
        elif kind == "1" and line:
            # The real server breaks one error over several lines.
            errors.append(line)
    if version != VERSION or kind not in ("0", "1", "2"):
        raise refuse(Reason.MYPROXY_ANSWER_INVALID)
    return Answer(Kind(int(kind)), tuple(errors), tuple(challenges))


def format_chain(chain: Sequence[bytes]) -> bytes:
    """Write certificates, leaf first: their number in one byte, then DER."""
    return bytes([len(chain)]) + b"".join(chain)


def der_length(head: bytes) -> int | None:
    """Return how many bytes the DER value that begins so has in all, or None when more must be seen.

    Raises MYPROXY_MALFORMED for what is no SEQUENCE of a definite length up to 64 KiB in two length bytes.
    """
    if head[:1] not in (b"", b"\x30"):
        raise malformed("A certificate or request was awaited, in DER.")
    if len(head) < 2:
        return None
    if head[1] < 0x80:
        return 2 + head[1]
    count = head[1] & 0x7F
    if not 1 <= count <= 2:
        raise malformed("A certificate or request in DER is longer than any should be.")
    if len(head) < 2 + count:
        return None
    return 2 + count + int.from_bytes(head[2 : 2 + count], "big")


def malformed(why: str) -> PilotageError:
    """Return the error of a message that cannot be read."""
    return refuse(Reason.MYPROXY_MALFORMED, why)


def _answer(kind: Kind, fields: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"VERSION={VERSION}", f"RESPONSE={kind.value}", *(f"{name}={value}" for name, value in fields)]
    return "\n".join(lines).encode() + b"\n\0"


def _lines(text: bytes) -> dict[str, bytes]:
    """Return the fields of a message; of those that may repeat, the first."""
    found: dict[str, bytes] = {}
    lines = text.removesuffix(b"\n").split(b"\n")
    if len(lines) > MOST_LINES:
        raise malformed(f"A request has at most {MOST_LINES} lines.")
    for line in lines:
        name, separator, value = line.partition(b"=")
        known = name.decode("ascii", "replace")
        if not separator or len(value) > LARGEST_VALUE:
            raise malformed(f"A line of the request is not NAME=value of at most {LARGEST_VALUE} bytes.")
        if known in found and known not in REPEATED:
            raise malformed("A field of the request comes twice.")
        found.setdefault(known, value)
    return found


def _text(name: str, value: bytes) -> str:
    if not all(0x20 <= byte <= 0x7E for byte in value):
        raise malformed(f"{name} has characters other than printable ASCII.")
    return value.decode("ascii")


def _secret(name: str, value: bytes) -> Secret:
    if len(value) > LONGEST_PASSPHRASE:
        raise malformed(f"{name} has more than {LONGEST_PASSPHRASE} bytes.")
    return Secret(value)


def _lifetime(value: bytes) -> int:
    if not value.isdigit() or len(value) > 10 or int(value) > LONGEST_LIFETIME:
        raise malformed("LIFETIME is not a number of seconds.")
    return int(value)


def _line_of(what: str, value: str) -> bytes:
    if not value.isprintable() or not value.isascii():
        raise refuse(Reason.INVALID_ARGUMENT, f"MyProxy's {what} has printable ASCII characters only.")
    return value.encode()


def challenge_reply(method: int, signature: bytes, chain: Sequence[bytes]) -> bytes:
    """Write the answer to a challenge: the method in four bytes, a signature with its length, and who signed."""
    return method.to_bytes(1, "big") + bytes(3) + len(signature).to_bytes(4, "big") + signature + format_chain(chain)


METHODS: Mapping[str, int] = {"X509_certificate": 2, "X509_certificate_SHA256": 4}
"""Ways to prove an older proxy, by their names, and the numbers that choose them."""
