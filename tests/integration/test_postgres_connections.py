"""The connection pool: what its failures are told as."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from broker.adapters.postgres.connections import Connections
from broker.domain.errors import Overloaded, StoreUnavailable
from broker.domain.secret import Secret

PATIENCE = timedelta(milliseconds=300)


@pytest.fixture
async def pool_of_one(database: str) -> AsyncIterator[Connections]:
    """A pool with a single connection."""
    connections = Connections(Secret(database), max_size=1, patience=PATIENCE)
    await connections.open()
    yield connections
    await connections.close()


async def test_f33_exhausted_pool_is_overload(pool_of_one: Connections) -> None:
    """The database is well: more of us would not help, so the caller is told to come back."""
    async with pool_of_one.connection():
        with pytest.raises(Overloaded):
            async with pool_of_one.connection():
                pytest.fail("there is only one connection")
    async with pool_of_one.connection() as connection:
        await connection.execute("SELECT 1")


async def test_f32_statement_that_hangs_is_cut_off(pool_of_one: Connections) -> None:
    """A frozen database must not hold a claim's caller for ever; the connection is not reused."""
    with pytest.raises(StoreUnavailable):
        async with pool_of_one.connection() as connection:
            await connection.execute("SELECT pg_sleep(60)")
    async with pool_of_one.connection() as connection:
        await connection.execute("SELECT 1")


async def test_database_that_is_away_is_unavailable(tmp_path: object) -> None:
    """Nobody listens there: that is no overload, however many wait."""
    connections = Connections(Secret(f"host={tmp_path} dbname=x"), max_size=1, patience=PATIENCE)
    await connections.open()
    try:
        with pytest.raises(StoreUnavailable):
            async with connections.connection():
                pytest.fail("nobody listens there")
    finally:
        await connections.close()
