"""The server's configuration: one TOML file, every name known, every mistake told with its place."""

import datetime
import ipaddress
from pathlib import Path
from typing import Literal

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_server import processors
from pilotage_server.auth.policy import Policy
from pilotage_server.credentials.abuse import AbuseLimits
from pilotage_server.credentials.hsm import TokenPlace
from pilotage_server.gateway.policy import GatewayRules
from pilotage_server.jobs.limits import JobLimits, LeaseTimes
from pilotage_server.retrieval import RetrievalPolicy, RetrievalRules, mistakes

OPEN_POLICIES = (
    ("trusted_retrievers", "default_trusted_retrievers"),
    ("authorized_renewers", "default_renewers"),
    ("authorized_key_retrievers", "default_key_retrievers"),
)
"""Lists of the gateway of which not both may admit everybody."""
DEFAULT_PATH = Path("/etc/pilotage/server.toml")
LARGEST_FILE = 1024 * 1024


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; names it does not know are mistakes."""


class ServerSection(Section, frozen=True, kw_only=True):
    """Where the server listens, what it proves itself with and whom it trusts."""

    state_dir: Path
    listen: str
    audience: str
    host_cert: Path
    host_key: Path
    ca_dir: Path
    voms_dir: Path | None = None
    listen_mutual: str = ""
    log: Literal["json", "text"] = "json"
    log_calls: Literal["refused", "all"] = "refused"
    """Which calls leave a line; those that succeed are counted, and on record where they act on credentials or jobs."""
    processor: int | None = None
    """The one on which calls are served; keys are made on all."""


class RolesSection(Section, frozen=True, kw_only=True):
    """FQANs and DNs that give a role."""

    pilot: tuple[str, ...]
    owner: tuple[str, ...]
    admin: tuple[str, ...] = ()


class LimitsSection(JobLimits, Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one owner, one job, one archive may be at most; the fields are those of `JobLimits`."""


class LeasesSection(LeaseTimes, Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long a lease lives without a report; the fields are those of `LeaseTimes`."""


class CredentialsSection(Section, frozen=True, kw_only=True):
    """How long stored credentials may live, and how they are looked after."""

    max_lifetime_seconds: int = 30 * 86400
    key_pool: int = 4
    check_seconds: int = 600
    """How often the stored credentials are checked for revocation."""


class RetrievalTable(RetrievalRules, Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What pilots get of one VO's credentials; the fields are those of `RetrievalRules`."""


class RetrievalSection(Section, frozen=True, kw_only=True):
    """What pilots get of whose credentials: by VO, of those without one, and of all others."""

    default: RetrievalTable = RetrievalTable()
    plain: RetrievalTable = RetrievalTable()
    vo: dict[str, RetrievalTable] = {}


class AbuseSection(AbuseLimits, Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much is too much; the fields are those of `AbuseLimits`."""


class Pkcs11Section(TokenPlace, Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A PKCS#11 token that holds the service keys instead of files; the fields are those of `TokenPlace`."""


class GatewaySection(GatewayRules, Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The MyProxy gateway; without `listen` there is none. The other fields are those of `GatewayRules`."""

    listen: str = ""


class MetricsSection(Section, frozen=True, kw_only=True):
    """The port for Prometheus; without `port` there is none. 0 is any that is free."""

    port: int | None = None
    address: str = "127.0.0.1"


class Config(Section, frozen=True, kw_only=True):
    """The whole file."""

    server: ServerSection
    roles: RolesSection
    limits: LimitsSection = LimitsSection()
    leases: LeasesSection = LeasesSection()
    credentials: CredentialsSection = CredentialsSection()
    retrieval: RetrievalSection = RetrievalSection()
    abuse: AbuseSection = AbuseSection()
    pkcs11: Pkcs11Section | None = None
    gateway: GatewaySection = GatewaySection()
    metrics: MetricsSection = MetricsSection()

    def policy(self) -> Policy:
        """Return who has which role."""
        return Policy(self.roles.owner, self.roles.pilot, self.roles.admin)

    def retrieval_policy(self) -> RetrievalPolicy:
        """Return which pilots get credentials of which VO, and what of them."""
        return RetrievalPolicy(self.retrieval.default, self.retrieval.plain, self.retrieval.vo)

    def policy_text(self) -> str:
        """Return what decides who gets which credentials, as one line for the audit."""
        parts: dict[str, object] = {"audience": self.server.audience, "roles": self.roles}
        parts |= {"ca_dir": str(self.server.ca_dir), "voms_dir": str(self.server.voms_dir or "")}
        parts |= {"credentials": self.credentials, "retrieval": self.retrieval}
        parts |= {"abuse": self.abuse, "gateway": self.gateway}
        return msgspec.json.encode(parts, order="sorted").decode()


def load(path: Path) -> Config:
    """Read and check a configuration file; raise CONFIG_INVALID with the place of the first mistake."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE)
    except OSError as error:
        raise refuse(Reason.CONFIG_INVALID, f"{path}: it cannot be read ({error.strerror}).") from error
    return parse(text, str(path))


def parse(text: bytes, source: str) -> Config:
    """Check the text of a configuration file."""
    try:
        config = msgspec.toml.decode(text, type=Config, dec_hook=_path)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refuse(Reason.CONFIG_INVALID, f"{source}: {error}.") from error
    found = _mistakes(config)
    if found:
        raise refuse(Reason.CONFIG_INVALID, f"{source}: " + "; ".join(found) + ".")
    try:
        config.policy()
    except PilotageError as error:
        raise refuse(Reason.CONFIG_INVALID, f"{source}: roles: {error.message}.") from error
    return config


def check_files(config: Config) -> None:
    """Raise CONFIG_INVALID unless the folders the configuration names are there."""
    processors.check(config.server.processor)
    for name, folder in (("ca_dir", config.server.ca_dir), ("voms_dir", config.server.voms_dir)):
        if folder is not None and not folder.is_dir():
            raise refuse(Reason.CONFIG_INVALID, f"server.{name}: {folder} is not a directory.")
    for vo in config.retrieval.vo:
        # A table under a mistyped name would leave the VO to the default.
        if config.server.voms_dir is None or not (config.server.voms_dir / vo).is_dir():
            raise refuse(Reason.CONFIG_INVALID, f"retrieval.vo.{vo}: server.voms_dir has no directory of this VO.")


def span(seconds: int) -> datetime.timedelta:
    """Return a number of seconds as a span of time."""
    return datetime.timedelta(seconds=seconds)


def _path(wanted: type, value: object) -> Path:
    """Decode what the decoder does not know by itself."""
    if wanted is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError("Expected a path")


def _mistakes(config: Config) -> list[str]:
    found = []
    addresses = (
        ("server.listen", config.server.listen),
        ("server.listen_mutual", config.server.listen_mutual),
        ("gateway.listen", config.gateway.listen),
    )
    for name, address in addresses:
        if address or name == "server.listen":
            try:
                split_address(address)
            except ValueError:
                found.append(f"{name}: {address!r} is not ADDRESS:PORT")
    if not 0 <= (config.metrics.port or 0) <= 65535:
        found.append(f"metrics.port: {config.metrics.port} is not a port")
    try:
        ipaddress.ip_address(config.metrics.address)
    except ValueError:
        found.append(f"metrics.address: {config.metrics.address!r} is not an IP address")
    if not config.server.audience:
        found.append("server.audience: it must not be empty")
    for name in ("state_dir", "host_cert", "host_key", "ca_dir", "voms_dir"):
        path: Path | None = getattr(config.server, name)
        if path is not None and not path.is_absolute():
            found.append(f"server.{name}: {path} is not an absolute path")
    found += [f"roles.{role}: nobody has it" for role in ("pilot", "owner") if not getattr(config.roles, role)]
    for section in ("limits", "leases", "credentials", "abuse", "gateway"):
        values: dict[str, object] = msgspec.structs.asdict(getattr(config, section))
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0 and name != "key_pool":
                found.append(f"{section}.{name}: {value} is not above 0")
    found += [
        f'gateway.{name}: "*" here and in its default lets everybody take what is kept without a pass phrase'
        for name, default in OPEN_POLICIES
        if "*" in getattr(config.gateway, name) and "*" in getattr(config.gateway, default)
    ]
    found += mistakes(config.retrieval.default, config.retrieval.plain, config.retrieval.vo)
    if config.leases.heartbeat_seconds * 2 > config.leases.lease_seconds:
        found.append("leases.heartbeat_seconds: a lease must outlive two heartbeats")
    return found


def split_address(address: str) -> tuple[str, int]:
    """Split `127.0.0.1:7643` or `[::]:7643`; raise ValueError for anything else."""
    host, _, port = address.rpartition(":")
    ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    number = int(port)
    if not 0 <= number <= 65535 or not port.isascii():
        raise ValueError(port)
    return host, number
