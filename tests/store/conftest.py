"""Desks over a real store for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from support.desks import Desks


@pytest_asyncio.fixture
async def desks(tmp_path: Path) -> AsyncIterator[Desks]:
    made = Desks(tmp_path)
    yield made
    await made.close()
