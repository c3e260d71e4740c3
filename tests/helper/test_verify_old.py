"""Proxies of GT2, older than RFC 3820: refused, unless the site's policy takes them."""

import pytest
from cryptography import x509

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_chain, verify_pem
from support import acs
from support import vectors as v
from support.verifying import refused, why, with_


@pytest.fixture
def accepting(options: VerifyOptions) -> VerifyOptions:
    return with_(options, accept_old=True)


def old(issuer: v.Entity, cn: str = "proxy", **changes: object) -> v.Entity:
    """Sign a proxy as grid-proxy-init -old does; its key is of another number for each depth."""
    fields: dict[str, object] = {
        "subject": v.below(issuer.certificate.subject, cn),
        "extensions": ((v.PROXY_USAGE, True),),
        "serial": issuer.certificate.serial_number,
        "key": v.key("rsa", 6 + len(issuer.chain)),
        "key_ids": False,
    }
    return v.proxy(issuer, **(fields | changes))


def test_they_are_refused_unless_the_policy_says_so(
    grid: v.Authority, options: VerifyOptions, accepting: VerifyOptions
) -> None:
    for proxy in (old(grid.user()), old(grid.user(), "limited proxy"), old(old(grid.user()))):
        assert why(proxy.pem, options) is Reason.PROXY_LEGACY
        who = verify_pem(proxy.pem, with_(accepting, require_key=True, require_proxy=True))
        assert who.dn == "/O=Test Grid/CN=alice"
        assert (who.depth, who.is_proxy, who.has_key) == (len(proxy.above), True, True)
        assert who.limited == ("limited" in proxy.certificate.subject.rfc4514_string())
    assert verify_chain(old(grid.user()).der, accepting).depth == 1
    # What was good before is so still.
    assert verify_pem(v.proxy(grid.user()).pem, accepting).depth == 1


def test_a_limited_one_stays_limited(grid: v.Authority, accepting: VerifyOptions) -> None:
    limited = old(grid.user(), "limited proxy")
    assert verify_pem(old(limited, "limited proxy").pem, accepting).limited
    assert why(old(limited).pem, accepting) is Reason.PROXY_FULL_UNDER_LIMITED
    assert verify_pem(old(old(grid.user()), "limited proxy").pem, accepting).limited
    assert why(limited.pem, with_(accepting, refuse_limited=True)) is Reason.PROXY_LIMITED


def test_kinds_are_not_mixed(grid: v.Authority, accepting: VerifyOptions) -> None:
    assert why(v.proxy(old(grid.user())).pem, accepting) is Reason.PROXY_LEGACY
    assert why(old(v.proxy(grid.user())).pem, accepting) is Reason.PROXY_LEGACY


def test_the_draft_between_them_is_refused(grid: v.Authority, accepting: VerifyOptions) -> None:
    draft = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222"), v.proxy_info())
    for cn in ("123", "proxy"):
        proxy = old(grid.user(), cn, extensions=((draft, False), (v.PROXY_USAGE, True)))
        assert why(proxy.pem, accepting) is Reason.PROXY_LEGACY


def test_the_signature_is_the_certificates_above(grid: v.Authority, accepting: VerifyOptions) -> None:
    alice, thief = grid.user(), v.Entity(grid.user().certificate, v.key("rsa", 9), grid.user().above)
    assert why(old(thief).pem, accepting) is Reason.CHAIN_SIGNATURE
    above = old(alice)
    stolen = v.Entity(above.certificate, v.key("rsa", 5), above.above)
    assert why(old(stolen).pem, accepting) is Reason.CHAIN_SIGNATURE


def test_no_byte_of_it_can_be_changed(grid: v.Authority, accepting: VerifyOptions) -> None:
    leaf, *above = old(grid.user()).der
    verify_chain([leaf, *above], accepting)
    for at in range(0, len(leaf), 3):
        changed = leaf[:at] + bytes([leaf[at] ^ 1 << at % 8]) + leaf[at + 1 :]
        refused(lambda changed=changed: verify_chain([changed, *above], accepting))  # type: ignore[misc]


@pytest.mark.parametrize("cn", ["Proxy", "proxy ", "limited  proxy", "limited proxy2", ""])
def test_another_name_makes_no_proxy(grid: v.Authority, accepting: VerifyOptions, cn: str) -> None:
    if cn:
        refused(lambda: verify_pem(old(grid.user(), cn).pem, accepting))
    else:
        # The user's own certificate may not sign others.
        other = old(grid.user(), subject=v.name("bob", "proxy"))
        refused(lambda: verify_pem(other.pem, accepting))


def test_two_names_more_are_no_proxy(grid: v.Authority, accepting: VerifyOptions) -> None:
    alice = grid.user()
    refused(lambda: verify_pem(old(alice, subject=v.below(alice.certificate.subject, "x", "proxy")).pem, accepting))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"start": v.NOW - 2 * v.HOUR, "end": v.NOW - v.HOUR}, Reason.PROXY_EXPIRED),
        ({"start": v.NOW + v.DAY, "end": v.NOW + 2 * v.DAY}, Reason.CERTIFICATE_NOT_YET_VALID),
        ({"key": v.key("rsa1024", 7)}, Reason.KEY_TOO_WEAK),
        ({"extensions": ((v.usage("key_cert_sign"), True),)}, Reason.PROXY_KEY_USAGE),
        (
            {"extensions": ((x509.BasicConstraints(ca=True, path_length=None), True),)},
            Reason.PROXY_FORBIDDEN_EXTENSION,
        ),
        (
            {"extensions": ((x509.SubjectAlternativeName([x509.DNSName("x.org")]), False),)},
            Reason.PROXY_FORBIDDEN_EXTENSION,
        ),
        ({"extensions": ((x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]), False),)}, Reason.PROXY_KEY_USAGE),
    ],
)
def test_the_rules_for_proxies_hold_for_them(
    grid: v.Authority, accepting: VerifyOptions, changes: dict[str, object], reason: Reason
) -> None:
    assert why(old(grid.user(), "proxy", **changes).pem, accepting) is reason


def test_an_authority_has_no_proxies(grid: v.Authority, accepting: VerifyOptions) -> None:
    assert why(old(grid.entity).pem, accepting) is Reason.CA_AS_END_ENTITY


def test_the_owners_certificate_is_verified_as_ever(grid: v.Authority, accepting: VerifyOptions) -> None:
    alice = grid.user()
    grid.revoked.append(alice.certificate.serial_number)
    grid.write_crl()
    assert why(old(alice).pem, accepting) is Reason.CERTIFICATE_REVOKED


def test_attributes_in_them_are_verified(
    good: acs.Ac, alice: v.Entity, accepting: VerifyOptions, grid: v.Authority
) -> None:
    carried = x509.UnrecognizedExtension(acs.EXTENSION, acs.value(good))
    proxy = old(alice, extensions=((carried, False), (v.PROXY_USAGE, True)))
    assert verify_pem(proxy.pem, accepting).fqans[0] == "/demo/Role=analysis"
    bob = old(grid.user("bob"), extensions=((carried, False), (v.PROXY_USAGE, True)))
    assert why(bob.pem, accepting) is Reason.VOMS_HOLDER
