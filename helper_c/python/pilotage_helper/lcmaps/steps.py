"""Which groups a try of LCMAPS gives, and how a step of ours says so."""

from pilotage_helper.lcmaps.database import Problem
from pilotage_helper.lcmaps.flow import Flow
from pilotage_helper.lcmaps.plugins import Options


def groups_of(flow: Flow, options: Options, problems: list[Problem]) -> str:
    """Return account, fqan or both; add to the problems what is none of them."""
    primary, secondary = _own(flow, options)
    if flow.groups is None:
        if not (primary and secondary):
            problems.append(
                options.problem("a payload has all groups of its account, or its attributes'; this leaves some out")
            )
        return "account"
    if primary != secondary:
        problems.append(
            options.problem("the account's own groups are there all or not at all, and after those of attributes")
        )
    return "both" if primary else "fqan"


def _own(flow: Flow, options: Options) -> tuple[bool, bool]:
    """Whether the account's own primary group and its other ones are there at all."""
    flags = options.flags
    if not flow.plugin.by_fqan:
        return True, True
    own = "account" in flags if flow.plugin.pool else "voms" not in flags
    primary = (own or "primary" in flags) and "no-primary" not in flags
    secondary = (own or "secondary" in flags) and "no-secondary" not in flags
    return primary or "primary-as-secondary" in flags, secondary


def needs_primary(flow: Flow, options: Options, groups: str, problems: list[Problem]) -> bool:
    """Tell whether the first attribute must have a group.

    LCMAPS refuses an account that no plug-in has found a primary group for.
    """
    if "require" in options.flags and flow.groups is None:
        problems.append(options.problem("no plug-in before it finds the primary group that it requires"))
    return "require" in options.flags or groups == "fqan"
