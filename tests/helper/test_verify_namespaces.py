"""Namespaces files bind every authority of the chain beside its signing_policy, and never loosen it."""

import os
from pathlib import Path

import pytest

from pilotage.errors import VerifyError
from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_pem
from support import acs
from support import vectors as v
from support.verifying import no, why, with_

ALL = 'SELF PERMIT Subject "/O=Test Grid/.*"'
NOBODY = 'SELF PERMIT Subject "/O=Nobody"'


@pytest.fixture
def proxy(grid: v.Authority) -> bytes:
    return v.proxy(grid.user()).pem


def detail(pem: bytes, options: VerifyOptions) -> str:
    with pytest.raises(VerifyError) as caught:
        verify_pem(pem, options)
    return caught.value.message


def test_a_name_needs_a_permit(grid: v.Authority, options: VerifyOptions, proxy: bytes) -> None:
    assert verify_pem(proxy, options).depth == 1
    for good in (
        ALL,
        f'"{grid.slash}" PERMIT Subject "/O=Test Grid/CN=alice"',
        f'"{grid.slash}" \\\n  PERMIT Subject "/O=Test.Grid/CN=a.*" # as\n# the federation writes it',
    ):
        grid.write_namespaces(good)
        assert verify_pem(proxy, options).depth == 1
    for bad in (
        'SELF PERMIT Subject "/O=Test Grid/CN=b.*"',
        'SELF PERMIT Subject "/O=Test Grid"',
        'SELF DENY Subject "/O=Other"',
        '"/O=Test Grid/CN=Another CA" PERMIT Subject ".*"',
    ):
        grid.write_namespaces(bad)
        assert why(proxy, options) is Reason.NAMESPACES_VIOLATION
    grid.file(".namespaces").write_text("# nothing\n")
    assert why(proxy, options) is Reason.NAMESPACES_VIOLATION
    assert grid.slash in detail(proxy, options)


def test_one_deny_refuses_in_whatever_order(grid: v.Authority, options: VerifyOptions, proxy: bytes) -> None:
    deny = 'SELF DENY Subject "/O=Test Grid/CN=al.*"'
    for statements in ((ALL, deny), (deny, ALL), (ALL, deny, ALL)):
        grid.write_namespaces(*statements)
        assert why(proxy, options) is Reason.NAMESPACES_VIOLATION
        assert verify_pem(v.proxy(grid.user("bob")).pem, options).depth == 1


def test_both_files_must_agree(grid: v.Authority, options: VerifyOptions, proxy: bytes) -> None:
    grid.write_namespaces(ALL)
    grid.write_policy("'/O=Other/*'")
    assert why(proxy, options) is Reason.SIGNING_POLICY_VIOLATION
    grid.file(".signing_policy").unlink()
    assert why(proxy, options) is Reason.SIGNING_POLICY_MISSING
    grid.write_policy("'/O=Test Grid/*'")
    grid.write_namespaces(NOBODY)
    assert why(proxy, options) is Reason.NAMESPACES_VIOLATION
    assert verify_pem(proxy, with_(options, require_signing_policy=False)).depth == 1


def test_a_malformed_file_refuses_with_its_line(grid: v.Authority, options: VerifyOptions, proxy: bytes) -> None:
    grid.write_namespaces(ALL, '"/O=Other/CN=CA" PERMIT Subject "/O=Other/*"')
    assert why(proxy, options) is Reason.NAMESPACES_MALFORMED
    assert detail(proxy, options) == f"line 3 of {grid.hash}.namespaces is no statement of a namespaces file"
    grid.file(".namespaces").write_text(f"#NAMESPACES-VERSION: 1.1\nTO Issuer {ALL}\n")
    assert why(proxy, options) is Reason.NAMESPACES_MALFORMED


def test_a_file_of_another_hash_says_nothing(grid: v.Authority, options: VerifyOptions, proxy: bytes) -> None:
    grid.write_namespaces(NOBODY)
    grid.file(".namespaces").rename(grid.ca_dir / "00000000.namespaces")
    assert verify_pem(proxy, options).depth == 1


def test_an_intermediate_authority_is_bound_by_its_file_and_by_those_above(
    grid: v.Authority, options: VerifyOptions
) -> None:
    sub = grid.sub("Sub CA", grid.ca_dir)
    sub.install()
    bob = v.proxy(sub.user("bob")).pem
    grid.write_namespaces('SELF PERMIT Subject "/O=Test Grid/CN=Other CA"')
    assert why(bob, options) is Reason.NAMESPACES_VIOLATION
    own = f'SELF PERMIT Subject "{sub.slash}"'
    grid.write_namespaces(own)
    assert verify_pem(bob, options).depth == 1
    # The root's word on the sub-authority, which has no file of its own.
    grid.write_namespaces(own, f'"{sub.slash}" PERMIT Subject "/O=Test Grid/CN=c.*"')
    assert why(bob, options) is Reason.NAMESPACES_VIOLATION
    grid.write_namespaces(own, f'"{sub.slash}" PERMIT Subject "/O=Test Grid/CN=b.*"')
    assert verify_pem(bob, options).depth == 1
    # A file of its own that speaks of others only leaves the decision to the root's.
    sub.write_namespaces(f'"{grid.slash}" PERMIT Subject ".*"')
    assert verify_pem(bob, options).depth == 1
    # Neither overrules the other.
    sub.write_namespaces('SELF PERMIT Subject "/O=Test Grid/CN=c.*"')
    assert why(bob, options) is Reason.NAMESPACES_VIOLATION
    sub.write_namespaces(ALL)
    grid.write_namespaces(own, f'"{sub.slash}" PERMIT Subject "/O=Test Grid/CN=c.*"')
    assert why(bob, options) is Reason.NAMESPACES_VIOLATION
    # SELF in the root's file is the root.
    grid.write_namespaces(own, 'SELF DENY Subject "/O=Test Grid/CN=bob"')
    assert verify_pem(bob, options).depth == 1


def test_a_voms_server_is_bound_too(grid: v.Authority, alice: v.Entity, good: acs.Ac, options: VerifyOptions) -> None:
    grid.write_namespaces('SELF PERMIT Subject "/O=Test Grid/CN=alice"')
    assert no(alice, options, good) is Reason.VOMS_AA_CHAIN


def test_a_file_that_cannot_be_used_refuses(grid: v.Authority, options: VerifyOptions, proxy: bytes) -> None:
    path = grid.file(".namespaces")
    path.write_text("#" * (64 * 1024 + 1))
    assert why(proxy, options) is Reason.CA_DIRECTORY_UNUSABLE
    path.unlink()
    path.mkdir()
    assert why(proxy, options) is Reason.CA_DIRECTORY_UNUSABLE
    path.rmdir()
    path.symlink_to("gone.namespaces")
    assert why(proxy, options) is Reason.CA_DIRECTORY_UNUSABLE
    (grid.ca_dir / "gone.namespaces").write_text(f"TO Issuer {ALL}\n")
    assert verify_pem(proxy, options).depth == 1


@pytest.mark.root
def test_a_file_that_others_may_write_refuses_root(grid: v.Authority, options: VerifyOptions, proxy: bytes) -> None:
    grid.write_namespaces(ALL)
    path: Path = grid.file(".namespaces")
    for mode in (0o664, 0o646):
        path.chmod(mode)
        assert why(proxy, options) is Reason.CA_DIRECTORY_UNUSABLE
    path.chmod(0o644)
    os.chown(path, 65534, 0)
    assert why(proxy, options) is Reason.CA_DIRECTORY_UNUSABLE
    os.chown(path, 0, 0)
    assert verify_pem(proxy, options).depth == 1
