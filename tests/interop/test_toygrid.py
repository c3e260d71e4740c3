"""The toy grid is a real one in the eyes of the field's own programs."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid, ToyGridError

pytestmark = pytest.mark.interop


def run(grid: ToyGrid, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the toy grid's directories as its trust."""
    environ = {
        "PATH": os.environ["PATH"],
        "X509_CERT_DIR": str(grid.ca_dir),
        "X509_VOMS_DIR": str(grid.voms_dir),
        "HOME": str(grid.root),
    }
    return subprocess.run(
        command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ToyGrid:
    return ToyGrid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def alice(grid: ToyGrid) -> Identity:
    return grid.user("Alice Adams")


def test_openssl_accepts_a_user_from_the_hashed_directory_with_its_revocation_list(
    grid: ToyGrid, alice: Identity
) -> None:
    done = run(
        grid, "openssl", "verify", "-CApath", str(grid.ca_dir), "-crl_check", "-x509_strict", str(alice.cert_path)
    )
    assert done.returncode == 0, done.stderr


def test_openssl_accepts_a_host_by_name_and_by_address(grid: ToyGrid) -> None:
    host = grid.host("localhost")
    for extra in (["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"]):
        done = run(
            grid, "openssl", "verify", "-CApath", str(grid.ca_dir), "-purpose", "sslserver", *extra, str(host.cert_path)
        )
        assert done.returncode == 0, done.stderr


def test_a_key_file_is_for_its_owner_alone(alice: Identity) -> None:
    assert stat.S_IMODE(alice.key_path.stat().st_mode) == 0o600


def test_grid_proxy_info_accepts_a_plain_proxy(grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    proxy = grid.plain_proxy(alice, tmp_path / "proxy")
    done = run(grid, "grid-proxy-info", "-file", str(proxy), "-exists", "-valid", "11:00")
    assert done.returncode == 0, done.stderr
    assert run(grid, "grid-proxy-info", "-file", str(proxy), "-identity").stdout.strip() == alice.dn
    assert "RFC 3820" in run(grid, "grid-proxy-info", "-file", str(proxy), "-type").stdout


def test_grid_proxy_info_calls_a_limited_proxy_limited(grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    proxy = grid.plain_proxy(alice, tmp_path / "proxy", limited=True)
    assert "limited" in run(grid, "grid-proxy-info", "-file", str(proxy), "-type").stdout


def test_voms_proxy_info_believes_the_attributes(grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    proxy = grid.voms_proxy(alice, tmp_path / "proxy", fqans=("/demo/Role=analysis", "/demo"))
    done = run(grid, "voms-proxy-info", "-file", str(proxy), "-all", "-exists", "-acexists", "demo")
    assert done.returncode == 0, done.stderr
    assert f"subject   : {alice.dn}" in done.stdout
    fqans = [line.split(":", 1)[1].strip() for line in done.stdout.splitlines() if line.startswith("attribute")]
    assert [fqan.removesuffix("/Capability=NULL").removesuffix("/Role=NULL") for fqan in fqans] == [
        "/demo/Role=analysis",
        "/demo",
    ]
    assert "verification failed" not in (done.stdout + done.stderr).lower()


def test_a_proxy_file_is_for_its_owner_alone(grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    assert stat.S_IMODE(grid.plain_proxy(alice, tmp_path / "proxy").stat().st_mode) == 0o600


def test_openssl_refuses_a_revoked_user(grid: ToyGrid) -> None:
    mallory = grid.user("Mallory")
    grid.revoke(mallory)
    done = run(grid, "openssl", "verify", "-CApath", str(grid.ca_dir), "-crl_check", str(mallory.cert_path))
    assert done.returncode != 0
    assert "revoked" in done.stderr


def test_openssl_refuses_everybody_while_the_revocation_list_is_out_of_date(tmp_path: Path) -> None:
    grid = ToyGrid(tmp_path / "grid")
    carol = grid.user("Carol", key="ec")
    grid.write_crl(days=-1)
    done = run(grid, "openssl", "verify", "-CApath", str(grid.ca_dir), "-crl_check", str(carol.cert_path))
    assert done.returncode != 0
    assert "CRL has expired" in done.stderr


def test_an_existing_grid_is_opened_again_with_its_revocations(tmp_path: Path) -> None:
    first = ToyGrid(tmp_path / "grid")
    dave = first.user("Dave", key="ec")
    first.revoke(dave)
    second = ToyGrid(tmp_path / "grid")
    second.write_crl()
    done = run(second, "openssl", "verify", "-CApath", str(second.ca_dir), "-crl_check", str(dave.cert_path))
    assert "revoked" in done.stderr


def test_two_entities_of_one_name_are_kept_apart(grid: ToyGrid) -> None:
    one, two = grid.user("Eve", key="ec"), grid.user("Eve", key="ec")
    assert one.dn == two.dn
    assert one.cert_path != two.cert_path


def test_a_program_that_fails_says_why(grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    with pytest.raises(ToyGridError, match="grid-proxy-init ended with"):
        grid.plain_proxy(alice, tmp_path / "missing" / "proxy")
