"""Fixtures of the acceptance tests."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.served_envoy import ServedEnvoy, served_envoy


@pytest.fixture
async def envoy() -> AsyncIterator[ServedEnvoy]:
    """A simulated Envoy on loopback that stands in for the real one."""
    async with served_envoy() as served:
        yield served


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The temporary folder of a process under test: short, for sockets, and open to Postgres' own user."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)
