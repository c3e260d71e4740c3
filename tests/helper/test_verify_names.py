"""A name has one text, or none."""

import subprocess

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_chain, verify_pem
from support import vectors as v
from support.verifying import refused, why


@pytest.mark.parametrize(
    "cn",
    ["alice\n", "al\x00ice", "alice\x1b[31m", "alice/O=Other", "a/CN=root", "a/1.2.3=b", "back\\slash", "a\\x41"],
)
def test_a_name_that_could_be_taken_for_another_is_refused(cn: str, grid: v.Authority, options: VerifyOptions) -> None:
    assert why(grid.user(cn).pem, options) is Reason.NAME_UNSUPPORTED
    assert why(v.proxy(grid.user(cn)).pem, options) is Reason.NAME_UNSUPPORTED


def test_an_rdn_of_two_attributes_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    pair = x509.RelativeDistinguishedName([v.cn_("alice"), x509.NameAttribute(NameOID.USER_ID, "alice")])
    subject = x509.Name([*v.name().rdns, pair])
    assert why(grid.user(subject=subject).pem, options) is Reason.NAME_UNSUPPORTED


def test_a_string_whose_bytes_are_not_its_text_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    user = grid.user("alice!")
    bmp = v.altered(user.certificate, grid.entity.key, v.tlv(0x0C, b"alice!"), v.tlv(0x1E, b"\0a\0b\0c"))
    bad = v.altered(user.certificate, grid.entity.key, v.tlv(0x0C, b"alice!"), v.tlv(0x0C, b"alic\xc3("))
    assert refused(lambda: verify_chain([bmp], options)) is Reason.NAME_UNSUPPORTED
    assert refused(lambda: verify_chain([bad], options)) is Reason.PROXY_MALFORMED


def test_a_name_that_is_too_long_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 64)] * 16
    subject = x509.Name([*v.name(), *attributes])
    assert why(grid.user(subject=subject).pem, options) is Reason.NAME_UNSUPPORTED


@pytest.mark.parametrize(
    ("attributes", "dn"),
    [
        ([v.cn_("host/node.example.org")], "/O=Test Grid/CN=host/node.example.org"),
        ([v.cn_("José")], "/O=Test Grid/CN=Jos\\xC3\\xA9"),
        ([v.cn_("a=b")], "/O=Test Grid/CN=a=b"),
        (
            [x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@b.org"), x509.NameAttribute(NameOID.USER_ID, "u")],
            "/O=Test Grid/emailAddress=a@b.org/UID=u",
        ),
        ([x509.NameAttribute(x509.ObjectIdentifier("1.2.3.4"), "odd")], "/O=Test Grid/1.2.3.4=odd"),
    ],
)
def test_names_are_written_as_openssls_one_line(
    attributes: list[x509.NameAttribute[str]], dn: str, grid: v.Authority, options: VerifyOptions
) -> None:
    user = grid.user(subject=x509.Name([*v.name(), *attributes]))
    assert verify_pem(user.pem, options).dn == dn
    command = ["openssl", "x509", "-noout", "-subject", "-nameopt", "compat"]
    shown = subprocess.run(command, input=user.pem, capture_output=True, check=True).stdout.decode().strip()
    # Newer OpenSSL writes a slash inside a value as "\\/"; grid files have it bare.
    assert shown.replace("\\/", "/") == f"subject={dn}"


def test_the_sdk_and_the_verifier_write_the_same_name(grid: v.Authority, options: VerifyOptions) -> None:
    names = pytest.importorskip("pilotage.x509.names")
    user = grid.user(subject=x509.Name([*v.name(), v.cn_("host/node.example.org"), v.cn_("José")]))
    assert names.slash_form(user.certificate.subject) == verify_pem(user.pem, options).dn


def test_a_time_without_a_zone_is_a_programmers_mistake(grid: v.Authority, options: VerifyOptions) -> None:
    naive = v.NOW.replace(tzinfo=None)
    with pytest.raises(ValueError, match="zone"):
        verify_pem(grid.user().pem, options, naive)
