"""The small grid that the verifier's tests ask about."""

from pathlib import Path

import pytest

from pilotage_helper import VerifyOptions
from support import vectors as v


@pytest.fixture
def grid(tmp_path: Path) -> v.Authority:
    return v.grid_of(tmp_path)


@pytest.fixture
def options(grid: v.Authority) -> VerifyOptions:
    return VerifyOptions(grid.ca_dir)
