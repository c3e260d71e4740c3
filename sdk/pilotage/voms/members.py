"""Who is in the development authority's VO, and what each request of theirs is given.

The rules are voms-server's: every group comes unasked, a role only when asked for, and a request for
something one does not have is refused as a whole; what was asked for comes first, in the order asked
for; then the other groups, sorted.
"""

import ipaddress
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.fqans import check_vo, normalise_all
from pilotage.voms.issue import FqanForm, HolderForm
from pilotage.voms.requests import legacy_command

LARGEST_CONFIG_BYTES = 1024 * 1024


class AuthorityConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The TOML file of the development authority.

    `host` and `port` go into the attributes: verifiers look for `vomsdir/<vo>/<host>.lsc`. A port of 0
    stands for the one listened on. `members` maps subjects to FQANs, `suspended` to a reason.
    `leave_out` makes it grant what there is of a request, with a warning, instead of refusing it.
    """

    vo: str
    certificate: Path
    key: Path
    ca_dir: Path
    host: str
    port: int = 0
    listen: str = "127.0.0.1:15000"
    holder: HolderForm = HolderForm.SUBJECT
    fqans: FqanForm = FqanForm.LONG
    max_lifetime_seconds: int = 43200
    leave_out: bool = False
    protocols: tuple[Literal["rest", "legacy"], ...] = ("rest", "legacy")
    members: dict[str, tuple[str, ...]] = {}
    suspended: dict[str, str] = {}
    generic: dict[str, str] = {}


class Wish(msgspec.Struct, frozen=True):
    """One request as both protocols say it; `everything` asks for every role as well."""

    fqans: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    everything: bool = False
    order: tuple[str, ...] = ()
    lifetime_seconds: int = 0
    targets: tuple[str, ...] = ()
    unknown: bool = False


class Remark(msgspec.Struct, frozen=True):
    """A numbered warning or error of the legacy protocol, and its name in REST."""

    number: int
    message: str
    name: str = ""


class Denied(Exception):
    """The request is refused with one remark."""

    def __init__(self, remark: Remark) -> None:
        super().__init__(remark.message)
        self.remark = remark


class Decision(msgspec.Struct, frozen=True):
    """What a member gets."""

    fqans: tuple[str, ...]
    lifetime_seconds: int
    remarks: tuple[Remark, ...]


def load_config(path: Path) -> AuthorityConfig:
    """Read and check the TOML file, or raise CONFIG_INVALID."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_CONFIG_BYTES)
        config = msgspec.convert(tomllib.loads(content.decode("utf-8")), AuthorityConfig, dec_hook=_to_path)
    except OSError as error:
        raise refuse(Reason.CONFIG_INVALID, f"{path} cannot be read ({error.strerror}).") from error
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise refuse(Reason.CONFIG_INVALID, f"{path}: {error}") from error
    return check_config(config)


def _to_path(kind: type, value: object) -> object:
    """Make the one type that TOML and msgspec do not know."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"no value of a configuration is a {kind.__name__}")


def check_config(config: AuthorityConfig) -> AuthorityConfig:
    """Return a usable configuration with short FQANs, or raise CONFIG_INVALID."""
    try:
        check_vo(config.vo)
        members = {dn: normalise_all(fqans, config.vo) for dn, fqans in config.members.items()}
    except PilotageError as error:
        raise refuse(Reason.CONFIG_INVALID, error.message) from error
    listen_address(config)
    if config.max_lifetime_seconds < 1 or not config.protocols:
        raise refuse(Reason.CONFIG_INVALID, "max_lifetime_seconds and protocols must not be empty.")
    return msgspec.structs.replace(config, members=members)


def listen_address(config: AuthorityConfig) -> tuple[str, int]:
    """Return address and port; anything but loopback is refused, as this is a tool for development."""
    host, _, port = config.listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError as error:
        raise refuse(Reason.CONFIG_INVALID, f"listen = {config.listen!r} is not an address and a port.") from error
    if not address.is_loopback:
        raise refuse(
            Reason.CONFIG_INVALID, f"{address} is not a loopback address; the development authority serves one machine."
        )
    return str(address), number


def decide(config: AuthorityConfig, dn: str, wish: Wish) -> Decision:
    """Return what a subject gets, or raise Denied."""
    if dn in config.suspended:
        raise Denied(Remark(1004, f"User {dn} is currently suspended! Reason: {config.suspended[dn]}", "SuspendedUser"))
    if dn not in config.members:
        raise Denied(Remark(1001, f"User unknown to this VO: {dn}", "NoSuchUser"))
    held = config.members[dn]
    asked = held if wish.everything else wish.fqans + tuple(f for f in held if _role(f) in wish.roles)
    granted = [fqan for fqan in asked if fqan in held]
    missing = [fqan for fqan in asked if fqan not in held]
    if missing and not (config.leave_out and granted):
        raise Denied(
            Remark(1001, f"{config.vo}: Unable to satisfy {legacy_command(missing[0])} request!", "BadRequest")
        )
    groups = sorted(fqan for fqan in held if not _role(fqan))
    first = [fqan for fqan in wish.order if fqan in granted]
    fqans = tuple(dict.fromkeys([*first, *granted, *groups]))
    if not fqans:
        raise Denied(Remark(1002, f"{config.vo}: User {dn} has no attributes.", "BadRequest"))
    lifetime = wish.lifetime_seconds if wish.lifetime_seconds > 0 else config.max_lifetime_seconds
    return Decision(
        fqans=fqans,
        lifetime_seconds=min(lifetime, config.max_lifetime_seconds),
        remarks=tuple(_remarks(config, wish, asked, fqans, lifetime)),
    )


def _remarks(
    config: AuthorityConfig, wish: Wish, asked: Sequence[str], fqans: Sequence[str], lifetime: int
) -> list[Remark]:
    remarks = []
    if wish.order and fqans[0] != wish.order[0]:
        remarks.append(Remark(1, "The attribute order could not be the one requested by the user."))
    if lifetime > config.max_lifetime_seconds:
        remarks.append(
            Remark(
                2, f"The validity of this VOMS AC in your proxy is shortened to {config.max_lifetime_seconds} seconds!"
            )
        )
    if any(fqan not in fqans for fqan in asked):
        remarks.append(Remark(3, "The returned AC contains attributes that are a subset of the requested ones."))
    if wish.unknown:
        remarks.append(Remark(4, "Unknown parameters in the request were ignored!"))
    return remarks


def _role(fqan: str) -> str:
    return fqan.partition("/Role=")[2]
