"""The people of the MyProxy tests beside those that all tests share."""

import pytest
from toygrid import Identity, ToyGrid

from support.people import alice as alice
from support.people import bob as bob
from support.people import grid as grid


@pytest.fixture(scope="session")
def host(grid: ToyGrid) -> Identity:
    """RSA, which all of the field's own clients take."""
    return grid.host("localhost")


@pytest.fixture(scope="session")
def pilot(grid: ToyGrid) -> Identity:
    return grid.user("pilot 1")


@pytest.fixture(scope="session")
def renewer(grid: ToyGrid) -> Identity:
    return grid.user("renewer")


@pytest.fixture(scope="session")
def stranger(grid: ToyGrid) -> Identity:
    return grid.user("stranger")
