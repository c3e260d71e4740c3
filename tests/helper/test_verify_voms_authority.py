"""Who may sign attributes: the .lsc file's names, a genuine path, and the signature itself."""

import subprocess
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions
from support import acs
from support import vectors as v
from support.verifying import ask, no, with_

# .lsc


def test_a_configured_vo_without_the_servers_file_is_refused(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, voms: acs.Server
) -> None:
    voms.lsc.unlink()
    assert no(alice, options, good) is Reason.VOMS_LSC_MISSING


def test_a_file_that_cannot_be_trusted_or_read_is_unusable(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, voms: acs.Server
) -> None:
    text = voms.lsc.read_text()
    for bad in ("/O=x\n", "O=x\nO=y\n", "# nothing\n", text + text.splitlines()[0], "\0" + text):
        voms.install(bad)
        assert no(alice, options, good) is Reason.VOMS_LSC_UNUSABLE
    target = voms.lsc.with_suffix(".real")
    target.write_text(text)
    voms.lsc.unlink()
    voms.lsc.symlink_to(target)
    assert no(alice, options, good) is Reason.VOMS_LSC_UNUSABLE


@pytest.mark.root
def test_root_believes_no_file_that_others_may_write(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, voms: acs.Server
) -> None:
    for path in (voms.lsc, voms.lsc.parent, voms.voms_dir):
        mode = path.stat().st_mode
        path.chmod(mode | 0o020)
        assert no(alice, options, good) is Reason.VOMS_LSC_UNUSABLE
        path.chmod(mode)
    assert ask(alice, options, good).vo == "demo"


def test_a_vo_directory_that_is_a_link_is_unusable(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, voms: acs.Server
) -> None:
    voms.lsc.parent.rename(voms.voms_dir / "real")
    voms.lsc.parent.symlink_to("real")
    assert no(alice, options, good) is Reason.VOMS_LSC_UNUSABLE


def test_the_names_in_the_file_are_the_servers(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, voms: acs.Server
) -> None:
    subject, issuer = voms.lsc.read_text().splitlines()
    for text in (f"{issuer}\n{subject}\n", f"{subject}x\n{issuer}\n", f"{subject}\n{issuer}\n{issuer}\n{issuer}\n"):
        voms.install(text)
        assert no(alice, options, good) is Reason.VOMS_LSC_MISMATCH
    voms.install(f"# server\r\n\r\n{subject} \r\n{issuer}\r\n")
    assert ask(alice, options, good).vo == "demo"


# the authority


def test_the_server_must_be_genuine_here(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, grid: v.Authority, tmp_path: Path
) -> None:
    def server(name: str, **changes: object) -> Reason:
        made = acs.server(grid, tmp_path / name, **changes)
        ac = acs.Ac(made, alice.certificate)
        return no(alice, with_(options, voms_dir=made.voms_dir), ac)

    assert server("old", end=v.NOW - v.HOUR / 2) is Reason.VOMS_AA_CHAIN
    assert server("weak", key=v.key("rsa1024")) is Reason.VOMS_AA_CHAIN
    assert server("ca", extensions=v.CA_EXTENSIONS) is Reason.VOMS_AA_CHAIN
    assert server("mute", extensions=((v.usage("key_encipherment"), True),)) is Reason.VOMS_AA_CHAIN
    assert no(alice, options, good.with_(certificates=(), authority_key=b"")) is Reason.VOMS_AA_CHAIN


def test_a_server_of_an_unknown_authority_is_refused(
    alice: v.Entity, options: VerifyOptions, grid: v.Authority, tmp_path: Path
) -> None:
    stranger = v.root(tmp_path, grid="Other Grid")
    server = acs.server(stranger, tmp_path / "other")
    ac = acs.Ac(server, alice.certificate)
    there = with_(options, voms_dir=server.voms_dir)
    assert no(alice, there, ac) is Reason.VOMS_AA_CHAIN
    carried = [v.der(server.entity.certificate), v.der(stranger.entity.certificate)]
    name = v.slash(server.issuer)
    server.install(f"{v.slash(server.entity.certificate.subject)}\n{name}\n{name}\n{name}\n")
    assert no(alice, there, ac.with_(certificates=carried)) is Reason.VOMS_AA_CHAIN


def test_a_user_cannot_make_attributes_with_a_proxy_or_a_certificate_of_his_own(
    alice: v.Entity, options: VerifyOptions, voms: acs.Server, good: acs.Ac
) -> None:
    proxy = v.proxy(alice)
    forged = acs.Server(proxy, alice.certificate.subject, voms.voms_dir)
    forged.install()
    ac = acs.Ac(forged, alice.certificate)
    assert no(alice, options, ac) is Reason.VOMS_AA_CHAIN
    voms.install()
    own = acs.Ac(acs.Server(alice, voms.issuer, voms.voms_dir), alice.certificate)
    assert no(alice, options, own) is Reason.VOMS_LSC_MISMATCH


def test_a_revoked_server_is_refused(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, grid: v.Authority, voms: acs.Server
) -> None:
    grid.revoked.append(voms.entity.certificate.serial_number)
    grid.write_crl()
    assert no(alice, options, good) is Reason.VOMS_AA_REVOKED


@pytest.mark.parametrize("padding", [0, 2_000_000], ids=["kept", "read again"])
def test_each_list_of_the_owners_authority_is_asked_about_the_server_too(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac, grid: v.Authority, voms: acs.Server, padding: int
) -> None:
    grid.file(".r0").write_bytes(b"#" * padding + b"\n" + grid.file(".r0").read_bytes())
    assert ask(alice, options, good).fqans == ("/demo/Role=analysis", "/demo")
    grid.file(".r0").rename(grid.file(".r1"))
    grid.revoked.append(voms.entity.certificate.serial_number)
    grid.write_crl()
    assert no(alice, options, good) is Reason.VOMS_AA_REVOKED
    grid.file(".r0").rename(grid.file(".r2"))
    grid.file(".r1").rename(grid.file(".r0"))
    grid.file(".r2").rename(grid.file(".r1"))
    assert no(alice, options, good) is Reason.VOMS_AA_REVOKED


def test_the_signature_is_the_servers_and_over_these_bytes(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac
) -> None:
    assert no(alice, options, good.with_(signer=v.key("rsa", 99))) is Reason.VOMS_SIGNATURE
    other = good.with_(fqans=("/demo/Role=pilot",)).der
    mine = good.der
    assert mine[-256:] != other[-256:]
    assert no(alice, options, other[:-256] + mine[-256:]) is Reason.VOMS_SIGNATURE
    changed = mine.replace(b"/demo/Role=analysis", b"/demo/Role=bnalysis")
    assert no(alice, options, changed) is Reason.VOMS_SIGNATURE


def test_one_bad_certificate_of_a_configured_vo_refuses_all(
    alice: v.Entity, options: VerifyOptions, good: acs.Ac
) -> None:
    bad = good.with_(fqans=("/demo/Role=pilot",), signer=v.key("rsa", 99))
    assert no(alice, options, good, bad) is Reason.VOMS_SIGNATURE
    assert no(alice, options, bad, good) is Reason.VOMS_SIGNATURE


@pytest.mark.interop
def test_the_fields_own_tools_read_what_our_builder_makes(
    alice: v.Entity, good: acs.Ac, options: VerifyOptions, grid: v.Authority, tmp_path: Path
) -> None:
    path = tmp_path / "proxy.pem"
    path.write_bytes(acs.proxy(alice, acs.value(good)).pem)
    path.chmod(0o600)
    environ = {"PATH": "/usr/bin:/bin", "X509_CERT_DIR": str(grid.ca_dir), "X509_VOMS_DIR": str(options.voms_dir)}
    command = ["voms-proxy-info", "-file", str(path), "-all"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert "/demo/Role=analysis/Capability=NULL" in done.stdout, done.stderr
