"""Ask the helper's own code which local account an identity would get, leasing nothing."""

from pathlib import Path

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper._native import ffi, lib
from pilotage_helper.verify import Identity

NOBODY = 2**32 - 1


class MapOptions(msgspec.Struct, frozen=True):
    """The site's map files, as `helper.conf` names them.

    `caller` is the uid that is never mapped to. `trust_any_owner` is for trying files that root does not own.
    """

    grid_mapfile: Path
    gridmapdir: Path | None = None
    ban_file: Path | None = None
    min_uid: int = 1000
    min_gid: int = 1000
    caller: int | None = None
    trust_any_owner: bool = False


class Mapping(msgspec.Struct, frozen=True):
    """The account a payload would run as; `lease` is the gridmapdir entry, empty for a named account."""

    account: str
    home: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    lease: str


def map_identity(identity: Identity, options: MapOptions) -> Mapping:
    """Map a verified identity; raise the helper's refusal with its reason."""
    paths = (options.grid_mapfile, options.gridmapdir, options.ban_file)
    strings = [ffi.NULL if path is None else ffi.new("char[]", bytes(path)) for path in paths]
    asked = ffi.new("struct pil_map_options *")
    asked.grid_mapfile, asked.gridmapdir, asked.ban_file = strings
    asked.min_uid = options.min_uid
    asked.min_gid = options.min_gid
    asked.caller = NOBODY if options.caller is None else options.caller
    asked.dry_run = 1
    asked.trust_any_owner = options.trust_any_owner
    who = ffi.new("struct pil_identity *")
    _fill(who.dn, identity.dn, lib.PIL_DN_SIZE)
    _fill(who.vo, identity.vo, lib.PIL_NAME_SIZE)
    if len(identity.fqans) > lib.PIL_FQAN_MAX:
        raise refuse(Reason.NO_MAPPING, "the identity has more attributes than a verified one can have")
    for field, fqan in zip(who.fqan, identity.fqans, strict=False):
        _fill(field, fqan, lib.PIL_NAME_SIZE)
    who.fqan_count = len(identity.fqans)
    mapping = ffi.new("struct pil_mapping *")
    number = lib.pil_map(asked, who, mapping)
    if number:
        raise refuse(Reason(number), ffi.string(mapping.detail).decode("ascii", "replace"))
    return Mapping(
        account=ffi.string(mapping.account).decode("ascii"),
        home=ffi.string(mapping.home).decode(errors="surrogateescape"),
        uid=mapping.uid,
        gid=mapping.gid,
        groups=tuple(mapping.groups[i] for i in range(mapping.ngroups)),
        lease=ffi.string(mapping.lease).decode("ascii"),
    )


def same_dn(left: str, right: str) -> bool:
    """Compare slash-form DNs attribute by attribute, old spellings of types included."""
    return bool(lib.pil_dn_equal(left.encode(), right.encode()))


def _fill(field: object, text: str, size: int) -> None:
    data = text.encode("ascii")
    if len(data) >= size or b"\0" in data:
        raise refuse(Reason.NO_MAPPING, "a name of the identity is longer than a verified one can be")
    ffi.memmove(field, data, len(data))
