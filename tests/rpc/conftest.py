"""One toy grid for all tests of the service, and a server for each that asks."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from pilotage.x509.files import LocalIdentity
from support.people import alice as alice
from support.people import bob as bob
from support.people import grid as grid
from support.retrieval import LONG, OTHERS_ROLE, ROLES
from support.server_rig import ADMIN_CN, OWNER_ROLE, PILOT_ROLE, Client, Rig, local_identity


@pytest.fixture(scope="session")
def host(grid: ToyGrid) -> Identity:
    return grid.host("localhost", key="ec")


@pytest.fixture(scope="session")
def robot(grid: ToyGrid) -> Identity:
    return grid.robot("Robot - pilot factory")


@pytest.fixture(scope="session")
def admin(grid: ToyGrid) -> LocalIdentity:
    return local_identity(grid.user(ADMIN_CN))


@pytest.fixture(scope="session")
def alice_proxy(grid: ToyGrid, alice: Identity) -> Path:
    return grid.voms_proxy(alice, grid.root / "alice.proxy", fqans=(OWNER_ROLE, "/demo"))


@pytest.fixture(scope="session")
def bob_proxy(grid: ToyGrid, bob: Identity) -> Path:
    return grid.voms_proxy(bob, grid.root / "bob.proxy", fqans=(OWNER_ROLE, "/demo"))


@pytest.fixture(scope="session")
def pilot_proxy(grid: ToyGrid, robot: Identity) -> Path:
    return grid.voms_proxy(robot, grid.root / "pilot.proxy", fqans=(PILOT_ROLE, "/demo"))


@pytest.fixture(scope="session")
def other_pilot_proxy(grid: ToyGrid) -> Path:
    who = grid.robot("Robot - other pilot")
    return grid.voms_proxy(who, grid.root / "other-pilot.proxy", fqans=(PILOT_ROLE, "/demo"))


@pytest.fixture
def make_rig(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Return what starts a server with settings of its own; all are stopped at the end."""
    made: list[Rig] = []

    def make(**settings: dict[str, object]) -> Rig:
        rig = Rig(grid, tmp_path, host, settings)
        made.append(rig)
        rig.start()
        return rig

    yield make
    for rig in made:
        rig.stop()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()


@pytest.fixture
def owner(rig: Rig, alice_proxy: Path) -> Client:
    return rig.client(alice_proxy)


@pytest.fixture
def pilot(rig: Rig, pilot_proxy: Path) -> Client:
    return rig.client(pilot_proxy)


@pytest.fixture(scope="session")
def others_proxy(grid: ToyGrid, bob: Identity) -> Path:
    """Bob's, in another VO."""
    return grid.voms_proxy(bob, grid.root / "bob-other.proxy", vo="other", fqans=(OTHERS_ROLE,))


@pytest.fixture(scope="session")
def plain_proxy(grid: ToyGrid) -> Path:
    """Carol's, without attributes."""
    return grid.plain_proxy(grid.user("Carol"), grid.root / "carol.proxy")


@pytest.fixture
def ruled(make_rig: Callable[..., Rig], alice_proxy: Path, others_proxy: Path, plain_proxy: Path) -> Callable[..., Rig]:
    """Return what starts a server with a policy, once all proxies and their VOs are there; again, it is the same."""

    def start(**policy: object) -> Rig:
        return make_rig(**{"roles": ROLES, "leases": LONG, **policy})

    return start


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB, real and full when it is full."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "state"
    place.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
