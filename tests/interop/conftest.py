"""The people of the MyProxy tests; a module that wants other ones makes its own."""

import pytest
from toygrid import Identity, ToyGrid


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ToyGrid:
    return ToyGrid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def host(grid: ToyGrid) -> Identity:
    return grid.host("localhost")


@pytest.fixture(scope="module")
def alice(grid: ToyGrid) -> Identity:
    return grid.user("Alice")


@pytest.fixture(scope="module")
def bob(grid: ToyGrid) -> Identity:
    return grid.user("Bob")


@pytest.fixture(scope="module")
def pilot(grid: ToyGrid) -> Identity:
    return grid.user("pilot 1")


@pytest.fixture(scope="module")
def renewer(grid: ToyGrid) -> Identity:
    return grid.user("renewer")


@pytest.fixture(scope="module")
def stranger(grid: ToyGrid) -> Identity:
    return grid.user("stranger")
