"""The anchor of the audit chain: its end, signed, in a file outside the database.

Whoever can write the database can cut the chain's tail off, or compute another chain from the start. Neither agrees
with the anchor, which only the service's key can sign. The lines of the audit log name each row, too.
"""

import datetime
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.store.audit import Head

PURPOSE = b"pilotage audit anchor v1\0"
FILE = "audit.anchor"
LARGEST = 4096


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end of the chain at some time; digest and signature are hex."""

    seq: int
    digest: str
    time: str
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """Return what the signature is over."""
        return PURPOSE + msgspec.msgpack.encode((self.seq, self.digest, self.time))


class AnchorFile:
    """Write the anchor, whole or not at all; read one that somebody else may have written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, head: Head, key: Ed25519PrivateKey, now: datetime.datetime) -> None:
        """Sign the end of the chain and put it in the place of the last one; raise OSError when that fails."""
        bare = Anchor(head.seq, head.digest.hex(), now.isoformat())
        signed = msgspec.structs.replace(bare, signature=key.sign(bare.signed_bytes()).hex())
        partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(msgspec.json.encode(signed) + b"\n")
                file.flush()
                os.fsync(descriptor)
            partial.replace(self.path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, keys: Sequence[Ed25519PublicKey]) -> Head | None:
        """Return what a genuine anchor says; None when there is none, AUDIT_BROKEN for one that is not ours."""
        try:
            with self.path.open("rb") as file:
                anchor = msgspec.json.decode(file.read(LARGEST), type=Anchor)
            digest, signature = bytes.fromhex(anchor.digest), bytes.fromhex(anchor.signature)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise refuse(Reason.AUDIT_BROKEN, f"The anchor {self.path} cannot be read.") from error
        if not any(_signed(key, signature, anchor.signed_bytes()) for key in keys):
            raise refuse(Reason.AUDIT_BROKEN, f"The anchor {self.path} was not signed by this service.")
        return Head(anchor.seq, digest)


def _signed(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
