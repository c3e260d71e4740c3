"""Ask the helper's own code which local account a verified identity would get."""

import os
import pwd
from typing import TYPE_CHECKING

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper import native
from pilotage_helper._native import ffi, lib
from pilotage_helper.site import Caller, Site
from pilotage_helper.verify import Identity

if TYPE_CHECKING:
    from pilotage_helper._native import CMapConfig, CMapRequest, Pointer


class MapOptions(msgspec.Struct, frozen=True):
    """One question: `[map]` of which configuration, and what besides the identity decides.

    `lease` really leases an account of a pool; without it nothing is changed. `account` is verify mode: any other
    account is refused. `command` is looked up among the permitted ones, when it is given. `at` is Unix seconds.
    """

    site: Site
    caller: Caller | None = None
    lease: bool = False
    account: str = ""
    command: str = ""
    at: int | None = None


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
    site = options.site
    detail = native.detail()
    config = ffi.new("struct pil_map_config *")
    request = ffi.new("struct pil_map_request *")
    record = ffi.new("struct pil_map_record *")
    broken = _load(site, config, detail)
    if lib.pil_map_request_init(request):
        raise refuse(Reason.HELPER_SYSTEM, "there are no random bytes")
    _fill_bounds(request, options)
    _fill(request.who.dn, identity.dn, lib.PIL_DN_SIZE)
    _fill(request.who.vo, identity.vo, lib.PIL_NAME_SIZE)
    if len(identity.fqans) > lib.PIL_FQAN_MAX:
        raise refuse(Reason.NO_MAPPING, "the identity has more attributes than a verified one can have")
    for field, fqan in zip(request.who.fqan, identity.fqans, strict=False):
        _fill(field, fqan, lib.PIL_NAME_SIZE)
    request.who.fqan_count = len(identity.fqans)
    if options.caller is not None:
        site.check_owner(options.caller, ffi.addressof(request, "who"))
    if lib.pil_map_answer(config, broken, detail, request, record):
        raise refuse(Reason.NO_MAPPING, "the request is not one that the helper would make")
    native.check(record.reason, record.map.detail)
    native.check(lib.pil_map_record_check(record, ffi.sizeof(record[0]), request), "the mapper's answer is not sound")
    return Mapping(
        account=native.string(record.map.account),
        home=native.string(record.map.home),
        uid=record.map.uid,
        gid=record.map.gid,
        groups=tuple(record.map.groups[i] for i in range(record.map.ngroups)),
        lease=native.string(record.map.lease),
    )


def check_map_section(site: Site) -> None:
    """Read `[map]` alone; raise what is wrong with it."""
    detail = native.detail()
    native.check(_load(site, ffi.new("struct pil_map_config *"), detail), detail)


def check_maps(site: Site) -> None:
    """Read `[map]` and every file that it names; raise what is wrong with it, all broken lines of a file at once."""
    detail = native.detail()
    config = ffi.new("struct pil_map_config *")
    native.check(_load(site, config, detail), detail)
    native.check(lib.pil_map_check_files(config, detail), detail)


def same_dn(left: str, right: str) -> bool:
    """Compare slash-form DNs attribute by attribute, old spellings of types included."""
    return bool(lib.pil_dn_equal(left.encode(), right.encode()))


def _load(site: Site, config: "CMapConfig", detail: "Pointer") -> int:
    return lib.pil_map_config_load(config, native.text(os.fsencode(site.path)), site.any_owner, detail)


def _fill_bounds(request: "CMapRequest", options: MapOptions) -> None:
    site, caller = options.site, options.caller
    request.flags = 0 if options.lease else lib.PIL_M_DRY_RUN
    request.min_uid, request.min_gid = site.min_uid, site.min_gid
    if options.at is not None:
        request.at = options.at
    if entry := _account(site.verify_user):
        request.verifier_uid, request.verifier_gid = entry.pw_uid, entry.pw_gid
    if caller is not None:
        _fill(request.accounts, caller.accounts, 2048)
        if entry := _account(caller.name):
            request.caller, request.caller_gid = entry.pw_uid, entry.pw_gid
        elif caller.name.isdigit():
            request.caller = int(caller.name)
    _fill(request.expect, options.account, 64)
    _fill(request.command, options.command, 4096)


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _fill(field: object, text: str, size: int) -> None:
    data = text.encode("utf-8", "surrogateescape")
    if len(data) >= size or b"\0" in data:
        raise refuse(Reason.NO_MAPPING, "a name of the identity or the bounds is longer than the helper takes")
    ffi.memmove(field, data, len(data))
