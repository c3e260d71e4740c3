"""The one table of authorisation: which method wants which rule of its caller (DESIGN section 4).

Roles come from the configuration, where each is a list of VOMS attributes (FQANs) and subjects (DNs).
An entry matches exactly: `/demo` does not give what `/demo/Role=pilot` gives, nor the other way round.
A method without a row is refused, at start and at each call.
"""

import enum
from collections.abc import Iterable, Sequence

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.principal import Principal


class Role(enum.Enum):
    """What the configuration can make of a caller."""

    OWNER = "owner"
    PILOT = "pilot"
    ADMIN = "admin"


class Rule(enum.Enum):
    """Who may call a method.

    LEASE_HOLDER asks for the pilot role here; the handler then proves the lease it is shown.
    OWNER likewise: which things are the caller's own, only the handler can see.
    """

    ANYONE = "anyone"
    AUTHENTICATED = "authenticated"
    OWNER = "owner"
    PILOT = "pilot"
    LEASE_HOLDER = "lease-holder"
    ADMIN = "admin"


ROLE_OF = {
    Rule.OWNER: Role.OWNER,
    Rule.PILOT: Role.PILOT,
    Rule.LEASE_HOLDER: Role.PILOT,
    Rule.ADMIN: Role.ADMIN,
}


class Row(msgspec.Struct, frozen=True):
    """One method's row: any one rule is enough; `full_proxy` keeps limited proxies out."""

    rules: tuple[Rule, ...]
    full_proxy: bool = False


def row(*rules: Rule, full_proxy: bool = False) -> Row:
    """Make a row of the table."""
    return Row(rules, full_proxy)


TABLE: dict[str, Row] = {
    "/grpc.health.v1.Health/Check": row(Rule.ANYONE),
    "/grpc.health.v1.Health/List": row(Rule.ANYONE),
    "/grpc.health.v1.Health/Watch": row(Rule.ANYONE),
    "/pilotage.v1.AuthService/BeginLogin": row(Rule.ANYONE),
    "/pilotage.v1.AuthService/Login": row(Rule.ANYONE),
    "/pilotage.v1.AuthService/WhoAmI": row(Rule.AUTHENTICATED),
    "/pilotage.v1.JobService/SubmitJobs": row(Rule.OWNER, full_proxy=True),
    "/pilotage.v1.JobService/GetJob": row(Rule.OWNER),
    "/pilotage.v1.JobService/ListJobs": row(Rule.OWNER),
    "/pilotage.v1.JobService/WatchJobs": row(Rule.OWNER),
    "/pilotage.v1.JobService/CancelJobs": row(Rule.OWNER),
    "/pilotage.v1.JobService/RebindCredential": row(Rule.OWNER, full_proxy=True),
    "/pilotage.v1.JobService/RetryJobs": row(Rule.OWNER, full_proxy=True),
    "/pilotage.v1.JobService/ListJobEvents": row(Rule.OWNER),
    "/pilotage.v1.JobService/UploadSandbox": row(Rule.OWNER, Rule.LEASE_HOLDER),
    "/pilotage.v1.JobService/DownloadSandbox": row(Rule.OWNER, Rule.LEASE_HOLDER),
    "/pilotage.v1.JobService/GetLog": row(Rule.OWNER),
    "/pilotage.v1.JobService/GetUsage": row(Rule.OWNER),
    "/pilotage.v1.PilotService/RegisterPilot": row(Rule.PILOT),
    "/pilotage.v1.PilotService/AcquireJobs": row(Rule.PILOT),
    "/pilotage.v1.PilotService/Heartbeat": row(Rule.PILOT),
    "/pilotage.v1.PilotService/FinishJob": row(Rule.LEASE_HOLDER),
    "/pilotage.v1.PilotService/ReleaseJob": row(Rule.LEASE_HOLDER),
    "/pilotage.v1.PilotService/AppendLog": row(Rule.LEASE_HOLDER),
    "/pilotage.v1.PilotService/RefreshCredentialToken": row(Rule.LEASE_HOLDER),
    "/pilotage.v1.PilotService/DeregisterPilot": row(Rule.PILOT),
    "/pilotage.v1.CredentialService/BeginDelegation": row(Rule.OWNER, full_proxy=True),
    "/pilotage.v1.CredentialService/CompleteDelegation": row(Rule.OWNER, full_proxy=True),
    "/pilotage.v1.CredentialService/ListCredentials": row(Rule.OWNER),
    "/pilotage.v1.CredentialService/GetCredential": row(Rule.OWNER),
    "/pilotage.v1.CredentialService/DestroyCredential": row(Rule.OWNER, Rule.ADMIN),
    "/pilotage.v1.CredentialService/RetrieveCredential": row(Rule.LEASE_HOLDER),
    "/pilotage.v1.CredentialService/RenewCredential": row(Rule.LEASE_HOLDER),
    "/pilotage.v1.CredentialService/LinkName": row(Rule.OWNER, full_proxy=True),
    "/pilotage.v1.CredentialService/UnlinkName": row(Rule.OWNER, full_proxy=True),
    "/pilotage.v1.CredentialService/ListLinks": row(Rule.OWNER),
    "/pilotage.v1.CredentialService/ListIssuances": row(Rule.OWNER, Rule.ADMIN),
    "/pilotage.v1.AdminService/ListSites": row(Rule.ADMIN),
    "/pilotage.v1.AdminService/PutSite": row(Rule.ADMIN, full_proxy=True),
    "/pilotage.v1.AdminService/Ban": row(Rule.ADMIN, full_proxy=True),
    "/pilotage.v1.AdminService/Unban": row(Rule.ADMIN, full_proxy=True),
    "/pilotage.v1.AdminService/ListBans": row(Rule.ADMIN),
    "/pilotage.v1.AdminService/DrainPilot": row(Rule.ADMIN, full_proxy=True),
    "/pilotage.v1.AdminService/SetShare": row(Rule.ADMIN, full_proxy=True),
    "/pilotage.v1.AdminService/ListPilots": row(Rule.ADMIN),
    "/pilotage.v1.AdminService/QueryAudit": row(Rule.ADMIN),
}


class RoleNames(msgspec.Struct, frozen=True):
    """The FQANs and DNs that give one role, kept apart so that neither can pose as the other."""

    dns: frozenset[str]
    fqans: frozenset[str]

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "RoleNames":
        """Sort entries by their first component: `/O=...` is a DN, `/vo...` an FQAN."""
        dns: set[str] = set()
        fqans: set[str] = set()
        for entry in entries:
            first = entry[1:].partition("/")[0]
            if not entry.startswith("/") or not first:
                raise refuse(Reason.CONFIG_INVALID, f"a role is a DN or an FQAN and begins with '/': {entry!r}")
            (dns if "=" in first else fqans).add(entry)
        return cls(frozenset(dns), frozenset(fqans))

    def give(self, principal: Principal) -> bool:
        """Tell whether this principal has the role."""
        return principal.dn in self.dns or not self.fqans.isdisjoint(principal.fqans)


class Policy:
    """Decide who may call what."""

    def __init__(self, owner: Sequence[str], pilot: Sequence[str], admin: Sequence[str]) -> None:
        self._roles = {
            Role.OWNER: RoleNames.parse(owner),
            Role.PILOT: RoleNames.parse(pilot),
            Role.ADMIN: RoleNames.parse(admin),
        }

    def roles(self, principal: Principal) -> frozenset[Role]:
        """Return the roles of a principal."""
        return frozenset(role for role, names in self._roles.items() if names.give(principal))

    def row(self, method: str) -> Row:
        """Return the row of a method; without one, nobody may call it."""
        found = TABLE.get(method)
        if found is None:
            raise refuse(Reason.PERMISSION_DENIED, f"{method} has no row in the authorisation table.")
        return found

    def check(self, method: str, principal: Principal | None) -> None:
        """Raise unless this caller may call this method."""
        wanted = self.row(method)
        if Rule.ANYONE in wanted.rules:
            return
        if principal is None:
            raise refuse(Reason.UNAUTHENTICATED)
        if wanted.full_proxy and principal.limited:
            raise refuse(Reason.LIMITED_PROXY_REFUSED)
        if Rule.AUTHENTICATED in wanted.rules:
            return
        self.require(principal, *(ROLE_OF[rule] for rule in wanted.rules))

    def require(self, principal: Principal, *needed: Role) -> None:
        """Raise ROLE_REQUIRED unless this caller has one of these roles."""
        if not any(self._roles[role].give(principal) for role in needed):
            names = " or ".join(sorted(role.value for role in needed))
            raise refuse(
                Reason.ROLE_REQUIRED,
                f"{principal.dn} does not have the role {names}; the VOMS attributes shown do not give it.",
            )


def check_complete(methods: Iterable[str]) -> None:
    """Refuse to start a service that has a method without a row."""
    missing = sorted(set(methods) - TABLE.keys())
    if missing:
        raise refuse(Reason.CONFIG_INVALID, f"methods without a row in the authorisation table: {', '.join(missing)}")
