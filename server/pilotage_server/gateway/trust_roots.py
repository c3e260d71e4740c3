"""The authorities' files, for clients that ask for them: what is public in the CA directory."""

import asyncio
import base64
import re
import time
from pathlib import Path

from pilotage.myproxy.messages import format_ok

KEEP_SECONDS = 60.0
MOST_BYTES = 8 * 1024 * 1024
NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\.([0-9]|r[0-9]|signing_policy|namespaces|crl_url|info|pem)", re.ASCII)


class TrustRoots:
    """The answer that carries the CA directory, made once a minute however many ask."""

    def __init__(self, ca_dir: Path, *, given: bool) -> None:
        self.given = given
        self._ca_dir = ca_dir
        self._turn = asyncio.Lock()
        self._made = -KEEP_SECONDS
        self._answer = b""

    async def answer(self) -> bytes:
        """Return an OK with the files."""
        async with self._turn:
            if time.monotonic() - self._made >= KEEP_SECONDS:
                self._answer = await asyncio.to_thread(_read, self._ca_dir)
                self._made = time.monotonic()
            return self._answer


def _read(ca_dir: Path) -> bytes:
    """Make the answer; links are followed, files of other kinds and what is too much left out."""
    fields: list[tuple[str, str]] = []
    left = MOST_BYTES
    for path in sorted(ca_dir.iterdir()):
        if NAME.fullmatch(path.name) and path.is_file() and path.stat().st_size <= left:
            content = path.read_bytes()
            left -= len(content)
            fields.append((f"FILEDATA_{path.name}", base64.b64encode(content).decode("ascii")))
    names = ",".join(name.removeprefix("FILEDATA_") for name, _ in fields)
    return format_ok([("TRUSTED_CERTS", names), *fields] if fields else [])
