"""The toy grid and its people that the tests of the service share; a module that wants other ones makes its own.

A conftest imports the fixtures that it offers; each then has one grid for all of its tests.
"""

import pytest
from toygrid import Identity, ToyGrid


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ToyGrid:
    return ToyGrid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="session")
def alice(grid: ToyGrid) -> Identity:
    return grid.user("Alice")


@pytest.fixture(scope="session")
def bob(grid: ToyGrid) -> Identity:
    return grid.user("Bob")
