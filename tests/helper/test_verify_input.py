"""Only a proxy file is a proxy file: bytes, keys and policy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_chain, verify_pem
from support import vectors as v
from support.verifying import refused, why, with_

# input


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pem: b"", Reason.PROXY_EMPTY),
        (lambda pem: b"nothing here\n", Reason.PROXY_EMPTY),
        (lambda pem: pem[:-20], Reason.PROXY_MALFORMED),
        (lambda pem: pem.replace(b"-----BEGIN", b"----BEGIN", 1), Reason.PROXY_MALFORMED),
        (lambda pem: pem.replace(b"-----END CERTIFICATE", b"-----END CERT", 1), Reason.PROXY_MALFORMED),
        (lambda pem: pem.replace(b"MII", b"M!I", 1), Reason.PROXY_MALFORMED),
        (lambda pem: pem.replace(b"MII", b"MI=I", 1), Reason.PROXY_MALFORMED),
        (lambda pem: b"\0" + pem, Reason.PROXY_MALFORMED),
        (lambda pem: pem + b"x" * 300_000, Reason.PROXY_TOO_LARGE),
        (lambda pem: v.block("CERTIFICATE", b"\x30\x03abc") + pem, Reason.PROXY_MALFORMED),
        (lambda pem: v.block("X509 CRL", b"\x30\x00") + pem, Reason.PROXY_MALFORMED),
        (lambda pem: v.key_pem(v.key()) + pem, Reason.PROXY_MALFORMED),
    ],
)
def test_input_that_is_not_a_proxy_file_is_refused(
    change: Callable[[bytes], bytes], reason: Reason, grid: v.Authority, options: VerifyOptions
) -> None:
    assert why(change(v.proxy(grid.user()).pem), options) is reason


def test_bytes_after_a_certificate_and_lax_lengths_are_refused(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user())
    data = proxy.der
    assert refused(lambda: verify_chain([*data, b"\0"], options)) is Reason.PROXY_MALFORMED
    assert refused(lambda: verify_chain([data[0][:-1], data[1]], options)) is Reason.PROXY_MALFORMED
    padded = v.block("CERTIFICATE", data[0] + b"\0\0") + v.pem(proxy.above[0])
    assert why(padded, options) is Reason.PROXY_MALFORMED
    assert data[0][:2] == b"\x30\x82"
    lax = b"\x30\x83\0" + data[0][2:]
    assert refused(lambda: verify_chain([lax, data[1]], options)) is Reason.PROXY_MALFORMED


def test_a_chain_with_too_many_proxies_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    entity = grid.user()
    for _ in range(11):
        entity = v.proxy(entity)
    assert why(entity.pem, options) is Reason.CHAIN_TOO_DEEP
    assert why(v.pem(entity.certificate) * 33, options) is Reason.CHAIN_TOO_DEEP


def test_any_certificate_beside_the_chain_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    proxy, stranger = v.proxy(grid.user()), grid.user("mallory")
    leaf, user = proxy.chain
    other = v.root(grid.ca_dir)  # the anchor's name and key, another certificate
    for chain in (
        (leaf, user, stranger.certificate),
        (leaf, stranger.certificate, user),
        (leaf, user, user),
        (leaf, user, other.entity.certificate),
        (leaf, user, grid.entity.certificate, stranger.certificate),
    ):
        assert why(v.chain_pem(chain), options) is Reason.PROXY_EXTRA_CERTIFICATE


def test_the_leaf_comes_first(grid: v.Authority, options: VerifyOptions) -> None:
    leaf, user = v.proxy(grid.user()).chain
    assert why(v.chain_pem([user, leaf]), options) is Reason.PROXY_EXTRA_CERTIFICATE


# keys and hashes


@pytest.mark.parametrize("kind", ["rsa1024", "ec256k1", "ed25519"])
def test_weak_and_unknown_keys_are_refused(kind: str, grid: v.Authority, options: VerifyOptions) -> None:
    assert why(v.proxy(grid.user(), key=v.key(kind)).pem, options) is Reason.KEY_TOO_WEAK
    user = grid.user(key=v.key(kind))
    assert why(v.pem(user.certificate), options) is Reason.KEY_TOO_WEAK


def test_a_weak_authority_is_refused(tmp_path: Path) -> None:
    grid = v.grid_of(tmp_path, key=v.key("rsa1024"))
    reason = why(v.proxy(grid.user()).pem, VerifyOptions(grid.ca_dir))
    assert reason is Reason.KEY_TOO_WEAK


def test_a_broken_hash_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user())
    leaf = v.signed_with_sha1(proxy.certificate, grid.user().key)
    assert refused(lambda: verify_chain([leaf, proxy.der[1]], options)) is Reason.SIGNATURE_WEAK
    user = v.signed_with_sha1(grid.user().certificate, grid.entity.key)
    assert refused(lambda: verify_chain([user], options)) is Reason.SIGNATURE_WEAK


def test_the_private_key_must_be_there_fit_and_be_readable_by_policy(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user())
    chain = v.chain_pem(proxy.chain)
    strict = with_(options, require_key=True)
    encrypted = v.key_pem(proxy.key, password=b"secret")
    old = v.key_pem(proxy.key, password=b"secret", traditional=True)
    assert b"Proc-Type" in old
    for key, reason in (
        (b"", Reason.KEY_MISSING),
        (encrypted, Reason.KEY_MISSING),
        (old, Reason.KEY_MISSING),
        (v.key_pem(v.key("rsa", 99)), Reason.KEY_MISMATCH),
        (v.key_pem(v.key("ec", 99)), Reason.KEY_MISMATCH),
        (v.block("PRIVATE KEY", b"junk"), Reason.KEY_MISMATCH),
        (v.block("RSA PRIVATE KEY", b"\x30\x00"), Reason.KEY_MISMATCH),
    ):
        assert why(chain + key, strict) is reason
        assert verify_pem(chain + key, options).has_key is False


def test_an_encrypted_key_under_a_plain_label_is_never_asked_for(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user())
    pem = v.key_pem(proxy.key, password=b"secret").replace(b"ENCRYPTED PRIVATE", b"PRIVATE")
    assert why(v.chain_pem(proxy.chain) + pem, with_(options, require_key=True)) is Reason.KEY_MISMATCH


# policy


def test_policy_bits_refuse_what_they_name(grid: v.Authority, options: VerifyOptions) -> None:
    user = grid.user()
    limited = v.proxy(user, extensions=v.proxy_extensions(v.proxy_info(v.LIMITED)))
    assert why(user.pem, with_(options, require_proxy=True)) is Reason.NOT_A_PROXY
    assert verify_pem(limited.pem, options).limited
    assert why(limited.pem, with_(options, refuse_limited=True)) is Reason.PROXY_LIMITED
