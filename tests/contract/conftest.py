"""Each contract test runs once for each implementation."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.store_harness import MemoryHarness, PostgresHarness, StoreHarness


@pytest.fixture(params=["memory", "postgres"])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[StoreHarness]:
    """The store under test."""
    if request.param == "memory":
        yield MemoryHarness()
        return
    postgres = PostgresHarness(request.getfixturevalue("database"))
    await postgres.open()
    yield postgres
    await postgres.close()
