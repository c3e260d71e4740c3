"""Sandboxes: small tar.gz archives that carry a job's inputs in and its outputs out.

`pack` makes one so that the same files give the same bytes (sandboxes are named by their SHA-256).
`check_archive` reads somebody else's to the end without storing anything and refuses whatever could
hurt the one who unpacks; `unpack` applies the same rules while it writes.
"""

from pilotage.sandbox.packing import Packed, gather, pack, pack_members
from pilotage.sandbox.reading import Contents, Limits, check_archive, read_digest
from pilotage.sandbox.writing import unpack

__all__ = ["Contents", "Limits", "Packed", "check_archive", "gather", "pack", "pack_members", "read_digest", "unpack"]
