"""The small grid that the verifier's tests ask about."""

from pathlib import Path

import pytest

from pilotage_helper import VerifyOptions
from support import acs
from support import vectors as v
from support.glexec_rig import glexec as glexec
from support.map_site import Site


@pytest.fixture
def grid(tmp_path: Path) -> v.Authority:
    return v.grid_of(tmp_path)


@pytest.fixture
def options(grid: v.Authority, tmp_path: Path) -> VerifyOptions:
    """Trust the grid; a VO is known once the fixture `voms` has made its server."""
    return VerifyOptions(grid.ca_dir, tmp_path / "vomsdir")


@pytest.fixture
def alice(grid: v.Authority) -> v.Entity:
    return grid.user()


@pytest.fixture
def voms(grid: v.Authority, tmp_path: Path) -> acs.Server:
    return acs.server(grid, tmp_path)


@pytest.fixture
def good(voms: acs.Server, alice: v.Entity) -> acs.Ac:
    """A good attribute certificate, for a test to spoil."""
    return acs.Ac(voms, alice.certificate)


@pytest.fixture
def proxy(alice: v.Entity, good: acs.Ac, tmp_path: Path) -> Path:
    path = tmp_path / "proxy.pem"
    path.write_bytes(acs.proxy(alice, acs.value(good)).pem)
    return path


@pytest.fixture
def site(options: VerifyOptions, tmp_path: Path, proxy: Path) -> Site:
    return Site(options, tmp_path, proxy)
