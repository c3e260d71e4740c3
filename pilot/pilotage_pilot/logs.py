"""The pilot's own log, in the format that PanDA's operators read: `time | level | name | function | text`.

Times are UTC. Nothing secret is ever passed to a logger: tokens and keys are `Secret`, which has no text form.
"""

import logging
import sys
import time
from pathlib import Path

FORMAT = "%(asctime)s.%(msecs)03d | %(levelname)-8s | %(name)-24s | %(funcName)-20s | %(message)s"


class OneLine(logging.Formatter):
    """Format a record as one line, whatever a peer put into it."""

    @staticmethod
    def converter(seconds: float | None) -> time.struct_time:
        """Return the time in UTC."""
        return time.gmtime(seconds)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with control characters made visible."""
        text = super().format(record)
        return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text.replace("\n", " \\ "))


def start_logging(file: Path | None) -> None:
    """Log to standard error, and to a 0600 file when there is one."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        file.touch(mode=0o600, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    formatter = OneLine(FORMAT, datefmt="%Y-%m-%d %H:%M:%S")
    root = logging.getLogger()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(logging.INFO)
