"""The pilot's configuration file: TOML, strict, one table.

    server = "pilotage.example.org:7643"
    ca_dir = "/etc/grid-security/certificates"
    proxy = "/var/lib/pilotage-pilot/proxy"     # the pilot's own, with its role; 0600
    site = "EXAMPLE"
    workdir = "/var/lib/pilotage-pilot/work"    # 0700, made if missing
    slots = 2

Everything else has a default. There is one way to run a payload: `switch = "required"`. Attributes are added to proxies
that have none where there is a table

    [voms]
    vo = "vo"
    fqans = ["/vo/Role=analysis"]

or several such, `[[voms]]`, one for each VO: the first is for jobs that do not say which attributes they want.
"""

import datetime
import socket
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.fqans import ADDS, vo_of
from pilotage.voms.requests import VomsRequest, make_request

LONGEST_VO = 64 - len(ADDS)

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]


class VomsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which attributes proxies get that come without any."""

    vo: Text
    fqans: tuple[str, ...] = ()
    """What is asked for, the primary one first; nothing asks for the groups of the VO."""
    vomses: Path = Path("/etc/vomses")
    """File or directory that names the VO's servers."""
    allow_subset: bool = False
    """Take fewer than these; else that is an error."""
    wait_seconds: Positive = 300
    """How long servers that are away are tried again."""

    def request(self, lifetime: datetime.timedelta) -> VomsRequest:
        """Return what is asked of the servers."""
        return make_request(self.vo, self.fqans, lifetime=lifetime, allow_subset=self.allow_subset)


class PilotConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a site says about its pilots. Sizes are for one slot; 0 means an even share of the node."""

    server: Text
    """`host:port` of the login port."""
    ca_dir: Path
    """Authorities, revocation lists and signing policies: for the server and for every proxy it sends."""
    proxy: Path
    workdir: Path
    site: Word
    audience: str = ""
    """What a login must be for; by default `pilotage://` and the server's host."""
    worker_node: str = ""
    voms_dir: Path | None = None
    """Known VOs, to check the attributes of the proxies that the server sends; without it the helper alone does."""
    voms: VomsConfig | tuple[VomsConfig, ...] = ()
    """Without it no attributes are added."""
    slots: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    cores: Natural = 0
    memory_bytes: Natural = 0
    disk_bytes: Natural = 0
    bound_memory: bool = True
    """Let the helper bound a job to the memory that it asks for. Without memory controllers on the node every such job
    is refused (CGROUP_FAILED); then say false, and nothing bounds it."""
    wall_seconds: Positive = 86_400
    """How long the slots are there, from the pilot's start on; it takes no job that may last longer."""
    tags: tuple[Word, ...] = ()
    switch: str = "required"
    helper: Path = Path("/usr/sbin/pilotage-exec")
    wrapper: Path = Path("/usr/libexec/pilotage/pilotage-wrapper.py")
    python: Path = Path("/usr/bin/python3")
    key_kind: str = "rsa"
    max_idle_seconds: Natural = 0
    """Leave after so long without a payload; 0 never."""
    max_jobs: Natural = 0
    """Leave after so many payloads; 0 never."""
    max_node_failures: Positive = 3
    """Leave when so many attempts in a row failed through this node's fault."""
    drain_seconds: Natural = 300
    """How long running payloads may go on after SIGTERM."""
    prepare_seconds: Positive = 600
    collect_seconds: Positive = 1800
    term_grace_seconds: Positive = 15
    """From TERM to KILL of the helper's front; longer than the helper's own grace."""
    max_input_bytes: Positive = 1 << 30
    max_output_bytes: Positive = 1 << 30
    max_unpacked_bytes: Positive = 8 << 30
    max_log_bytes: Positive = 16 << 20
    """Per stream of one payload; what is beyond is dropped and the log says so."""
    poll_seconds: Annotated[int, msgspec.Meta(ge=1, le=30)] = 20
    log_file: str = "pilotlog.txt"
    """In the workdir unless absolute; "" for standard error alone."""

    @property
    def vos(self) -> tuple[VomsConfig, ...]:
        """Return the VOs of which attributes are added; the first is for jobs that do not say."""
        return (self.voms,) if isinstance(self.voms, VomsConfig) else self.voms

    def voms_for(self, wanted: Sequence[str]) -> VomsConfig | None:
        """Return what is asked for a job that wants these attributes, or None when nothing is added.

        What a job wants is asked for instead of what the site does, and less than that will not do. Raises
        VOMSES_NOT_FOUND when it is of a VO that is not served here: the server sends such jobs to others.
        """
        if not wanted:
            return self.vos[0] if self.vos else None
        vo = vo_of(wanted[0])
        for voms in self.vos:
            if voms.vo == vo:
                return msgspec.structs.replace(voms, fqans=tuple(wanted), allow_subset=False)
        raise refuse(Reason.VOMSES_NOT_FOUND, f"The job wants {wanted[0]}, and no table voms here is of the VO {vo}.")


def load_config(path: Path) -> PilotConfig:
    """Read and check the file, or raise CONFIG_INVALID with what is wrong where."""
    try:
        with path.open("rb") as file:
            config = msgspec.convert(tomllib.load(file), PilotConfig, dec_hook=_path)
    except OSError as error:
        raise refuse(Reason.CONFIG_INVALID, f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise refuse(Reason.CONFIG_INVALID, f"{path}: {error}") from error
    if config.switch != "required":
        raise refuse(
            Reason.CONFIG_INVALID,
            f"{path}: switch = {config.switch!r} is not built; every payload runs as its owner (switch = 'required').",
        )
    if config.key_kind not in ("rsa", "ec"):
        raise refuse(Reason.CONFIG_INVALID, f"{path}: key_kind is 'rsa' or 'ec', not {config.key_kind!r}.")
    for name in ("ca_dir", "proxy", "workdir", "helper", "wrapper", "python"):
        if not getattr(config, name).is_absolute():
            raise refuse(Reason.CONFIG_INVALID, f"{path}: {name} must be an absolute path.")
    if config.voms_dir and not config.voms_dir.is_absolute():
        raise refuse(Reason.CONFIG_INVALID, f"{path}: voms_dir must be an absolute path.")
    for voms in config.vos:
        _check_voms(path, voms, config.voms_dir)
    names = [voms.vo for voms in config.vos]
    if len(set(names)) != len(names):
        raise refuse(Reason.CONFIG_INVALID, f"{path}: voms: each VO has one table at most.")
    return msgspec.structs.replace(config, worker_node=config.worker_node or socket.gethostname())


def _check_voms(path: Path, voms: VomsConfig, voms_dir: Path | None) -> None:
    if voms_dir is None:
        raise refuse(Reason.CONFIG_INVALID, f"{path}: voms needs voms_dir, to verify what the VO's servers give.")
    if not voms.vomses.is_absolute():
        raise refuse(Reason.CONFIG_INVALID, f"{path}: voms.vomses must be an absolute path.")
    if len(voms.vo) > LONGEST_VO:
        raise refuse(Reason.CONFIG_INVALID, f"{path}: voms: a VO's name has at most {LONGEST_VO} characters.")
    try:
        voms.request(datetime.timedelta(hours=1))
    except PilotageError as error:
        raise refuse(Reason.CONFIG_INVALID, f"{path}: voms: {error.message}") from error


def _path(wanted: type, value: object) -> Path:
    """Make a path of a text, where the configuration has one."""
    if wanted is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(wanted)
