"""The CA directory: whom this machine trusts to sign host certificates.

gRPC takes one PEM text of roots, so the directory's anchors are put together. Whether a chain of a
*caller* is genuine (CRLs, signing policies, proxies) is the C verifier's affair, not this module's.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from pilotage.errors import refuse
from pilotage.reasons import Reason

SYSTEM_CA_DIR = Path("/etc/grid-security/certificates")
_ANCHOR = re.compile(r"[0-9a-f]{8}\.\d+|.+\.pem", re.ASCII)


def find_ca_dir(environ: Mapping[str, str]) -> Path:
    """Return the CA directory in the order of grid tools: X509_CERT_DIR, ~/.globus, /etc/grid-security."""
    if named := environ.get("X509_CERT_DIR"):
        return Path(named)
    if home := environ.get("HOME"):
        own = Path(home) / ".globus" / "certificates"
        if own.is_dir():
            return own
    return SYSTEM_CA_DIR


def anchor_files(ca_dir: Path) -> list[Path]:
    """Return the files of a CA directory that hold trust anchors, sorted; raise OSError where it cannot be read."""
    return sorted(entry for entry in ca_dir.iterdir() if _ANCHOR.fullmatch(entry.name))


def ca_bundle(ca_dir: Path) -> bytes:
    """Return every trust anchor of a CA directory as one PEM text.

    Anchors are the hashed files (`0a1b2c3d.0`) and `*.pem`. One unreadable file does not take the
    others' trust away; a directory without any anchor is refused.
    """
    try:
        names = anchor_files(ca_dir)
    except OSError as error:
        raise refuse(
            Reason.CA_DIRECTORY_UNUSABLE,
            f"The CA directory {ca_dir} cannot be read ({error.strerror}); set X509_CERT_DIR or give --certificates.",
        ) from error
    anchors: dict[bytes, None] = {}
    for path in names:
        try:
            for certificate in x509.load_pem_x509_certificates(path.read_bytes()):
                anchors[certificate.public_bytes(serialization.Encoding.PEM)] = None
        except (OSError, ValueError, UnsupportedAlgorithm):
            continue
    if not anchors:
        raise refuse(
            Reason.CA_DIRECTORY_UNUSABLE,
            f"The CA directory {ca_dir} holds no trust anchor (<hash>.0 or .pem); "
            "set X509_CERT_DIR or give --certificates.",
        )
    return b"".join(anchors)
