"""The verifier takes every good chain, and none that does not lead to an authority trusted here."""

import datetime
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from pilotage.errors import VerifyError
from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_chain, verify_pem
from support import vectors as v
from support.verifying import opinion, why, with_

# what is taken


@pytest.mark.parametrize("kind", ["rsa", "rsa3072", "ec", "ec384", "ec521"])
def test_a_proxy_with_a_key_of_an_accepted_kind_is_taken(
    kind: str, grid: v.Authority, options: VerifyOptions, tmp_path: Path
) -> None:
    proxy = v.proxy(grid.user(key=v.key(kind, 3)), key=v.key(kind, 7))
    who = verify_pem(proxy.pem, with_(options, require_key=True, require_proxy=True))
    assert (who.dn, who.issuer) == ("/O=Test Grid/CN=alice", "/O=Test Grid/CN=Test CA")
    assert (who.depth, who.is_proxy, who.limited, who.has_key) == (1, True, False, True)
    assert (who.vo, who.fqans, who.voms_not_after) == ("", (), None)
    assert opinion(proxy, grid, tmp_path) == "OK"


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 10])
def test_chains_of_every_allowed_depth_name_the_end_entity(
    depth: int, grid: v.Authority, options: VerifyOptions, tmp_path: Path
) -> None:
    entity = grid.user()
    for _ in range(depth):
        entity = v.proxy(entity)
    who = verify_chain(entity.der, options)
    assert (who.dn, who.depth, who.is_proxy) == ("/O=Test Grid/CN=alice", depth, depth > 0)
    assert who.has_key is False
    assert opinion(entity, grid, tmp_path) == "OK"


def test_one_limited_proxy_makes_the_chain_limited(grid: v.Authority, options: VerifyOptions) -> None:
    limited = v.proxy(grid.user(), extensions=v.proxy_extensions(v.proxy_info(v.LIMITED)))
    below = v.proxy(limited, extensions=v.proxy_extensions(v.proxy_info(v.LIMITED)))
    under_full = v.proxy(v.proxy(grid.user()), extensions=v.proxy_extensions(v.proxy_info(v.LIMITED)))
    assert all(verify_pem(p.pem, options).limited for p in (limited, below, under_full))


def test_times_are_those_that_hold_for_the_whole_chain(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user(), start=v.NOW - v.HOUR / 2, end=v.NOW + 5 * v.HOUR)
    who = verify_pem(proxy.pem, options)
    assert (who.not_before, who.not_after) == (v.NOW - v.HOUR / 2, v.NOW + 5 * v.HOUR)


def test_thumbprint_and_digest_are_of_the_leafs_key_and_the_end_entitys_certificate(
    grid: v.Authority, options: VerifyOptions
) -> None:
    proxy = v.proxy(grid.user())
    public = proxy.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    who = verify_pem(proxy.pem, options)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public)
    assert who.leaf_thumbprint == digest.finalize()
    assert who.eec_digest == proxy.above[-1].fingerprint(hashes.SHA256())


def test_a_copy_of_the_very_anchor_at_the_end_of_the_input_is_part_of_the_chain(
    grid: v.Authority, options: VerifyOptions
) -> None:
    proxy = v.proxy(grid.user())
    who = verify_chain([*proxy.der, v.der(grid.entity.certificate)], options)
    assert who.depth == 1


def test_the_key_may_stand_anywhere_and_in_either_form(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user())
    strict = with_(options, require_key=True)
    for key in (v.key_pem(proxy.key), v.key_pem(proxy.key, traditional=True)):
        assert verify_pem(key + v.chain_pem(proxy.chain), strict).has_key
        assert verify_pem(v.chain_pem(proxy.chain) + key, strict).has_key


def test_text_around_the_blocks_is_no_harm(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user())
    text = b"Bag Attributes\r\n  friendly: yes\r\n\r\n"
    assert verify_pem(text + proxy.pem.replace(b"\n", b"\r\n") + text, options).depth == 1


def test_an_intermediate_authority_from_the_directory_or_from_the_input_serves(
    grid: v.Authority, options: VerifyOptions
) -> None:
    sub = grid.sub("Sub CA", grid.ca_dir)
    sub.write_crl()
    sub.write_policy("'\"/O=Test Grid/CN=*\"'")
    user = sub.user("bob")
    proxy = v.proxy(v.Entity(user.certificate, user.key, (sub.entity.certificate,)))
    assert verify_pem(proxy.pem, options).issuer == "/O=Test Grid/CN=Sub CA"
    sub.file(".0").write_bytes(v.pem(sub.entity.certificate))
    assert verify_pem(v.proxy(user).pem, options).dn == "/O=Test Grid/CN=bob"


def test_a_renewed_authority_stands_beside_its_expired_self(grid: v.Authority, options: VerifyOptions) -> None:
    old = v.root(grid.ca_dir, start=v.NOW - 900 * v.DAY, end=v.NOW - v.DAY)
    grid.file(".0").write_bytes(v.pem(old.entity.certificate))
    grid.file(".1").write_bytes(v.pem(grid.entity.certificate))
    assert verify_pem(v.proxy(grid.user()).pem, options).depth == 1


def test_authorities_that_signed_each_other_are_looked_up_once(
    grid: v.Authority, options: VerifyOptions, tmp_path: Path
) -> None:
    other = v.root(grid.ca_dir, subject=v.name("Other CA"), key=v.key("rsa", 5))
    crossed = v.issue(
        v.Shape(grid.entity.certificate.subject, grid.entity.key, extensions=v.CA_EXTENSIONS), other.entity
    )
    back = v.issue(v.Shape(v.name("Other CA"), v.key("rsa", 5), extensions=v.CA_EXTENSIONS), grid.entity)
    grid.file(".1").write_bytes(v.pem(crossed))
    other.install()
    other.file(".1").write_bytes(v.pem(back))
    assert verify_pem(v.proxy(grid.user()).pem, options).depth == 1


def test_an_anchor_may_carry_a_signature_of_its_own_that_nobody_would_take_today(
    grid: v.Authority, options: VerifyOptions
) -> None:
    old = v.signed_with_sha1(grid.entity.certificate, grid.entity.key)
    grid.file(".0").write_bytes(v.block("CERTIFICATE", old))
    assert verify_pem(v.proxy(grid.user()).pem, options).depth == 1


def test_many_threads_verify_at_once(grid: v.Authority, options: VerifyOptions) -> None:
    good, bad = v.proxy(grid.user()).pem, v.proxy(grid.user(), end=v.NOW - v.HOUR, start=v.NOW - 2 * v.HOUR).pem
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            if verify_pem(good, options).depth != 1 or why(bad, options) is not Reason.PROXY_EXPIRED:
                wrong.append("another answer")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# trust


def test_an_authority_that_is_not_in_the_directory_is_unknown(
    grid: v.Authority, options: VerifyOptions, tmp_path: Path
) -> None:
    stranger = v.root(tmp_path, grid="Other Grid")
    assert why(v.proxy(stranger.user()).pem, options) is Reason.CHAIN_UNKNOWN_CA
    assert why(v.chain_pem([*stranger.user().chain, stranger.entity.certificate]), options) is Reason.CHAIN_UNKNOWN_CA


def test_a_proxy_without_its_end_entity_is_not_a_chain(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(v.proxy(grid.user()))
    assert why(v.chain_pem(proxy.chain[:-1]), options) is Reason.CHAIN_UNKNOWN_CA


def test_an_authority_of_the_same_name_and_another_key_is_unknown(
    grid: v.Authority, options: VerifyOptions, tmp_path: Path
) -> None:
    forger = v.root(tmp_path, key=v.key("rsa", 99))
    assert why(v.proxy(forger.user()).pem, options) is Reason.CHAIN_UNKNOWN_CA
    without = forger.user(key_ids=False)
    assert why(v.proxy(without).pem, options) is Reason.CHAIN_SIGNATURE


def test_a_proxy_signed_by_another_key_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    user = grid.user()
    thief = v.Entity(user.certificate, v.key("rsa", 99), user.above)
    assert why(v.proxy(thief, key_ids=False).pem, options) is Reason.CHAIN_SIGNATURE


def test_every_changed_byte_of_a_proxy_is_noticed(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user())
    data = proxy.der
    assert verify_chain(data, options).depth == 1
    for at in range(0, len(data[0]), 7):
        changed = bytearray(data[0])
        changed[at] ^= 0x01
        with pytest.raises(VerifyError):
            verify_chain([bytes(changed), data[1]], options)


def test_a_directory_that_is_not_there_or_open_to_others_is_unusable(
    grid: v.Authority, options: VerifyOptions, tmp_path: Path
) -> None:
    pem = v.proxy(grid.user()).pem
    assert why(pem, VerifyOptions(tmp_path / "nowhere")) is Reason.CA_DIRECTORY_UNUSABLE
    grid.file(".0").write_text("-----BEGIN CERTIFICATE-----\nno\n")
    assert why(pem, options) is Reason.CA_DIRECTORY_UNUSABLE
    grid.file(".0").unlink()
    grid.file(".0").mkdir()
    assert why(pem, options) is Reason.CA_DIRECTORY_UNUSABLE


@pytest.mark.root
def test_root_trusts_no_anchor_that_others_may_write(grid: v.Authority, options: VerifyOptions) -> None:
    pem = v.proxy(grid.user()).pem
    grid.file(".0").chmod(0o664)
    assert why(pem, options) is Reason.CA_DIRECTORY_UNUSABLE
    grid.file(".0").chmod(0o644)
    grid.ca_dir.chmod(0o777)
    assert why(pem, options) is Reason.CA_DIRECTORY_UNUSABLE


def test_an_authority_cannot_be_somebody(grid: v.Authority, options: VerifyOptions) -> None:
    sub = grid.sub("Sub CA", grid.ca_dir)
    assert why(v.pem(sub.entity.certificate), options) is Reason.CA_AS_END_ENTITY
    assert why(v.pem(grid.entity.certificate), options) is Reason.CA_AS_END_ENTITY
    assert why(v.proxy(sub.entity).pem, options) is Reason.CA_AS_END_ENTITY
    assert why(v.proxy(grid.entity).pem, options) is Reason.CA_AS_END_ENTITY


def test_a_trusted_certificate_that_is_no_authority_cannot_be_somebody_either(
    grid: v.Authority, options: VerifyOptions
) -> None:
    lonely = v.root(grid.ca_dir, subject=v.name("lonely"), extensions=v.USER_EXTENSIONS, key=v.key("rsa", 5))
    lonely.file(".0").write_bytes(v.pem(lonely.entity.certificate))
    assert why(v.pem(lonely.entity.certificate), options) is Reason.CA_AS_END_ENTITY


def test_a_user_cannot_sign_another_user(grid: v.Authority, options: VerifyOptions) -> None:
    alice = grid.user()
    shape = v.Shape(v.name("bob"), v.key("rsa", 4), extensions=v.USER_EXTENSIONS)
    bob = v.Entity(v.issue(shape, alice), shape.key, alice.chain)
    assert why(v.proxy(bob).pem, options) is Reason.CA_INVALID


def test_an_authority_without_the_right_to_sign_certificates_is_invalid(
    grid: v.Authority, options: VerifyOptions
) -> None:
    extensions: v.Extensions = ((x509.BasicConstraints(ca=True, path_length=None), True), (v.usage("crl_sign"), True))
    sub = grid.sub("Sub CA", grid.ca_dir, extensions=extensions)
    user = sub.user("bob")
    chain = v.Entity(user.certificate, user.key, (sub.entity.certificate,))
    assert why(v.proxy(chain).pem, options) is Reason.CA_INVALID


def test_an_authoritys_own_path_length_holds(grid: v.Authority, options: VerifyOptions) -> None:
    extensions: v.Extensions = ((x509.BasicConstraints(ca=True, path_length=0), True), *v.CA_EXTENSIONS[1:])
    sub = grid.sub("Sub CA", grid.ca_dir, extensions=extensions)
    subsub = sub.sub("Sub Sub CA", grid.ca_dir, key=v.key("rsa", 5))
    user = subsub.user("bob")
    above = (subsub.entity.certificate, sub.entity.certificate)
    assert why(v.proxy(v.Entity(user.certificate, user.key, above)).pem, options) is Reason.CA_INVALID


# times


def test_what_has_ended_or_not_begun_is_refused_by_its_kind(grid: v.Authority, options: VerifyOptions) -> None:
    gone = {"start": v.NOW - 3 * v.HOUR, "end": v.NOW - v.HOUR}
    later = {"start": v.NOW + v.DAY, "end": v.NOW + 2 * v.DAY}
    assert why(v.proxy(grid.user(), **gone).pem, options) is Reason.PROXY_EXPIRED
    assert why(v.proxy(grid.user(), **later).pem, options) is Reason.CERTIFICATE_NOT_YET_VALID
    assert why(v.proxy(grid.user(**gone)).pem, options) is Reason.CERTIFICATE_EXPIRED
    assert why(v.proxy(grid.user(**later)).pem, options) is Reason.CERTIFICATE_NOT_YET_VALID


def test_an_expired_authority_is_an_expired_certificate(tmp_path: Path) -> None:
    grid = v.grid_of(tmp_path, start=v.NOW - 9 * v.DAY, end=v.NOW - v.DAY)
    assert why(v.proxy(grid.user()).pem, VerifyOptions(grid.ca_dir)) is Reason.CERTIFICATE_EXPIRED


def test_clocks_may_differ_by_the_skew_and_no_more(grid: v.Authority, options: VerifyOptions) -> None:
    proxy = v.proxy(grid.user(), start=v.NOW, end=v.NOW + v.HOUR).pem
    second = datetime.timedelta(seconds=1)
    skew = datetime.timedelta(seconds=300)
    assert verify_pem(proxy, options, v.NOW - skew)
    assert why(proxy, options, v.NOW - skew - second) is Reason.CERTIFICATE_NOT_YET_VALID
    assert verify_pem(proxy, options, v.NOW + v.HOUR + skew - second)
    assert why(proxy, options, v.NOW + v.HOUR + skew) is Reason.PROXY_EXPIRED
    assert why(proxy, with_(options, skew_seconds=0), v.NOW + v.HOUR) is Reason.PROXY_EXPIRED


def test_a_chain_that_is_never_valid_as_a_whole_is_refused(grid: v.Authority, options: VerifyOptions) -> None:
    minute = datetime.timedelta(minutes=1)
    user = grid.user(end=v.NOW - minute)
    proxy = v.proxy(user, start=v.NOW + minute)
    assert why(proxy.pem, options, v.NOW) is Reason.CERTIFICATE_EXPIRED
