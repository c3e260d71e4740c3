"""What a site's LCMAPS policy is in the words of `helper.conf`."""

import os
import re
from collections.abc import Mapping, Sequence

import msgspec

from pilotage_helper.lcmaps.database import Database, Problem, Problems
from pilotage_helper.lcmaps.flow import Flow, trace
from pilotage_helper.lcmaps.plugins import Kind, Options, plugin_of, read_options
from pilotage_helper.lcmaps.steps import groups_of, needs_primary

SECURITY = "/etc/grid-security"
STEPS_MAX = 8
PATH = re.compile(r"/[!-~]*")
PERIOD = re.compile(r"(?:(\d{1,2})d-)?(\d{1,2}):(\d{2})")


class Translation(msgspec.Struct, frozen=True):
    """The keys of `[helper]` and `[map]`, and where the helper is not quite what LCMAPS was."""

    helper: Mapping[str, str]
    mapping: Mapping[str, str]
    notes: tuple[str, ...]


def translate(database: Database, policies: Sequence[str] = (), gridmapdir: str = "") -> Translation:
    """Translate the policies, or those that are named; raise Problems with every reason why it cannot be done.

    Whoever LCMAPS refused is refused; where the helper refuses more, a note says so. `gridmapdir` is for plug-ins
    that had it from a variable.
    """
    options = _read_all(database, policies)
    return Translator(trace(database, policies), options, gridmapdir).translate()


def _read_all(database: Database, policies: Sequence[str]) -> dict[str, Options]:
    """Read the options of each plug-in that a policy uses."""
    rules = [rule for policy in database.policies if not policies or policy.name in policies for rule in policy.rules]
    names = dict.fromkeys(name for rule in rules for name in (rule.name, rule.success, rule.failure) if name)
    read: dict[str, Options] = {}
    problems: list[Problem] = []
    for name in names:
        try:
            read[name] = read_options(database.modules[name])
        except Problems as found:
            problems.extend(found.problems)
    if problems:
        raise Problems(*sorted(problems))
    return read


class Translator:
    """The settings as they are gathered, and the problems."""

    def __init__(self, flows: Sequence[Flow], read: Mapping[str, Options], gridmapdir: str) -> None:
        self.flows = flows
        self.read = read
        self.gridmapdir = gridmapdir
        self.helper: dict[str, str] = {}
        self.mapping: dict[str, str] = {}
        self.notes: list[str] = []
        self.problems: list[Problem] = []

    def translate(self) -> Translation:
        """Gather everything, then tell everything."""
        self._gates()
        self._steps()
        if self.problems:
            raise Problems(*sorted(set(self.problems)))
        self._note(
            "a step that finds a line decides: a full pool or an unknown account refuses, and no later step is tried"
        )
        return Translation(self.helper, self.mapping, tuple(dict.fromkeys(self.notes)))

    def _note(self, text: str) -> None:
        self.notes.append(text)

    def _set(self, section: dict[str, str], key: str, value: str, options: Options) -> None:
        if section.setdefault(key, value) != value:
            self.problems.append(options.problem(f"{key} is {section[key]} elsewhere, and {value} here"))

    def _path(self, value: str, options: Options) -> str:
        path = os.path.normpath(os.path.join(SECURITY, value)).replace("//", "/")
        if not PATH.fullmatch(path) or "," in path or "#" in path:
            self.problems.append(options.problem(f"{value} is a path that helper.conf cannot have"))
        return path

    # what comes before and after an account

    def _gates(self) -> None:
        bans = [{gate.name for gate in flow.gates if plugin_of(gate).kind is Kind.BAN} for flow in self.flows]
        for flow, mine in zip(self.flows, bans, strict=True):
            if mine != bans[0]:
                text = (
                    f"{flow.account.name} is not under the bans of {self.flows[0].account.name}; here bans are for all"
                )
                self.problems.append(Problem(flow.account.line, text))
        checked = [any(plugin_of(gate).kind is Kind.VERIFY for gate in flow.gates) for flow in self.flows]
        if not all(checked):
            self._note("every proxy is verified before it is mapped, also where LCMAPS left that to its caller")
        for name in dict.fromkeys(gate.name for flow in self.flows for gate in flow.gates):
            options = self.read[name]
            match plugin_of(options.module).kind:
                case Kind.VERIFY:
                    self._verify(options)
                case Kind.BAN:
                    self._ban(options)
                case Kind.VOMS:
                    self._voms(options)
                case _:
                    self._enforce(options)

    def _verify(self, options: Options) -> None:
        values, flags = options.values, options.flags
        if "certdir" in values:
            self._set(self.helper, "ca_dir", self._path(values["certdir"], options), options)
        if "only-limited" in flags:
            self.problems.append(options.problem("there is no policy that wants limited proxies only"))
        self._set(self.helper, "limited_proxies", "refuse" if "no-limited" in flags else "accept", options)
        if "keyless" in flags and "key" not in flags:
            self._note("a proxy without its private key is refused")
        self._note("proxies older than RFC 3820 are refused; legacy_proxies = accept takes those of Globus Toolkit 2")
        if "lifetimes" in flags:
            self._note("every proxy is verified before it is mapped, also where LCMAPS left that to its caller")
        if "level-ttl" in values:
            self.problems.append(
                options.problem("only the life of the whole chain can be bounded, not that of one proxy")
            )
        for name, key in (("leaf-ttl", "max_proxy_lifetime_seconds"), ("voms-ttl", "max_voms_lifetime_seconds")):
            if name in values:
                self._set(self.helper, key, self._seconds(values[name], options), options)

    def _seconds(self, text: str, options: Options) -> str:
        match = PERIOD.fullmatch(text)
        if match is None or int(match[2]) > 23 or int(match[3]) > 59:
            self.problems.append(options.problem(f"{text} is no period such as 2d-13:37"))
            return text
        seconds = int(match[1] or 0) * 86400 + int(match[2]) * 3600 + int(match[3]) * 60
        if seconds == 0:
            self.problems.append(options.problem(f"{text} lets nothing live"))
        return str(seconds)

    def _ban(self, options: Options) -> None:
        if "file" not in options.values:
            self.problems.append(options.problem("there is no -banmapfile"))
            return
        path = self._path(options.values["file"], options)
        if self.mapping.get("ban_file", path) == path:
            self.mapping["ban_file"] = path
        else:
            self._set(self.mapping, "second_ban_file", path, options)
        self._note("a ban file bans by its DNs and its FQANs alike, and with wildcards")

    def _voms(self, options: Options) -> None:
        for name, key in (("vomsdir", "voms_dir"), ("certdir", "ca_dir")):
            if name in options.values:
                self._set(self.helper, key, self._path(options.values[name], options), options)

    def _enforce(self, options: Options) -> None:
        for name in ("only-euid", "only-egid"):
            if options.values.get(name, "no") != "no":
                self.problems.append(options.problem("all ids are switched, never the effective ones alone"))
        if options.values.keys() & {"uids", "primaries", "secondaries"}:
            self._note(
                "a payload has one uid, one primary group and at most 64 groups; other bounds of numbers are not kept"
            )

    # the accounts

    def _steps(self) -> None:
        files = [
            self._path(
                self.read[flow.account.name].values.get("gridmapfile", "grid-mapfile"), self.read[flow.account.name]
            )
            for flow in self.flows
        ]
        by_dn = [file for flow, file in zip(self.flows, files, strict=True) if not flow.plugin.by_fqan]
        by_fqan = [file for flow, file in zip(self.flows, files, strict=True) if flow.plugin.by_fqan]
        if by_dn:
            self.mapping["grid_mapfile"] = by_dn[0]
        if by_fqan and (not by_dn or by_fqan[0] != by_dn[0]):
            self.mapping["voms_mapfile"] = by_fqan[0]
        steps = [self._step(flow, file) for flow, file in zip(self.flows, files, strict=True)]
        # A second try of the same finds what the first one found.
        steps = list(dict.fromkeys(steps))
        if len(steps) > STEPS_MAX:
            self.problems.append(Problem(0, f"there are {len(steps)} tries, and a policy here has at most {STEPS_MAX}"))
        self.mapping["policy"] = ", ".join(steps)

    def _step(self, flow: Flow, file: str) -> str:
        options = self.read[flow.account.name]
        words = [f"{'fqan' if flow.plugin.by_fqan else 'dn'}-{'pool' if flow.plugin.pool else 'account'}"]
        if file != self._default(flow):
            words += ["from", "grid_mapfile" if file == self.mapping.get("grid_mapfile") else file]
        if flow.plugin.pool:
            self._pool(options)
        groups = groups_of(flow, options, self.problems)
        if groups != "account":
            assert flow.groups is not None
            self._groupmap(self.read[flow.groups.name])
            words += ["groups", groups]
        if needs_primary(flow, options, groups, self.problems):
            words.append("require-primary")
        if flow.plugin.by_fqan:
            self._note("a star in an FQAN stays inside its component, unless it is one by itself")
            self._note("/Role=NULL and /Capability=NULL at an FQAN's end are nothing; LCMAPS took them for text")
        else:
            self._note("wildcards in the DNs of a map file mean nothing")
            self._note("[caller] wants a VO, so a proxy without VOMS attributes is refused before it is mapped")
        return " ".join(words)

    def _default(self, flow: Flow) -> str | None:
        grid, voms = self.mapping.get("grid_mapfile"), self.mapping.get("voms_mapfile")
        return voms if flow.plugin.by_fqan and voms else grid

    def _pool(self, options: Options) -> None:
        value = self.gridmapdir or options.values.get("gridmapdir", "")
        if not value:
            self.problems.append(options.problem("there is no -gridmapdir; say --gridmapdir"))
            return
        self._set(self.mapping, "gridmapdir", self._path(value, options), options)
        self.mapping["lease_names"] = "lcmaps"
        self._note("two owners whose DNs differ only in case cannot both have a lease; lease_names = strict lets them")
        if options.values.get("mappings", "1") != "1":
            self.problems.append(options.problem("an owner has one account of a pool"))
        if options.values.get("strict", "yes") != "yes":
            self._note("accounts of a pool are its name and digits, others are not used")
        if "override" in options.flags:
            self._note("a lease from another pool is never replaced, it refuses")
        if "short-lease" in options.flags:
            self._note("a lease is named by all groups, so an owner may get a new account of the pool once")

    def _groupmap(self, options: Options) -> None:
        if "groupmapfile" not in options.values:
            self.problems.append(options.problem("there is no -groupmapfile"))
            return
        self._set(self.mapping, "groupmapfile", self._path(options.values["groupmapfile"], options), options)
        if options.values.get("least", "0") != "0" or "all" in options.flags:
            self.problems.append(
                options.problem("attributes without a group cannot be made to refuse, but for the first one")
            )
        if "only-secondary" in options.flags:
            self.problems.append(options.problem("the group of the first attribute is always the primary one"))
