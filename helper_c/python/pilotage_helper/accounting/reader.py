"""From audit files to accounting records, line by line.

Held in memory are the runs without an END so far and the ids of those that have one, nothing else.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper.accounting.record import Line, Record, finished, unfinished

LINE_MAX = 64 * 1024
"""Far above what the helper writes (4096 bytes); what is longer is damage, and is passed over in pieces."""
GZIP = b"\x1f\x8b"
BROKEN_MAX = 10
ID_CHARS = frozenset("0123456789abcdef")
FIRST = datetime(1970, 1, 1, tzinfo=UTC)

_line: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Tally:
    """What was seen besides the records."""

    def __init__(self) -> None:
        self.lines = 0
        self.records = 0
        self.duplicates = 0
        self.unreadable = 0
        self.broken: list[str] = []
        """Where the first unreadable lines are, and what is wrong with them."""

    def note(self, place: str, wrong: str) -> None:
        """Count a line that cannot be read, and keep the place of the first ones."""
        self.unreadable += 1
        if len(self.broken) < BROKEN_MAX:
            self.broken.append(f"{place}: {wrong}")


class Reader:
    """The records of several audit files of one node: the living one and rotated ones, plain or gzip, in any order."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.tally = Tally()
        # Rotated names say nothing about order; the first line does. Equal ones stay as they were given.
        self._paths = sorted(paths, key=_first_time)
        self._open: dict[str, Line] = {}
        self._ended: set[bytes] = set()
        self._lost: set[str] = set()

    def records(self) -> Iterator[Record]:
        """Yield one record for each run that has an END, in the order of the ENDs.

        Raises AUDIT_FILE_UNUSABLE for a file that cannot be read to its end.
        """
        for path in self._paths:
            for line in self._lines(path):
                if line.event == "START":
                    self._begin(line)
                elif line.event == "END":
                    yield from self._end(line)
                elif line.event == "CLEANUP" and line.run_id in self._open:
                    self._lost.add(line.run_id)

    def unfinished(self) -> Iterator[Record]:
        """Yield the runs of which no END was found; only when `records` is exhausted is that known."""
        for run_id, start in self._open.items():
            yield unfinished(start, lost=run_id in self._lost)

    def _lines(self, path: Path) -> Iterator[Line]:
        number = 0
        with _opened(path) as file:
            for whole, text in _raw_lines(file, path):
                number += 1
                self.tally.lines += 1
                if not text.strip():
                    continue
                try:
                    line = _line.decode(text)
                    if line.event in ("START", "END") and not is_run_id(line.run_id):
                        raise msgspec.ValidationError("no run id")
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    # The newest file's last line may just be being written; it is for the next export.
                    if whole or path != self._paths[-1]:
                        self.tally.note(f"{path}:{number}", str(error))
                    continue
                yield line

    def _begin(self, line: Line) -> None:
        if line.run_id in self._open or bytes.fromhex(line.run_id) in self._ended:
            self.tally.duplicates += 1
        else:
            self._open[line.run_id] = line

    def _end(self, line: Line) -> Iterator[Record]:
        short = bytes.fromhex(line.run_id)
        if short in self._ended:
            self.tally.duplicates += 1
            return
        self._ended.add(short)
        self._lost.discard(line.run_id)
        self.tally.records += 1
        yield finished(line, self._open.pop(line.run_id, None))


def is_run_id(text: str) -> bool:
    """Tell whether a text is 128 bits in hex, as the helper writes them."""
    return len(text) == 32 and ID_CHARS.issuperset(text)


def _unusable(path: Path, why: object) -> Exception:
    return refuse(Reason.AUDIT_FILE_UNUSABLE, f"{path}: {why}")


def _opened(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unusable(path, error.strerror) from error
    try:
        # A file of zeros and ones for gzip begins so; a line of JSON never does.
        packed = file.peek(len(GZIP))[: len(GZIP)] == GZIP
    except OSError as error:
        file.close()
        raise _unusable(path, error.strerror) from error
    return cast("BinaryIO", gzip.open(file, "rb")) if packed else file


def _raw_lines(file: BinaryIO, path: Path) -> Iterator[tuple[bool, bytes]]:
    """Yield each line, and whether it is whole."""
    try:
        while text := file.readline(LINE_MAX):
            if len(text) == LINE_MAX and not text.endswith(b"\n"):
                while (rest := file.readline(LINE_MAX)) and not rest.endswith(b"\n"):
                    pass
                yield True, b"damage"
            else:
                yield text.endswith(b"\n"), text
    except (OSError, EOFError, zlib.error) as error:
        raise _unusable(path, error) from error


def _first_time(path: Path) -> datetime:
    with _opened(path) as file:
        for _, text in _raw_lines(file, path):
            try:
                return _line.decode(text).time
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return FIRST
