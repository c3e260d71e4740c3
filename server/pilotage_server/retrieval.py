"""The policy `[retrieval]`: which pilots get credentials of which VO, and what the proxies made of them are.

CredentialService enforces it at each retrieval and renewal. JobService's broker asks the same policy, so that no pilot
is offered a job whose credential it would be refused. In one process both read one table; on two hosts the table stands
in both files. Should they differ, CredentialService's counts, and the broker's own only makes pilots come in vain.

A rule that a VO's table does not have is `[retrieval.default]`'s. Credentials without VO attributes have a table of
their own, `[retrieval.plain]`. One with attributes of several VOs is under the policies of all of them: else an owner
could escape a strict VO by naming a lenient one first.
"""

import datetime
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.fqans import check_vo
from pilotage_server.principal import Principal

PLAIN = ""
"""What counts as the VO of a credential without VO attributes."""
EVERYBODY = "*"
LARGEST_PATH_LENGTH = 8
"""Of a chain's proxies at most ten count, and the stored one and the job's are two of them."""
LONGEST_LIFETIME_SECONDS = 366 * 86400
LARGEST_CACHE = 4096
_FQAN = re.compile(r"(?:/[A-Za-z0-9_.*-]+)+(?:/Role=[A-Za-z0-9_.*-]+)?", re.ASCII)
_DN = re.compile(r"/[A-Za-z0-9.]+=[ -~]+", re.ASCII)

Unset = msgspec.UnsetType


class RetrievalRules(msgspec.Struct, frozen=True, kw_only=True):
    """One table of the policy; what it does not say, the default's says."""

    proxy: Literal["full", "limited"] | Unset = msgspec.UNSET
    path_length: int | Literal["unlimited"] | Unset = msgspec.UNSET
    """How many further proxies may stand below the one a pilot gets."""
    max_lifetime_seconds: int | Unset = msgspec.UNSET
    """Of a proxy; also the life of one whose pilot does not say how long it wants it."""
    targets: tuple[str, ...] | Unset = msgspec.UNSET
    """DNs and FQANs of the pilots that get credentials; empty is none of them."""


INHERITED = RetrievalRules()
BUILT_IN = RetrievalRules(proxy="full", path_length="unlimited", max_lifetime_seconds=12 * 3600, targets=(EVERYBODY,))


class Limits(msgspec.Struct, frozen=True):
    """What a proxy may be: how long-lived, whether limited, and how many may stand below it (None is any number)."""

    lifetime: datetime.timedelta
    limited: bool
    path_length: int | None

    def narrowed(self, other: "Limits") -> "Limits":
        """Return the narrower of both, in each respect."""
        lengths = [length for length in (self.path_length, other.path_length) if length is not None]
        return Limits(
            min(self.lifetime, other.lifetime), self.limited or other.limited, min(lengths) if lengths else None
        )


class Targets:
    """Patterns for the DNs and FQANs of pilots, kept apart so that neither can pose as the other.

    `*` stands for any characters but a slash, so it never reaches beyond its component.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._everybody = False
        self._dns: list[re.Pattern[str]] = []
        self._fqans: list[re.Pattern[str]] = []
        for entry in entries:
            if wrong := trouble(entry):
                raise refuse(Reason.CONFIG_INVALID, f"{entry[:80]!r} {wrong}.")
            self._everybody = self._everybody or entry == EVERYBODY
            pattern = re.compile("[^/]*".join(re.escape(part) for part in entry.split("*")))
            (self._dns if _is_dn(entry) else self._fqans).append(pattern)

    def admit(self, dn: str, fqans: Iterable[str]) -> bool:
        """Tell whether a pilot is one of them."""
        return (
            self._everybody
            or any(pattern.fullmatch(dn) for pattern in self._dns)
            or any(pattern.fullmatch(fqan) for fqan in fqans for pattern in self._fqans)
        )


class Admitted(msgspec.Struct, frozen=True):
    """Of which VOs one pilot gets credentials: those with a table, each by name, and all others."""

    named: Mapping[str, bool]
    others: bool

    def refused(self, vos: Sequence[str]) -> str | None:
        """Return the first VO that keeps a credential of these VOs from the pilot (PLAIN where there are none)."""
        for vo in vos or (PLAIN,):
            if not self.named.get(vo, self.others):
                return vo
        return None


class _Row(msgspec.Struct, frozen=True):
    """A table of the policy, filled in and ready for use."""

    limits: Limits
    targets: Targets


class RetrievalPolicy:
    """Answer for a VO and a pilot. What a pilot may have is worked out once and remembered."""

    def __init__(
        self,
        default: RetrievalRules = INHERITED,
        plain: RetrievalRules = INHERITED,
        vos: Mapping[str, RetrievalRules] | None = None,
    ) -> None:
        self._default = _row(default, BUILT_IN)
        filled = _filled(default, BUILT_IN)
        self._named = {vo: _row(rules, filled) for vo, rules in {**(vos or {}), PLAIN: plain}.items()}
        self._of_pilot = functools.lru_cache(LARGEST_CACHE)(self._work_out)

    def admitted(self, pilot: Principal) -> Admitted:
        """Return the VOs of which a pilot gets credentials."""
        return self._of_pilot(pilot.dn, pilot.fqans)

    def limits(self, vos: Sequence[str], pilot: Principal) -> Limits:
        """Return what a proxy of a credential of these VOs may be for a pilot; raise TARGET_REFUSED if it gets none."""
        refused = self.admitted(pilot).refused(vos)
        if refused is not None:
            what = f"credentials of the VO {refused}" if refused else "credentials without VO attributes"
            raise refuse(Reason.TARGET_REFUSED, f"The policy does not let the pilot {pilot.dn} have {what}.")
        first, *more = (self._named.get(vo, self._default).limits for vo in vos or (PLAIN,))
        return functools.reduce(Limits.narrowed, more, first)

    def _work_out(self, dn: str, fqans: tuple[str, ...]) -> Admitted:
        named = {vo: row.targets.admit(dn, fqans) for vo, row in self._named.items()}
        return Admitted(named, self._default.targets.admit(dn, fqans))


def vos_of(fqans: Iterable[str]) -> tuple[str, ...]:
    """Return the VOs of a credential's attributes, in the order of their names; none for a plain one."""
    return tuple(sorted({fqan[1:].partition("/")[0] for fqan in fqans}))


def _filled(rules: RetrievalRules, default: RetrievalRules) -> RetrievalRules:
    said = {name: value for name, value in msgspec.structs.asdict(rules).items() if value is not msgspec.UNSET}
    return msgspec.structs.replace(default, **said)


def _row(rules: RetrievalRules, default: RetrievalRules) -> _Row:
    whole = _filled(rules, default)
    # Every rule is set in what was filled in from BUILT_IN.
    assert not isinstance(whole.max_lifetime_seconds, Unset)
    assert not isinstance(whole.targets, Unset)
    length = whole.path_length if isinstance(whole.path_length, int) else None
    lifetime = datetime.timedelta(seconds=whole.max_lifetime_seconds)
    return _Row(Limits(lifetime, whole.proxy == "limited", length), Targets(whole.targets))


def _is_dn(entry: str) -> bool:
    """Tell a DN from an FQAN by its first component, as roles do."""
    return "=" in entry[1:].partition("/")[0]


def trouble(entry: str) -> str:
    """Return what is wrong with a target, or an empty text."""
    if entry == EVERYBODY:
        return ""
    if _is_dn(entry):
        return "" if _DN.fullmatch(entry) else "is not a DN in slash form"
    if entry.endswith("=NULL"):
        return "names no role; write it without /Role=NULL and /Capability=NULL"
    return "" if _FQAN.fullmatch(entry) else 'is neither a DN (/O=...), nor an FQAN (/vo...), nor "*"'


def mistakes(default: RetrievalRules, plain: RetrievalRules, vos: Mapping[str, RetrievalRules]) -> Iterator[str]:
    """Yield what is wrong with a policy, each with its place."""
    for vo in vos:
        try:
            check_vo(vo)
        except PilotageError as error:
            yield f"retrieval.vo: {error.message.removesuffix('.')}"
    for name, rules in (("default", default), ("plain", plain), *((f"vo.{vo}", rules) for vo, rules in vos.items())):
        place = f"retrieval.{name}"
        seconds, length = rules.max_lifetime_seconds, rules.path_length
        if isinstance(seconds, int) and not 0 < seconds <= LONGEST_LIFETIME_SECONDS:
            yield f"{place}.max_lifetime_seconds: {seconds} is not between 1 and {LONGEST_LIFETIME_SECONDS}"
        if isinstance(length, int) and not 0 <= length <= LARGEST_PATH_LENGTH:
            yield f"{place}.path_length: {length} is not between 0 and {LARGEST_PATH_LENGTH}"
        for entry in () if isinstance(rules.targets, Unset) else rules.targets:
            if wrong := trouble(entry):
                yield f"{place}.targets: {entry[:80]!r} {wrong}"
