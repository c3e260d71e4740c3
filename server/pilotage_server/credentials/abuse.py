"""How much is too much. The configuration fills these in."""

import msgspec


class AbuseLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Rates, each per minute and at once or spread; and how many bad tokens within how long lead to a ban."""

    pilot_issues_per_minute: int = 1200
    """Proxies to one pilot: one DN with one key."""
    owner_issues_per_minute: int = 12_000
    """Proxies from all credentials of one owner."""
    owner_delegations_per_minute: int = 600
    refusals_per_minute: int = 600
    """Refused calls of a DN with one key, and ten times that of a DN; each is a row of the audit, more of them wait."""
    pilot_strikes: int = 10
    """Used, foreign, expired or altered tokens that ban a DN with one key."""
    dn_strikes: int = 100
    """The same, that ban a DN with whatever key."""
    strike_seconds: int = 3600
