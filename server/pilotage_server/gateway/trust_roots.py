"""The authorities' files, for clients that ask for them: what is public in the CA directory."""

import base64
import re
from pathlib import Path

MOST_BYTES = 16 * 1024 * 1024
NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\.([0-9]|r[0-9]|signing_policy|namespaces|crl_url|info|pem)", re.ASCII)


def trust_roots(ca_dir: Path) -> list[tuple[str, str]]:
    """Return the fields of an answer that carries the CA directory; links are followed, other files left out."""
    fields: list[tuple[str, str]] = []
    left = MOST_BYTES
    for path in sorted(ca_dir.iterdir()):
        if not NAME.fullmatch(path.name) or not path.is_file():
            continue
        content = path.read_bytes()
        left -= len(content)
        if left < 0:
            break
        fields.append((f"FILEDATA_{path.name}", base64.b64encode(content).decode("ascii")))
    names = ",".join(name.removeprefix("FILEDATA_") for name, _ in fields)
    return [("TRUSTED_CERTS", names), *fields] if fields else []
