"""The helper's configuration, read by the code that the setuid program reads it with."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper import native
from pilotage_helper._native import ffi, lib
from pilotage_helper.verify import VerifyOptions

if TYPE_CHECKING:
    from pilotage_helper._native import CConfig, Pointer


class Caller(msgspec.Struct, frozen=True):
    """One `[caller NAME]`: who may call, and the accounts that its payloads may become."""

    name: str
    accounts: str


class Demands(msgspec.Struct, frozen=True):
    """What the configuration wants of the machine; 0 is no bound."""

    cgroup: str = "auto"
    namespaces: str = "off"
    memory_bytes: int = 0
    pids: int = 0
    cpu_percent: int = 0
    cgroup_parent: str = ""
    audit_file: Path | None = None


class Site(msgspec.Struct, frozen=True):
    """`helper.conf` without its `[map]`; `any_owner` lets files be anybody's, to try them out."""

    path: Path
    any_owner: bool
    ca_dir: Path
    voms_dir: Path | None
    verify_user: str
    min_uid: int
    min_gid: int
    skew_seconds: int
    require_crl: bool
    refuse_limited: bool
    callers: tuple[Caller, ...]
    log_only: bool = False
    demands: Demands = Demands()
    max_proxy_seconds: int = 0
    max_voms_seconds: int = 0
    accept_old: bool = False
    no_new_privs: bool = True

    def verify_options(self, ca_dir: Path | None = None, voms_dir: Path | None = None) -> VerifyOptions:
        """Return what the setuid program asks of a proxy, perhaps against other directories."""
        return VerifyOptions(
            ca_dir or self.ca_dir,
            voms_dir or self.voms_dir,
            self.skew_seconds,
            self.require_crl,
            require_key=True,
            require_proxy=True,
            refuse_limited=self.refuse_limited,
            max_proxy_seconds=self.max_proxy_seconds,
            max_voms_seconds=self.max_voms_seconds,
            accept_old=self.accept_old,
            host=os.uname().nodename,
        )

    def caller(self, name: str | None) -> Caller | None:
        """Return the named caller; without a name the only one, or None when there is none at all."""
        if name is None and len(self.callers) <= 1:
            return self.callers[0] if self.callers else None
        for caller in self.callers:
            if caller.name == name:
                return caller
        names = ", ".join(caller.name for caller in self.callers)
        raise refuse(Reason.CALLER_NOT_ALLOWED, f"choose one of the callers of {self.path}: {names}")

    def check_owner(self, caller: Caller, who: "Pointer") -> None:
        """Ask the caller's bounds of VO and group, as the setuid program does before it maps."""
        config = _read(self.path, any_owner=self.any_owner)
        detail = native.detail()
        for i in range(config.ncallers):
            if native.string(config.callers[i].name) == caller.name:
                native.check(lib.bounds_owner(config.callers + i, who, detail), detail)


def read_site(path: Path, *, any_owner: bool) -> Site:
    """Read a configuration; an unknown key, section or value is refused as the setuid program refuses it."""
    config = _read(path, any_owner=any_owner)
    return Site(
        path=path,
        any_owner=any_owner,
        ca_dir=Path(native.string(config.ca_dir)),
        voms_dir=Path(native.string(config.voms_dir)) if config.voms_dir != ffi.NULL else None,
        verify_user=native.string(config.verify_user),
        min_uid=config.min_uid,
        min_gid=config.min_gid,
        skew_seconds=config.clock_skew,
        require_crl=bool(config.require_crl),
        refuse_limited=bool(config.refuse_limited),
        max_proxy_seconds=config.max_proxy_life,
        max_voms_seconds=config.max_voms_life,
        accept_old=bool(config.accept_old),
        no_new_privs=bool(config.no_new_privs),
        callers=tuple(
            Caller(native.string(config.callers[i].name), native.string(config.callers[i].accounts))
            for i in range(config.ncallers)
        ),
        log_only=bool(config.log_only),
        demands=Demands(
            cgroup=("auto", "required", "off")[config.cgroup],
            namespaces=("off", "auto", "required")[config.namespaces],
            memory_bytes=config.bounds[1],
            pids=config.bounds[2],
            cpu_percent=config.bounds[3],
            cgroup_parent=native.string(config.cgroup_parent) if config.cgroup_parent != ffi.NULL else "",
            audit_file=Path(native.string(config.audit_file)) if config.audit_file != ffi.NULL else None,
        ),
    )


def _read(path: Path, *, any_owner: bool) -> "CConfig":
    detail = native.detail()
    config = ffi.new("struct config *")
    native.check(lib.config_load(config, native.text(os.fsencode(path)), any_owner, detail), detail)
    return config
