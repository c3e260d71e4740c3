"""How long a proxy may live, where a site says so."""

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_pem
from support import vectors as v
from support.verifying import why, with_


def living(issuer: v.Entity, hours: float, *, since: float = 0.0) -> v.Entity:
    begin = v.NOW - since * v.HOUR
    return v.proxy(issuer, start=begin, end=begin + hours * v.HOUR)


def test_a_proxy_may_live_as_long_as_the_site_says_and_the_skew(grid: v.Authority, options: VerifyOptions) -> None:
    bounded = with_(options, max_proxy_seconds=12 * 3600)
    assert verify_pem(living(grid.user(), 12).pem, bounded).depth == 1
    # grid-proxy-init lets a proxy begin five minutes ago.
    assert verify_pem(living(grid.user(), 12 + 5 / 60, since=5 / 60).pem, bounded).depth == 1
    assert why(living(grid.user(), 12.1).pem, bounded) is Reason.LIFETIME_TOO_LONG
    assert verify_pem(living(grid.user(), 24 * 6).pem, options).depth == 1


def test_what_counts_is_how_long_the_whole_chain_is_valid(grid: v.Authority, options: VerifyOptions) -> None:
    bounded = with_(options, max_proxy_seconds=12 * 3600)
    long = living(grid.user(), 24 * 6)
    assert verify_pem(living(long, 6).pem, bounded).depth == 2
    short = living(grid.user(), 6)
    assert verify_pem(living(short, 24).pem, bounded).depth == 2
    # That most of its life is over does not make it a short one.
    user = grid.user(start=v.NOW - v.DAY)
    assert why(living(user, 24, since=18).pem, bounded) is Reason.LIFETIME_TOO_LONG


def test_a_certificate_that_is_no_proxy_has_no_such_bound(grid: v.Authority, options: VerifyOptions) -> None:
    assert not verify_pem(grid.user().pem, with_(options, max_proxy_seconds=60)).is_proxy
