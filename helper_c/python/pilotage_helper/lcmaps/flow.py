"""Which accounts a policy of LCMAPS tries, in which order, and what each try has passed before."""

from collections.abc import Sequence

import msgspec

from pilotage_helper.lcmaps.database import Database, Module, Policy, Problem, Problems, Rule
from pilotage_helper.lcmaps.plugins import Kind, Plugin, plugin_of

SPLITS_MAX = 4  # plug-ins that fail without attributes, in one policy


class Flow(msgspec.Struct, frozen=True):
    """One try: the plug-in that maps to an account, the one that maps to groups, and what must agree besides."""

    account: Module
    groups: Module | None
    gates: tuple[Module, ...]

    @property
    def plugin(self) -> Plugin:
        """What the account's plug-in is."""
        return plugin_of(self.account)


def trace(database: Database, names: Sequence[str] = ()) -> tuple[Flow, ...]:
    """Follow the policies, or those that are named, in the file's order; raise Problems for what has no like here."""
    known = {policy.name for policy in database.policies}
    for name in names:
        if name not in known:
            raise Problems(Problem(0, f"there is no policy {name}; there are {', '.join(sorted(known))}"))
    chosen = [policy for policy in database.policies if not names or policy.name in names]
    flows = [flow for policy in chosen for flow in Walk(database, policy).flows()]
    if not flows:
        raise Problems(Problem(chosen[0].line, f"policy {chosen[0].name} maps nobody to an account"))
    return tuple(flows)


class Walk:
    """The way through one policy, from its first rule."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self.database = database
        self.policy = policy
        self.rules = {rule.name: rule for rule in policy.rules}
        self.splits = 0

    def flows(self) -> list[Flow]:
        """Return the tries in their order."""
        return self._from(self.policy.rules[0].name, (), None)

    def _at(self, name: str) -> tuple[Module, Kind, Rule]:
        module = self.database.modules[name]
        return module, plugin_of(module).kind, self.rules.get(name, Rule(name, module.line))

    def _from(self, name: str, gates: tuple[Module, ...], groups: Module | None) -> list[Flow]:
        found: list[Flow] = []
        while name:
            module, kind, rule = self._at(name)
            if kind is Kind.BAD:
                name = rule.failure
                continue
            if kind is Kind.ACCOUNT:
                found.append(Flow(module, groups, gates + self._after(rule.success)))
                name = rule.failure
                continue
            if kind is Kind.ENFORCE:
                raise Problems(Problem(rule.line, f"{module.name} comes before any account is found"))
            if not rule.success:
                raise Problems(
                    Problem(rule.line, f"policy {self.policy.name} can end well at {module.name}, without an account")
                )
            if kind in (Kind.GROUPS, Kind.VOMS) and rule.failure:
                return found + self._without_attributes(module, rule, gates, groups)
            if kind is not Kind.GOOD and rule.failure:
                raise Problems(Problem(rule.line, f"what follows when {module.name} fails has no like here"))
            if kind is Kind.GROUPS:
                if groups is not None:
                    raise Problems(Problem(rule.line, f"{module.name} maps groups after {groups.name}"))
                groups = module
            elif kind is not Kind.GOOD:
                gates = (*gates, module)
            name = rule.success
        return found

    def _without_attributes(
        self, module: Module, rule: Rule, gates: tuple[Module, ...], groups: Module | None
    ) -> list[Flow]:
        """Follow both ways of a plug-in that fails when there are no attributes.

        Here a step by FQAN then finds nothing, so the two ways are one when by DN they try the same.
        """
        self.splits += 1
        if self.splits > SPLITS_MAX:
            raise Problems(Problem(rule.line, f"policy {self.policy.name} splits more than {SPLITS_MAX} times"))
        is_groups = plugin_of(module).kind is Kind.GROUPS
        if is_groups and groups is not None:
            raise Problems(Problem(rule.line, f"{module.name} maps groups after {groups.name}"))
        passed = gates if is_groups else (*gates, module)
        found = self._from(rule.success, passed, module if is_groups else groups)
        other = self._from(rule.failure, gates, groups)
        by_dn = [flow.account for flow in found if not flow.plugin.by_fqan]
        if by_dn != [flow.account for flow in other]:
            raise Problems(
                Problem(rule.line, f"without attributes {module.name} leads to other accounts than by DN with them")
            )
        return found

    def _after(self, name: str) -> tuple[Module, ...]:
        """Return what must agree after the account was found."""
        gates: list[Module] = []
        while name:
            module, kind, rule = self._at(name)
            if kind in (Kind.ACCOUNT, Kind.GROUPS, Kind.BAD):
                raise Problems(Problem(rule.line, f"{module.name} ({module.file}) comes after an account was found"))
            if rule.failure:
                raise Problems(Problem(rule.line, f"what follows when {module.name} fails has no like here"))
            if kind is not Kind.GOOD:
                gates.append(module)
            name = rule.success
        return tuple(gates)
