"""LCMAPS's plug-ins: what each is for, and the words of its options."""

from collections.abc import Iterator, Mapping
from enum import Enum

import msgspec

from pilotage_helper.lcmaps.database import Module, Problem, Problems


class Kind(Enum):
    """What a plug-in does in a policy."""

    VERIFY = "verifies the proxy"
    BAN = "bans"
    VOMS = "reads the attributes"
    GROUPS = "maps attributes to groups"
    ACCOUNT = "maps to an account"
    ENFORCE = "switches"
    GOOD = "always succeeds"
    BAD = "always fails"


class Plugin(msgspec.Struct, frozen=True):
    """One plug-in: `values` are options with a value, `flags` those without; each option by its first spelling."""

    kind: Kind
    values: Mapping[str, tuple[str, ...]] = {}
    flags: Mapping[str, tuple[str, ...]] = {}
    by_fqan: bool = False
    pool: bool = False


FILE = {"gridmapfile": ("-gridmapfile", "-gridmap")}
POOL = {
    **FILE,
    "gridmapdir": ("-gridmapdir",),
    "mappings": ("-max_mappings_per_credential",),
    "strict": ("-strict_poolprefix_match",),
}
REMAP = {"override": ("-override_inconsistency",)}
EXACT = {"exact": ("-no_wildcard", "-disablewildcard")}
GIDS = {
    "voms": ("--use-voms-gid", "--use_voms_gid", "-use_voms_gid"),
    "account": ("--use-account-gid",),
    "primary": ("--add-primary-gid-from-mapped-account",),
    "no-primary": ("--do-not-add-primary-gid-from-mapped-account",),
    "primary-as-secondary": ("--add-primary-gid-as-secondary-gid-from-mapped-account",),
    "secondary": ("--add-secondary-gids-from-mapped-account",),
    "no-secondary": ("--do-not-add-secondary-gids-from-mapped-account",),
}
NEEDS = {
    "require": ("--require-primary-gid",),
    "not-require": ("--do-not-require-primary-gid",),
    "short-lease": ("--do-not-use-secondary-gids", "-do_not_use_secondary_gids"),
}
TTL = "--max-proxy-level-ttl"

PLUGINS: Mapping[str, Plugin] = {
    "lcmaps_verify_proxy": Plugin(
        Kind.VERIFY,
        {
            "certdir": ("-certdir", "-cadir", "-capath", "--capath"),
            "voms-ttl": ("--max-voms-ttl",),
            "leaf-ttl": (f"{TTL}=l", f"{TTL}=L", f"{TTL}@l", f"{TTL}@L"),
            "level-ttl": tuple(f"{TTL}{sign}{level}" for sign in "=@" for level in range(10)),
        },
        {
            "limited": ("--allow-limited-proxy",),
            "no-limited": ("--disallow-limited-proxy",),
            "only-limited": ("--require-limited-proxy",),
            "keyless": ("--discard_private_key_absence",),
            "key": ("--never_discard_private_key_absence",),
            "lifetimes": ("--only-enforce-lifetime-checks",),
        },
    ),
    "lcmaps_ban_dn": Plugin(Kind.BAN, {"file": ("-banmapfile",)}, EXACT),
    "lcmaps_ban_fqan": Plugin(Kind.BAN, {"file": ("-banmapfile",)}, EXACT, by_fqan=True),
    "lcmaps_voms": Plugin(Kind.VOMS, {"vomsdir": ("-vomsdir",), "certdir": ("-certdir",)}),
    "lcmaps_voms_localgroup": Plugin(
        Kind.GROUPS,
        {"groupmapfile": ("-groupmapfile",), "least": ("-mapmin",)},
        {"all": ("-mapall",), "only-secondary": ("--map-to-secondary-groups",)},
    ),
    "lcmaps_localaccount": Plugin(Kind.ACCOUNT, FILE),
    "lcmaps_poolaccount": Plugin(Kind.ACCOUNT, POOL, {**REMAP, **EXACT}, pool=True),
    "lcmaps_voms_localaccount": Plugin(Kind.ACCOUNT, FILE, GIDS, by_fqan=True),
    "lcmaps_voms_poolaccount": Plugin(Kind.ACCOUNT, POOL, {**GIDS, **NEEDS, **REMAP}, by_fqan=True, pool=True),
    "lcmaps_posix_enf": Plugin(
        Kind.ENFORCE,
        {
            "uids": ("-maxuid",),
            "primaries": ("-maxpgid",),
            "secondaries": ("-maxsgid",),
            "only-euid": ("-set_only_euid",),
            "only-egid": ("-set_only_egid",),
        },
    ),
    "lcmaps_dummy_good": Plugin(Kind.GOOD),
    "lcmaps_dummy_bad": Plugin(Kind.BAD),
}

ELSEWHERE = {
    "lcmaps_voms_poolgroup": "there are no pools of groups here",
    "lcmaps_ldap_enf": "nothing here changes a directory",
    "lcmaps_jobrep": "there is no job repository here; the audit log has what it kept",
    "lcmaps_scas_client": "no service is asked for the mapping",
    "lcmaps_c_pep": "no service is asked for the mapping (Argus)",
    "lcmaps_gums_client": "no service is asked for the mapping (GUMS)",
    "lcmaps_tracking_groupid": "payloads are tracked by control groups, not by a group id",
    "lcmaps_glexec_tracking": "payloads are tracked by control groups, not by a group id",
    "lcmaps_mount_under_scratch": "payloads have private folders by [isolation]",
    "lcmaps_afs": "nothing here gets AFS tokens",
}


def plugin_of(module: Module) -> Plugin:
    """Return the plug-in of a definition; raise Problems for one that means nothing here."""
    plugin = PLUGINS.get(module.file)
    if plugin is None:
        why = ELSEWHERE.get(module.file, "the plug-in is not known here")
        raise Problems(Problem(module.line, f"{module.name} is {module.file}: {why}"))
    return plugin


class Options(msgspec.Struct, frozen=True):
    """The options of one definition, by the names of its plug-in."""

    module: Module
    values: Mapping[str, str]
    flags: frozenset[str]

    def problem(self, text: str) -> Problem:
        """Say what is wrong with this definition."""
        return Problem(self.module.line, f"{self.module.name} ({self.module.file}): {text}")


def read_options(module: Module) -> Options:
    """Read the words of a definition; raise Problems for one that the plug-in does not have."""
    plugin = plugin_of(module)
    values: dict[str, str] = {}
    flags: set[str] = set()
    words = iter(module.options)
    for word in words:
        name, is_value = _name(plugin, word)
        if name is None:
            raise Problems(Problem(module.line, f"{module.name} ({module.file}): option {word} is not known here"))
        if name in values or name in flags:
            raise Problems(Problem(module.line, f"{module.name} ({module.file}): option {word} is repeated"))
        if is_value:
            value = next(words, "")
            if not value or value.startswith("-"):
                raise Problems(Problem(module.line, f"{module.name} ({module.file}): option {word} has no value"))
            values[name] = value
        else:
            flags.add(name)
    return Options(module, values, frozenset(flags))


def _name(plugin: Plugin, word: str) -> tuple[str | None, bool]:
    for table, is_value in ((plugin.values, True), (plugin.flags, False)):
        for name, spellings in table.items():
            if word in spellings:
                return name, is_value
    return None, False


def spellings() -> Iterator[str]:
    """Every option that is known, for tests."""
    for plugin in PLUGINS.values():
        for table in (plugin.values, plugin.flags):
            for words in table.values():
                yield from words
