"""Proxies of the field's own programs are taken as they come, quirks included."""

import subprocess
from pathlib import Path

import msgspec
import pytest
from toygrid import Identity, ToyGrid

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions, verify_pem
from support.verifying import why, with_

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyGrid:
    return ToyGrid(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def alice(toy: ToyGrid) -> Identity:
    return toy.user("Alice Adams")


@pytest.fixture
def options(toy: ToyGrid) -> VerifyOptions:
    return VerifyOptions(toy.ca_dir, toy.voms_dir, require_key=True, require_proxy=True)


def fake(toy: ToyGrid, who: Identity, out: Path, server: Identity, *more: str) -> bytes:
    """Run voms-proxy-fake with options that the toy grid does not have."""
    command = ["voms-proxy-fake", "-rfc", "-q", "-bits", "2048", "-voms", "demo", "-out", str(out)]
    command += ["-uri", "voms.demo.example.org:15000", "-fqan", "/demo/Role=analysis", "-fqan", "/demo"]
    command += ["-hostcert", str(server.cert_path), "-hostkey", str(server.key_path), "-certdir", str(toy.ca_dir)]
    command += ["-cert", str(who.cert_path), "-key", str(who.key_path), *more]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(toy.root)}
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=120)
    return out.read_bytes()


@pytest.mark.parametrize("limited", [False, True])
def test_grid_proxy_init(limited: bool, toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path) -> None:
    path = toy.plain_proxy(alice, tmp_path / "proxy", limited=limited)
    who = verify_pem(path.read_bytes(), options)
    assert (who.dn, who.depth, who.limited, who.has_key, who.fqans) == (alice.dn, 1, limited, True, ())


@pytest.mark.parametrize("limited", [False, True])
def test_grid_proxy_init_as_it_was_before_the_rfc(
    limited: bool, toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path
) -> None:
    out = tmp_path / "proxy"
    command = ["grid-proxy-init", "-old", "-q", "-bits", "2048", "-valid", "12:00", *(["-limited"] if limited else [])]
    command += ["-cert", str(alice.cert_path), "-key", str(alice.key_path), "-out", str(out)]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(toy.root), "X509_CERT_DIR": str(toy.ca_dir)}
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=120)
    assert why(out.read_bytes(), options) is Reason.PROXY_LEGACY
    who = verify_pem(out.read_bytes(), with_(options, accept_old=True))
    assert (who.dn, who.depth, who.limited, who.has_key) == (alice.dn, 1, limited, True)


def test_a_proxy_of_a_proxy(toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path) -> None:
    first = toy.plain_proxy(alice, tmp_path / "first")
    second = toy.plain_proxy(Identity(alice.dn, first, first), tmp_path / "second")
    who = verify_pem(second.read_bytes(), options)
    assert (who.dn, who.depth) == (alice.dn, 2)


def test_voms_proxy_fake(toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path) -> None:
    path = toy.voms_proxy(alice, tmp_path / "proxy", fqans=["/demo/Role=analysis", "/demo"])
    who = verify_pem(path.read_bytes(), options)
    assert (who.dn, who.vo, who.fqans) == (alice.dn, "demo", ("/demo/Role=analysis", "/demo"))
    assert who.voms_not_after is not None


def test_voms_proxy_fake_with_the_holder_of_the_rfc(
    toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path
) -> None:
    pem = fake(toy, alice, tmp_path / "proxy", toy.voms_host("demo"), "-newformat")
    assert verify_pem(pem, options).fqans == ("/demo/Role=analysis", "/demo")


def test_generic_attributes_are_no_harm(toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path) -> None:
    pem = fake(toy, alice, tmp_path / "proxy", toy.voms_host("demo"), "-ga", "nick=al (demo)")
    assert verify_pem(pem, options).vo == "demo"


def test_a_limited_voms_proxy(toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path) -> None:
    path = toy.voms_proxy(alice, tmp_path / "proxy", limited=True)
    who = verify_pem(path.read_bytes(), options)
    assert (who.limited, who.fqans) == (True, ("/demo",))


def test_the_empty_list_of_targets_that_voms_proxy_fake_writes_fits_no_host(
    toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path
) -> None:
    pem = fake(toy, alice, tmp_path / "proxy", toy.voms_host("demo"), "-target", "wn.example.org")
    here = msgspec.structs.replace(options, host="wn.example.org")
    assert why(pem, here) is Reason.VOMS_TARGET


def test_an_ecdsa_signature_that_calls_itself_rsa_is_refused(
    toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path
) -> None:
    toy.voms_host("demo")
    ec = toy.host("voms.demo.example.org", addresses=(), key="ec")
    pem = fake(toy, alice, tmp_path / "proxy", ec)
    assert why(pem, options) is Reason.VOMS_ALGORITHM


def test_the_old_kind_of_proxy_is_refused(
    toy: ToyGrid, alice: Identity, options: VerifyOptions, tmp_path: Path
) -> None:
    command = ["grid-proxy-init", "-old", "-q", "-bits", "2048", "-out", str(tmp_path / "proxy")]
    command += ["-cert", str(alice.cert_path), "-key", str(alice.key_path)]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(toy.root), "X509_CERT_DIR": str(toy.ca_dir)}
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=120)
    assert why((tmp_path / "proxy").read_bytes(), options) is Reason.PROXY_LEGACY


def test_a_revoked_user_is_refused(toy: ToyGrid, options: VerifyOptions, tmp_path: Path) -> None:
    bob = toy.user("bob")
    pem = toy.plain_proxy(bob, tmp_path / "proxy").read_bytes()
    assert verify_pem(pem, options).dn == bob.dn
    toy.revoke(bob)
    assert why(pem, options) is Reason.CERTIFICATE_REVOKED
