"""VOMS attributes that hold are believed, and only in the one shape that servers write."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_pem
from support import acs
from support import vectors as v
from support.verifying import ask, no, why, with_

# what is taken


def test_attributes_are_normalised_and_keep_their_order(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    fqans = ("/demo/sub/Role=x/Capability=NULL", "/demo/sub", "/demo/Role=NULL", "/demo/Capability=old", "/demo/sub")
    who = ask(alice, options, good.with_(fqans=fqans))
    assert (who.vo, who.fqans) == ("demo", ("/demo/sub/Role=x", "/demo/sub", "/demo"))
    assert who.voms_not_after == good.end


def test_the_holder_is_named_by_subject_or_by_issuer(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, grid: v.Authority
) -> None:
    by_issuer = acs.directory_name(grid.entity.certificate.subject)
    assert ask(alice, options, good).vo == "demo"
    assert ask(alice, options, good.with_(holder_name=by_issuer)).vo == "demo"


def test_ecdsa_and_longer_hashes_are_taken(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, grid: v.Authority, tmp_path: Path
) -> None:
    longer = good.with_(algorithm=acs.SHA512_RSA, digest=hashes.SHA512())
    assert ask(alice, options, longer).vo == "demo"
    server = acs.server(grid, tmp_path / "ec", key=v.key("ec", 8))
    ac = acs.Ac(server, alice.certificate, algorithm=acs.ECDSA_SHA256)
    assert ask(alice, with_(options, voms_dir=server.voms_dir), ac).vo == "demo"


def test_attributes_of_two_vos_add_up_and_the_first_is_primary(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, voms: acs.Server
) -> None:
    other = acs.Server(voms.entity, voms.issuer, voms.voms_dir, vo="vo.example.org", host="voms2.example.org")
    other.install()
    second = acs.Ac(other, alice.certificate, ("/vo.example.org/prod",), end=v.NOW + 2 * v.HOUR)
    who = ask(alice, options, good, second)
    assert (who.vo, who.fqans) == ("demo", ("/demo/Role=analysis", "/demo", "/vo.example.org/prod"))
    assert who.voms_not_after == second.end
    assert ask(alice, options, second, good).vo == "vo.example.org"


def test_vos_without_a_directory_are_left_out(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    stranger = good.with_(server=acs.Server(good.server.entity, good.server.issuer, Path(), vo="other"), version=7)
    who = ask(alice, options, stranger, good)
    assert (who.vo, who.fqans) == ("demo", ("/demo/Role=analysis", "/demo"))
    alone = ask(alice, options, stranger)
    assert (alone.vo, alone.fqans, alone.voms_not_after) == ("", (), None)
    assert alone.note == "the attributes of the VO other are left out: it is not configured here"
    assert ask(alice, options, good).note == ""


def test_without_a_voms_directory_no_attribute_counts(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, tmp_path: Path
) -> None:
    broken = acs.proxy(alice, b"junk").pem
    for voms_dir in (None, tmp_path / "nowhere"):
        who = verify_pem(broken, with_(options, voms_dir=voms_dir))
        assert (who.vo, who.fqans) == ("", ())


def test_only_the_proxy_nearest_to_the_leaf_is_asked(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    below = acs.proxy(acs.proxy(alice, b"junk"), acs.value(good))
    assert verify_pem(below.pem, options).fqans == ("/demo/Role=analysis", "/demo")
    plain = v.proxy(acs.proxy(alice, acs.value(good)))
    assert verify_pem(plain.pem, options).vo == "demo"
    covered = acs.proxy(acs.proxy(alice, acs.value(good)), acs.value(good.with_(fqans=("/demo/low",))))
    assert verify_pem(covered.pem, options).fqans == ("/demo/low",)


def test_generic_attributes_and_unknown_ones_that_are_not_critical_do_no_harm(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac
) -> None:
    more = acs.extension(acs.GENERIC, v.sequence(v.sequence())) + acs.extension("1.2.3.4", b"\x05\x00")
    assert ask(alice, options, good.with_(more=more)).vo == "demo"


def test_the_server_may_carry_its_whole_chain(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, grid: v.Authority, voms: acs.Server
) -> None:
    ca = grid.entity.certificate
    chain = [v.der(voms.entity.certificate), v.der(ca)]
    both = good.with_(certificates=chain)
    assert no(alice, options, both) is Reason.VOMS_LSC_MISMATCH
    name = v.slash(ca.subject)
    own = v.slash(voms.entity.certificate.subject)
    voms.install(f"/O=x/CN=old\n{name}\n------ NEXT CHAIN ------\n{own}\n{name}\n{name}\n{name}\n")
    assert ask(alice, options, both).vo == "demo"
    assert no(alice, options, good) is Reason.VOMS_LSC_MISMATCH


# shape


@pytest.mark.usefixtures("voms")
@pytest.mark.parametrize("data", [b"", b"junk", b"\x30\x00", v.sequence(v.sequence()), b"\x30\x80\x00\x00"])
def test_an_extension_of_another_shape_is_malformed(data: bytes, alice: v.Entity, options: VerifyOptions) -> None:
    assert why(acs.proxy(alice, data).pem, options) is Reason.VOMS_MALFORMED


def test_only_strict_der_is_read(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    data = acs.value(good)
    assert data[:2] == b"\x30\x82"
    for lax in (data + b"\0", b"\x30\x83\0" + data[2:], b"\x30\x80" + data[4:] + b"\0\0"):
        assert why(acs.proxy(alice, lax).pem, options) is Reason.VOMS_MALFORMED
    one = good.der
    assert no(alice, options, one + b"\x05\x00") is Reason.VOMS_MALFORMED
    assert no(alice, options, v.sequence(one)) is Reason.VOMS_MALFORMED


def test_fields_that_servers_do_not_write_are_malformed(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    name = acs.directory_name(alice.certificate.subject)
    for holder in (name + v.tlv(0x03, b"\0\1"), b""):
        changed = good.with_(holder_name=holder or b"\x30\x00\x30\x00")
        assert no(alice, options, changed) in (Reason.VOMS_MALFORMED, Reason.VOMS_HOLDER)
    with_base = v.sequence(v.tlv(0xA4, alice.certificate.subject.public_bytes())) + v.tlv(0xA0, name, v.integer(1))
    assert no(alice, options, good.with_(issuer_name=with_base)) is Reason.VOMS_MALFORMED
    assert no(alice, options, good.with_(serial=2**170)) is Reason.VOMS_MALFORMED


def test_more_than_any_server_gives_is_too_large(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    assert no(alice, options, *[good] * 9) is Reason.VOMS_TOO_LARGE
    many = good.with_(fqans=[f"/demo/g{i}" for i in range(257)])
    assert no(alice, options, many) is Reason.VOMS_TOO_LARGE
    assert len(ask(alice, options, many.with_(fqans=many.fqans[1:])).fqans) == 256
    certificates = [v.der(good.server.entity.certificate)] * 6
    assert no(alice, options, good.with_(certificates=certificates)) is Reason.VOMS_TOO_LARGE
    long = good.with_(more=acs.extension("1.2.3.4", b"x" * 70_000))
    assert no(alice, options, long) is Reason.VOMS_TOO_LARGE


def test_the_extension_stands_once(alice: v.Entity, options: VerifyOptions, good: acs.Ac) -> None:
    marker = x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.9")
    data = acs.value(good)
    more: v.Extensions = (
        (x509.UnrecognizedExtension(acs.EXTENSION, data), False),
        (x509.UnrecognizedExtension(marker, data), False),
    )
    proxy = v.proxy(alice, extensions=v.proxy_extensions(more=more))
    twice = v.altered(proxy.certificate, alice.key, v.oid(marker.dotted_string), v.oid(acs.EXTENSION.dotted_string))
    pem = v.block("CERTIFICATE", twice) + v.chain_pem(proxy.above)
    assert why(pem, options) is Reason.VOMS_DUPLICATE
