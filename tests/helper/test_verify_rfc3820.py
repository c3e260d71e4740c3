"""RFC 3820, rule by rule."""

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_chain, verify_pem
from support import vectors as v
from support.verifying import refused, why


def bad_proxy(issuer: v.Entity, value: bytes) -> bytes:
    return v.proxy(issuer, extensions=v.proxy_extensions(value)).pem


def test_a_proxy_info_that_is_not_critical_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user(), extensions=v.proxy_extensions(critical=False))
    assert why(proxy.pem, options) is Reason.PROXY_NOT_CRITICAL


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x05\x00",
        v.sequence(),
        v.proxy_info(path=-1),
        v.proxy_info(policy=b"text"),
        v.proxy_info(v.LIMITED, policy=b"text"),
        v.proxy_info() + b"\0",
        v.sequence(v.integer(2**70), v.sequence(v.oid(v.INHERIT_ALL))),
        v.sequence(b"\x02\x02\x00\x01", v.sequence(v.oid(v.INHERIT_ALL))),
        v.sequence(v.sequence(v.oid(v.INHERIT_ALL)), v.integer(1)),
    ],
)
def test_a_malformed_proxy_info_is_refused(value: bytes, grid: v.Authority, options: VerifyOptions) -> None:
    assert why(bad_proxy(grid.user(), value), options) is Reason.PROXY_INFO_MALFORMED


def test_a_proxy_info_that_stands_twice_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    marker = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.15"), v.proxy_info(v.LIMITED))
    proxy = v.proxy(grid.user(), extensions=v.proxy_extensions(more=((marker, True),)))
    twice = v.altered(
        proxy.certificate, grid.user().key, v.oid("1.3.6.1.5.5.7.1.15"), v.oid(v.PROXY_INFO.dotted_string)
    )
    assert refused(lambda: verify_chain([twice, proxy.der[1]], options)) is Reason.PROXY_INFO_MALFORMED


@pytest.mark.parametrize("language", [v.INDEPENDENT, "1.3.6.1.5.5.7.21.0", "1.2.3.4"])
def test_a_proxy_that_does_not_speak_for_its_owner_is_refused(
    language: str, grid: v.Authority, options: VerifyOptions
) -> None:
    assert why(bad_proxy(grid.user(), v.proxy_info(language)), options) is Reason.PROXY_POLICY_UNSUPPORTED


def test_a_path_length_bounds_the_proxies_below(grid: v.Authority, options: VerifyOptions) -> None:
    none = v.proxy(grid.user(), extensions=v.proxy_extensions(v.proxy_info(path=0)))
    one = v.proxy(grid.user(), extensions=v.proxy_extensions(v.proxy_info(path=1)))
    assert verify_pem(none.pem, options).depth == 1
    assert verify_pem(v.proxy(one).pem, options).depth == 2
    assert why(v.proxy(none).pem, options) is Reason.PROXY_PATH_LENGTH
    assert why(v.proxy(v.proxy(one)).pem, options) is Reason.PROXY_PATH_LENGTH


def test_a_full_proxy_below_a_limited_one_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    limited = v.proxy(grid.user(), extensions=v.proxy_extensions(v.proxy_info(v.LIMITED)))
    assert why(v.proxy(limited).pem, options) is Reason.PROXY_FULL_UNDER_LIMITED


def test_a_proxys_name_is_its_issuers_and_one_common_name(grid: v.Authority, options: VerifyOptions) -> None:
    user = grid.user()
    own = user.certificate.subject
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x")
    both = x509.RelativeDistinguishedName([v.cn_("1"), organisation])
    for subject in (
        v.below(own, "1", "2"),
        own,
        v.name("mallory", "1"),
        x509.Name([*own.rdns, x509.RelativeDistinguishedName([organisation])]),
        x509.Name([*own.rdns, both]),
    ):
        assert why(v.proxy(user, subject=subject).pem, options) is Reason.PROXY_NAME


def test_an_issuers_name_that_was_encoded_anew_is_another_name(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user())
    old, new = v.tlv(0x0C, b"alice"), v.tlv(0x13, b"alice")
    leaf = v.altered(proxy.certificate, grid.user().key, old, new)
    assert refused(lambda: verify_chain([leaf, proxy.der[1]], options)) is Reason.PROXY_NAME


@pytest.mark.parametrize("bits", [("key_encipherment",), ("digital_signature", "key_cert_sign")])
def test_a_proxy_must_be_able_to_sign_but_not_certificates(
    bits: tuple[str, ...], grid: v.Authority, options: VerifyOptions
) -> None:
    info = v.proxy_extensions()[0]
    proxy = v.proxy(grid.user(), extensions=(info, (v.usage(*bits), True)))
    assert why(proxy.pem, options) is Reason.PROXY_KEY_USAGE


def test_the_issuer_of_a_proxy_must_be_able_to_sign(grid: v.Authority, options: VerifyOptions) -> None:
    user = grid.user(extensions=((v.usage("key_encipherment"), True),))
    assert why(v.proxy(user).pem, options) is Reason.PROXY_KEY_USAGE


def test_a_certificate_for_something_else_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    mail = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    user = grid.user(extensions=(*v.USER_EXTENSIONS[:2], mail))
    assert why(v.proxy(user).pem, options) is Reason.PROXY_KEY_USAGE


def test_a_proxy_with_another_name_or_an_authoritys_rights_is_refused(
    grid: v.Authority, options: VerifyOptions
) -> None:
    names = [x509.DNSName("example.org")]
    for extension in (
        x509.SubjectAlternativeName(names),
        x509.IssuerAlternativeName(names),
        x509.BasicConstraints(ca=True, path_length=None),
    ):
        proxy = v.proxy(grid.user(), extensions=v.proxy_extensions(more=((extension, False),)))
        assert why(proxy.pem, options) is Reason.PROXY_FORBIDDEN_EXTENSION


def test_a_critical_extension_that_nobody_knows_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    proxy = v.proxy(grid.user(), extensions=v.proxy_extensions(more=((unknown, True),)))
    assert why(proxy.pem, options) is Reason.CRITICAL_EXTENSION
    user = grid.user(extensions=(*v.USER_EXTENSIONS, (unknown, True)))
    assert why(v.pem(user.certificate), options) is Reason.CRITICAL_EXTENSION
    sub = grid.sub("Sub CA", grid.ca_dir, extensions=(*v.CA_EXTENSIONS, (unknown, True)))
    sub.install()
    assert why(sub.user("bob").pem, options) is Reason.CRITICAL_EXTENSION


def test_an_extension_that_stands_twice_is_malformed(grid: v.Authority, options: VerifyOptions) -> None:
    marker = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"\x03\x02\x07\x80")
    user = grid.user(extensions=(*v.USER_EXTENSIONS, (marker, False)))
    twice = v.altered(user.certificate, grid.entity.key, v.oid("2.5.29.99"), v.oid("2.5.29.15"))
    assert refused(lambda: verify_chain([twice], options)) is Reason.PROXY_MALFORMED


@pytest.mark.parametrize("cn", ["proxy", "limited proxy"])
def test_proxies_of_the_old_kind_are_refused(cn: str, grid: v.Authority, options: VerifyOptions) -> None:
    user = grid.user()
    legacy = v.proxy(user, subject=v.below(user.certificate.subject, cn), extensions=((v.PROXY_USAGE, True),))
    assert why(legacy.pem, options) is Reason.PROXY_LEGACY
    assert why(v.proxy(legacy).pem, options) is Reason.PROXY_LEGACY


def test_proxies_of_the_draft_are_refused(grid: v.Authority, options: VerifyOptions) -> None:
    draft = x509.UnrecognizedExtension(v.GT3_DRAFT, v.proxy_info())
    proxy = v.proxy(grid.user(), extensions=((draft, False), (v.PROXY_USAGE, True)))
    assert why(proxy.pem, options) is Reason.PROXY_LEGACY


def test_an_rfc_proxy_may_be_called_proxy(grid: v.Authority, options: VerifyOptions) -> None:
    user = grid.user()
    assert verify_pem(v.proxy(user, subject=v.below(user.certificate.subject, "proxy")).pem, options).depth == 1
