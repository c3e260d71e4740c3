"""Logs: one JSON object a line on standard output, UTC, and nothing secret in it.

The audit log (`audit.jsonl` in the state directory, append-only, 0600) holds one line for each login,
delegation, proxy, refusal and destruction; the same lines go to standard output as well.
"""

import contextlib
import datetime
import functools
import io
import json
import os
import sqlite3
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TextIO

import msgspec
import structlog

from pilotage.errors import PilotageError
from pilotage.secret import Secret

HIDDEN = "***"
SECRET_WORDS = ("token", "secret", "password", "retrieval_key", "private", "authorization", "challenge", "signature")
AUDIT = "pilotage.audit"
PLAIN = (str, int, float, bool, type(None))
"""Nearly all values are exactly these, and asking whether something is a Mapping is slow."""

ENCODER = msgspec.json.Encoder(enc_hook=repr)

Event = MutableMapping[str, object]


def clean(logger: object, level: str, event: Event) -> Event:
    """Hide secrets, by their type, by the name of their field, and bytes of any kind; say who speaks, how, and when.

    In one step, for each step of structlog's costs as much as a line.
    """
    cleaned: Event = {
        name: HIDDEN if _is_secret_name(name) else value if type(value) in PLAIN else _clean(value)
        for name, value in event.items()
    }
    cleaned["level"] = level
    cleaned["logger"] = getattr(logger, "name", "pilotage")
    cleaned["ts"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")[:26] + "Z"
    return cleaned


@functools.lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    lowered = name.lower()
    return any(word in lowered for word in SECRET_WORDS)


def _clean(value: object) -> object:
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(k): HIDDEN if _is_secret_name(str(k)) else _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    if isinstance(value, str | int | float | None):
        return value
    return type(value).__name__ if isinstance(value, Exception) else repr(value)


def fault(error: BaseException) -> list[str]:
    """Describe an unexpected exception by its type and the places it went through.

    Its text is told only where we know whose words it is: a foreign parser may quote what it was given.
    """
    lines: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(lines) < 60:
        text = f": {seen}" if isinstance(seen, PilotageError | OSError | sqlite3.Error) else ""
        lines.append(f"{type(seen).__module__}.{type(seen).__qualname__}{text}")
        lines += [f"  {f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(seen.__traceback__)[-20:]]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return lines


class NamedLogger(structlog.WriteLogger):
    """Write lines, and know the name it was asked for by: `structlog.get_logger("pilotage.rpc")`.

    A line that cannot be written, on a full disk perhaps, fails nothing that the line is about.
    """

    def __init__(self, file: TextIO, name: str = "pilotage") -> None:
        super().__init__(file)
        self.name = name

    def msg(self, message: str) -> None:
        """Write a line if that can be done."""
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class Json:
    """Make the last form of an event, a JSON object; a line of the audit goes into its own file as well."""

    def __init__(self, audit: TextIO | None = None) -> None:
        self._audit = audit

    def __call__(self, _logger: object, _name: str, event: Event) -> str:
        """Return the line, in ASCII: what else a name holds could play tricks on a terminal."""
        try:
            line = ENCODER.encode(event).decode("ascii")
        except UnicodeError:
            line = json.dumps(event, default=repr, separators=(",", ":"))
        if self._audit is not None and event.get("logger") == AUDIT:
            self._audit.write(f"{line}\n")
            self._audit.flush()
        return line


class AuditTee:
    """Pass every event on, and keep those of the audit logger in their own file as well."""

    def __init__(self, file: TextIO) -> None:
        self._keep = Json(file)

    def __call__(self, logger: object, name: str, event: Event) -> Event:
        """Write one line for an audit event."""
        if event.get("logger") == AUDIT:
            self._keep(logger, name, event)
        return event


class AuditFile(io.TextIOWrapper):
    """A log of which each line is one write, and a line that cannot be written fails nothing.

    The act that it tells of is in the audit chain by then; that lines are missing is said on standard error, once.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(io.BufferedWriter(io.FileIO(descriptor, "ab")), encoding="utf-8")
        self._cut = False
        self._missing = False

    def write(self, text: str) -> int:
        """Append a line if that can be done, below one that a full disk cut."""
        line = text.encode()
        try:
            rest = b"\n" + line if self._cut else line
            self._cut = os.write(self.fileno(), rest) < len(rest)
            self._missing = False
        except OSError as error:
            if not self._missing:
                print(f"pilotage-server: lines of the audit log are missing: {error.strerror}", file=sys.stderr)
            self._missing = True
        return len(text)


def open_audit(path: Path) -> TextIO:
    """Open the audit log for appending, closed to everybody else."""
    return AuditFile(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))


def configure(form: str, audit: TextIO | None = None, out: TextIO | None = None) -> None:
    """Set up structlog for this process: `json` for a journal, `text` for a person."""
    last: list[structlog.typing.Processor] = [Json(audit)]
    if form == "text":
        last = [*([AuditTee(audit)] if audit is not None else []), structlog.dev.ConsoleRenderer(colors=False)]
    structlog.configure(
        processors=[clean, *last],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=lambda *names: NamedLogger(out or sys.stdout, *names),
        cache_logger_on_first_use=False,
    )
