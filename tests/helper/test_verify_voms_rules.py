"""Each rule for an attribute certificate refuses the whole chain when it is broken."""

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions
from support import acs
from support import vectors as v
from support.verifying import ask, no, why, with_


def test_the_version_is_two(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    assert no(alice, options, good.with_(version=0)) is Reason.VOMS_VERSION
    assert no(alice, options, good.with_(version=2)) is Reason.VOMS_VERSION


def test_the_algorithm_is_one_both_times_and_fits_the_key(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac
) -> None:
    bare = v.sequence(v.oid("1.2.840.113549.1.1.11"))
    for changed in (
        good.with_(algorithm=v.SHA1_RSA),
        good.with_(algorithm=bare),
        good.with_(outer_algorithm=acs.SHA512_RSA),
        good.with_(algorithm=acs.ECDSA_SHA256),
        good.with_(algorithm=v.sequence(v.oid("1.2.3.4"))),
    ):
        assert no(alice, options, changed) is Reason.VOMS_ALGORITHM


def test_the_attributes_are_the_end_entitys_own(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, grid: v.Authority
) -> None:
    bob = grid.user("bob")
    two = v.sequence(*(v.tlv(0xA4, n.public_bytes()) for n in (alice.certificate.subject, bob.certificate.subject)))
    anew = v.sequence(v.tlv(0xA4, alice.certificate.subject.public_bytes().replace(b"\x0c\x05", b"\x13\x05")))
    for changed in (
        good.with_(holder=bob.certificate),
        good.with_(holder_serial=alice.certificate.serial_number + 1),
        good.with_(holder_name=acs.directory_name(bob.certificate.subject)),
        good.with_(holder_name=two),
        good.with_(holder_name=anew),
        good.with_(holder_name=v.sequence(acs.uri("x"))),
    ):
        assert no(alice, options, changed) is Reason.VOMS_HOLDER


def test_a_proxys_own_name_does_not_make_it_the_holder(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    first = v.proxy(alice)
    ac = good.with_(holder=first.certificate)
    assert why(acs.proxy(first, acs.value(ac)).pem, options) is Reason.VOMS_HOLDER


def test_the_issuer_is_the_certificate_that_is_carried(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, grid: v.Authority
) -> None:
    other = acs.directory_name(grid.entity.certificate.subject)
    assert no(alice, options, good.with_(issuer_name=other)) is Reason.VOMS_ISSUER
    assert no(alice, options, good.with_(issuer_name=v.sequence(acs.uri("x")))) is Reason.VOMS_ISSUER


def test_times_are_bounded_and_of_one_form(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    for changed, reason in (
        (good.with_(end=v.NOW - v.HOUR / 2), Reason.VOMS_EXPIRED),
        (good.with_(start=v.NOW + v.DAY, end=v.NOW + 2 * v.DAY), Reason.VOMS_NOT_YET_VALID),
        (good.with_(end=good.start), Reason.VOMS_LIFETIME),
        (good.with_(end=good.start - v.HOUR), Reason.VOMS_LIFETIME),
        (good.with_(end=v.NOW + 9 * v.DAY), Reason.VOMS_LIFETIME),
    ):
        assert no(alice, options, changed) is reason
    short = with_(options, max_voms_seconds=3600)
    assert no(alice, short, good) is Reason.VOMS_LIFETIME
    for text in (b"20261121060000+0100", b"202611210600Z", b"20261121060000.5Z", b"20261341060000Z"):
        odd = v.sequence(v.tlv(0x18, text), acs.moment(good.end))
        assert no(alice, options, good.with_(validity=odd)) is Reason.VOMS_MALFORMED


def test_a_signature_with_unused_bits_is_refused(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    # A last bit that is 0 may be called unused in DER, and OpenSSL verifies whole bytes: only the rule refuses it.
    even = next(ac for ac in (good.with_(serial=number) for number in range(1, 100)) if ac.der[-1] & 1 == 0)
    assert ask(alice, options, even).vo == "demo"
    key = good.server.entity.key
    assert isinstance(key, rsa.RSAPrivateKey)
    der, at = even.der, -key.key_size // 8 - 1
    assert der[at] == 0
    assert no(alice, options, der[:at] + b"\1" + der[at + 1 :]) is Reason.VOMS_MALFORMED


def test_there_is_exactly_one_list_of_attributes(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    one = v.sequence(v.oid(acs.ATTRIBUTE), v.tlv(0x31, good.syntax()))
    other = v.sequence(v.oid("1.2.3.4"), v.tlv(0x31, good.syntax()))
    two = v.sequence(v.oid(acs.ATTRIBUTE), v.tlv(0x31, good.syntax(), good.syntax()))
    for attributes in (v.sequence(one, one), v.sequence(other), v.sequence(two), v.sequence()):
        assert no(alice, options, good.with_(attributes=attributes)) is Reason.VOMS_ATTRIBUTES
    assert no(alice, options, good.with_(fqans=())) is Reason.VOMS_ATTRIBUTES


@pytest.mark.parametrize(
    "text",
    [
        "demo://voms.example.org",
        "demo://voms.example.org:0",
        "demo://voms.example.org:65536",
        "demo://voms.example.org:15000/",
        "demo:voms.example.org:15000",
        "://voms.example.org:15000",
        "../etc://voms.example.org:15000",
        "demo/..://voms.example.org:15000",
        "..://voms.example.org:15000",
        "demo://../voms.example.org:15000",
        "demo://..:15000",
        "demo://-x:15000",
        "demo\0://voms.example.org:15000",
        "demo://voms.example.org\n:15000",
        "d" * 300 + "://voms.example.org:15000",
        "demo://" + "h" * 300 + ":15000",
        "",
    ],
)
def test_the_server_is_named_as_vo_host_and_port(
    text: str, alice: v.Entity, options: VerifyOptions, good: acs.Ac
) -> None:
    assert no(alice, options, good.with_(authority=acs.uri(text))) is Reason.VOMS_URI


def test_there_is_one_server_and_it_is_a_uri(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    one = acs.uri("demo://voms.example.org:15000")
    assert no(alice, options, good.with_(authority=one + one)) is Reason.VOMS_URI
    assert no(alice, options, good.with_(authority=v.tlv(0x82, b"voms.example.org"))) is Reason.VOMS_URI


@pytest.mark.parametrize(
    "fqan",
    [
        "",
        "demo",
        "/",
        "/other",
        "/demo2",
        "/demo/",
        "/demo//x",
        "/demo/Role=",
        "/demo/Role=a/Role=b",
        "/demo/Role=a/x",
        "/demo/Capability=NULL/Role=a",
        "/demo/sp ace",
        "/demo/a=b",
        "/demo/..",
        "/demo/\x1b",
        "/demo/x\n/demo/Role=admin",
        "/demo/é",
        b"/demo/x\0",
        "/demo/" + "x" * 250,
    ],
)
def test_what_is_not_an_fqan_of_the_vo_is_refused(
    fqan: str | bytes, alice: v.Entity, options: VerifyOptions, good: acs.Ac
) -> None:
    assert no(alice, options, good.with_(fqans=("/demo", fqan))) is Reason.VOMS_FQAN


def test_extensions_are_unique_and_only_targets_may_be_critical(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac
) -> None:
    null = acs.extension(acs.NO_REVOCATION, b"\x05\x00")
    for changed in (
        good.with_(more=null),
        good.with_(more=acs.extension("1.2.3.4", b"\x05\x00", critical=True)),
        good.with_(no_revocation=acs.extension(acs.NO_REVOCATION, b"\x05\x00", critical=True)),
        good.with_(no_revocation=acs.extension(acs.NO_REVOCATION, b"\x05\x01\x00")),
        good.with_(no_revocation=None),
    ):
        assert no(alice, options, changed) is Reason.VOMS_EXTENSION


@pytest.mark.parametrize("critical", [True, False])
def test_targets_are_enforced_critical_or_not(
    critical: bool, alice: v.Entity, options: VerifyOptions, good: acs.Ac
) -> None:
    def ac(value: bytes) -> acs.Ac:
        return good.with_(more=acs.extension(acs.TARGETS, value, critical=critical))

    here = with_(options, host="wn7.example.org")
    assert ask(alice, here, ac(acs.targets("x.org", "WN7.example.org"))).vo == "demo"
    assert no(alice, here, ac(acs.targets("wn8.example.org"))) is Reason.VOMS_TARGET
    assert no(alice, here, ac(acs.targets())) is Reason.VOMS_TARGET
    assert no(alice, here, ac(b"\x05\x00")) is Reason.VOMS_TARGET
    assert no(alice, options, ac(acs.targets("wn7.example.org"))) is Reason.VOMS_TARGET


def test_the_authority_key_is_the_servers(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, grid: v.Authority
) -> None:
    other = acs.extension(acs.AUTHORITY_KEY, acs.key_identifier(grid.entity.certificate))
    assert no(alice, options, good.with_(authority_key=other)) is Reason.VOMS_AUTHORITY_KEY
    assert no(alice, options, good.with_(authority_key=b"")) is Reason.VOMS_AUTHORITY_KEY
    junk = acs.extension(acs.AUTHORITY_KEY, b"junk")
    assert no(alice, options, good.with_(authority_key=junk)) is Reason.VOMS_AUTHORITY_KEY
