"""What a VOMS server answers: three dialects of errors, warnings, and the attribute certificate.

voms-server's REST interface, INDIGO IAM and the legacy protocol each say errors in their own way,
and none escapes its messages as XML wants. So this is no XML parser: it knows the few elements there
are, takes the text of a message as it stands up to the end tag, and refuses everything else, DTDs,
entities, comments and attributes included. The HTTP status means nothing and is not looked at.
"""

import base64
import binascii
import re

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason

LARGEST_ANSWER_BYTES = 256 * 1024
FIRST_ERROR_NUMBER = 1000
LONGEST_MESSAGE = 300
MOST_ELEMENTS = 200

# Elements with elements in them; all others that may occur hold text.
_INSIDE = {
    "voms": {"ac", "bitstr", "warning", "error"},
    "vomsans": {"version", "ac", "bitstr", "warning", "error"},
    "error": {"item", "code", "message"},
    "item": {"number", "message"},
}
_PROLOGUE = re.compile(r"\s*(?:<\?xml[ \t][^<>?]{0,200}\?>)?\s*")
_TAG = re.compile(r"\s*<(/?)([a-z]{1,10})\s*(/?)>")
_SPACES = str.maketrans("", "", " \t\r\n")
_NAMED = {
    "NoSuchUser": Reason.VOMS_NOT_MEMBER,
    "SuspendedUser": Reason.VOMS_SUSPENDED,
    "BadRequest": Reason.VOMS_SERVER_REFUSED,
    "InternalError": Reason.VOMS_SERVER_FAILED,
}
_NUMBERED = {
    1001: Reason.VOMS_NOT_MEMBER,
    1003: Reason.VOMS_SERVER_FAILED,
    1004: Reason.VOMS_SUSPENDED,
    1006: Reason.VOMS_SERVER_FAILED,
}
# vomsd uses the number of "not a member" for a member without the wanted role, too.
_NOT_GRANTED = "unable to satisfy"


class Element(msgspec.Struct, frozen=True):
    """A known element with its text, or with the elements in it."""

    name: str
    text: str
    inside: tuple["Element", ...] = ()

    def all(self, name: str) -> list["Element"]:
        """Return the elements of a name that are directly in this one."""
        return [element for element in self.inside if element.name == name]

    def value(self, name: str) -> str:
        """Return the text of the first element of a name, or an empty one."""
        return next((element.text for element in self.all(name)), "")


class VomsAnswer(msgspec.Struct, frozen=True):
    """A granted request: the attribute certificate in DER, and what the server remarked."""

    certificate: bytes
    warnings: tuple[str, ...]


def parse_answer(body: bytes) -> VomsAnswer:
    """Return what was granted; raise the server's refusal, or VOMS_ANSWER_MALFORMED."""
    root = parse_elements(body)
    warnings = [_printable(element.text) for element in root.all("warning")]
    for error in root.all("error"):
        for item in error.all("item") or [error]:
            code = (item.value("number") or item.value("code")).strip()
            message = _printable(item.value("message"))
            if code.isascii() and code.isdigit() and len(code) < 10 and int(code) < FIRST_ERROR_NUMBER:
                warnings.append(message)
            else:
                # A dummy certificate comes with an error; it is not looked at.
                raise _refusal(code, message)
    held = root.all("ac")
    if len(held) != 1:
        raise _malformed("it holds no attribute certificate, or several")
    return VomsAnswer(certificate=_decode(held[0].text), warnings=tuple(warnings))


def parse_http(response: bytes) -> VomsAnswer:
    """Return what was granted by an HTTP response, going by its body alone."""
    head, separator, body = response.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"HTTP/1."):
        raise _malformed("it is not HTTP")
    if re.search(rb"\r\ntransfer-encoding[ \t]*:", head, re.IGNORECASE):
        raise _malformed("it is chunked, which HTTP/1.0 does not know")
    return parse_answer(body)


def parse_elements(body: bytes) -> Element:
    """Read the elements of an answer, or raise VOMS_ANSWER_MALFORMED."""
    if len(body) > LARGEST_ANSWER_BYTES:
        raise _malformed(f"it has more than {LARGEST_ANSWER_BYTES} bytes")
    return _Scanner(body.decode("utf-8", errors="replace")).root()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._elements = 0

    def root(self) -> Element:
        prologue = _PROLOGUE.match(self._text)
        assert prologue is not None
        self._position = prologue.end()
        closing, name, empty = self._tag()
        if closing or empty or name not in ("voms", "vomsans"):
            raise _malformed("it begins with neither <voms> nor <vomsans>")
        element = self._container(name)
        if self._text[self._position :].strip("\0 \t\r\n"):
            raise _malformed("something follows its end")
        return element

    def _container(self, name: str) -> Element:
        found: list[Element] = []
        while True:
            closing, inner, empty = self._tag()
            if closing:
                if inner != name or empty:
                    raise _malformed(f"<{name}> is ended by another element")
                return Element(name=name, text="", inside=tuple(found))
            self._elements += 1
            if inner not in _INSIDE[name] or self._elements > MOST_ELEMENTS:
                raise _malformed(f"<{inner}> does not belong into <{name}>, or there are too many")
            if empty:
                found.append(Element(name=inner, text=""))
            elif inner in _INSIDE:
                found.append(self._container(inner))
            else:
                found.append(self._leaf(inner))

    def _leaf(self, name: str) -> Element:
        end = self._text.find(f"</{name}>", self._position)
        if end < 0:
            raise _malformed(f"<{name}> has no end")
        text = self._text[self._position : end]
        self._position = end + len(name) + 3
        return Element(name=name, text=text)

    def _tag(self) -> tuple[bool, str, bool]:
        match = _TAG.match(self._text, self._position)
        if match is None:
            raise _malformed("it is cut off, or holds something else than the elements of VOMS")
        self._position = match.end()
        return bool(match[1]), match[2], bool(match[3])


def _refusal(code: str, message: str) -> PilotageError:
    said = message or "no message"
    if code.isascii() and code.isdigit():
        reason = _NUMBERED.get(int(code[:9]), Reason.VOMS_SERVER_REFUSED)
    else:
        reason = _NAMED.get(code, Reason.VOMS_SERVER_REFUSED)
    if reason is Reason.VOMS_NOT_MEMBER and _NOT_GRANTED in message.lower():
        reason = Reason.VOMS_SERVER_REFUSED
    return refuse(reason, f"The VOMS server says: {said} ({_printable(code) or 'no code'}).")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text.translate(_SPACES).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _malformed("its attribute certificate is not base64") from error


def _printable(text: str) -> str:
    """Make a server's text fit for logs and terminals: one line of bounded length."""
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in words)[:LONGEST_MESSAGE]


def _malformed(why: str) -> PilotageError:
    return refuse(Reason.VOMS_ANSWER_MALFORMED, f"The VOMS server's answer cannot be used: {why}.")
