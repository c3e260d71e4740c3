"""Revocation lists and signing_policy bind every authority of the chain."""

from cryptography import x509

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_pem
from support import vectors as v
from support.verifying import why, with_

# revocation


def test_a_revoked_certificate_is_refused_even_by_a_stale_list(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user()).pem
    grid.revoked.append(grid.user().certificate.serial_number)
    user = grid.user(serial=4711)
    grid.revoked.append(4711)
    grid.write_crl()
    assert verify_pem(proxy, options)
    assert why(v.proxy(user).pem, options) is Reason.CERTIFICATE_REVOKED
    grid.write_crl(days=-1)
    assert why(v.proxy(user).pem, options) is Reason.CERTIFICATE_REVOKED


def test_a_revoked_intermediate_authority_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    sub = grid.sub("Sub CA", grid.ca_dir, serial=815)
    sub.install()
    grid.revoked.append(815)
    grid.write_crl()
    assert why(v.proxy(sub.user("bob")).pem, options) is Reason.CERTIFICATE_REVOKED


def test_a_stale_list_is_an_error_whatever_the_policy(grid: v.Authority, options: VerifyOptions) -> None:
    grid.write_crl(days=-1)
    proxy = v.proxy(grid.user()).pem
    assert why(proxy, options) is Reason.CRL_EXPIRED
    assert why(proxy, with_(options, require_crl=False)) is Reason.CRL_EXPIRED


def test_a_missing_list_is_an_error_by_policy(grid: v.Authority, options: VerifyOptions) -> None:
    grid.file(".r0").unlink()
    proxy = v.proxy(grid.user()).pem
    assert why(proxy, options) is Reason.CRL_MISSING
    assert verify_pem(proxy, with_(options, require_crl=False)).depth == 1


def test_a_list_that_is_not_genuine_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user()).pem
    grid.write_crl(signer=v.key("rsa", 99))
    assert why(proxy, options) is Reason.CRL_INVALID
    assert why(proxy, with_(options, require_crl=False)) is Reason.CRL_INVALID
    grid.write_crl(start=v.NOW + v.DAY)
    assert why(proxy, options) is Reason.CRL_INVALID
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    grid.write_crl(extensions=((unknown, True),))
    assert why(proxy, options) is Reason.CRL_INVALID
    grid.write_crl(extensions=((x509.DeltaCRLIndicator(1), True),))
    assert why(proxy, options) is Reason.CRL_INVALID
    grid.file(".r0").write_text("-----BEGIN X509 CRL-----\n")
    assert why(proxy, options) is Reason.CRL_INVALID


def test_a_list_for_authorities_only_says_nothing_about_users(grid: v.Authority, options: VerifyOptions) -> None:
    scope = x509.IssuingDistributionPoint(None, None, False, True, None, False, False)
    grid.write_crl(extensions=((scope, True),))
    assert why(v.proxy(grid.user()).pem, options) is Reason.CRL_MISSING


def test_any_genuine_current_list_will_do(grid: v.Authority, options: VerifyOptions) -> None:
    grid.write_crl(days=-1)
    grid.file(".r0").rename(grid.file(".r1"))
    grid.write_crl()
    assert verify_pem(v.proxy(grid.user()).pem, options).depth == 1


# signing_policy


def test_a_missing_or_malformed_signing_policy_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user()).pem
    grid.file(".signing_policy").write_text("access_id_CA X509\n")
    assert why(proxy, options) is Reason.SIGNING_POLICY_MALFORMED
    grid.file(".signing_policy").unlink()
    assert why(proxy, options) is Reason.SIGNING_POLICY_MISSING
    assert verify_pem(proxy, with_(options, require_signing_policy=False)).depth == 1


def test_an_authority_signs_only_the_names_of_its_policy(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user()).pem
    grid.write_policy('\'"/O=Other/*" "/O=Test Grid/CN=b*"\'')
    assert why(proxy, options) is Reason.SIGNING_POLICY_VIOLATION
    grid.write_policy('\'"/O=Other/*" "/O=Test Grid/CN=a*"\'')
    assert verify_pem(proxy, options).depth == 1
    grid.write_policy("\"'/O=Test Grid/*'\"")
    assert verify_pem(proxy, options).depth == 1
    grid.write_policy("'/O=Test Grid/*'", right="CA:nothing")
    assert why(proxy, options) is Reason.SIGNING_POLICY_VIOLATION
    grid.write_policy("'/O=Test Grid/*'", issuer="/O=Test Grid/CN=Another CA")
    assert why(proxy, options) is Reason.SIGNING_POLICY_VIOLATION
