"""A database that answers nothing: every piece of work ends within its time, whatever it was doing."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from broker.adapters.postgres.connections import Connections
from broker.domain.errors import Overloaded, StoreUnavailable
from broker.domain.secret import Secret
from tests.fault_proxy import FaultProxy, Moment, fault_proxy, proxied, target_of

PATIENCE = timedelta(seconds=0.5)
# What the event loop of a busy machine may be late.
LATE = timedelta(seconds=1)


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[FaultProxy]:
    """What stands between the broker and its database."""
    async with fault_proxy(target_of(database)) as proxy:
        yield proxy


@pytest.fixture
async def connections(database: str, proxy: FaultProxy) -> AsyncIterator[Connections]:
    """A pool of two, by way of the proxy."""
    connections = Connections(Secret(proxied(database, proxy)), max_size=2, patience=PATIENCE)
    await connections.open()
    yield connections
    await connections.close()


async def works(connections: Connections) -> None:
    """Fail unless a statement brings something."""
    async with connections.connection() as connection:
        cursor = await connection.execute("SELECT 1 AS one")
        assert await cursor.fetchone() == {"one": 1}


async def recovers(connections: Connections) -> None:
    """The database is well again: soon every place of the pool is."""
    deadline = time.monotonic() + 20
    while True:
        try:
            async with connections.connection(), connections.connection() as second:
                await second.execute("SELECT 1")
        except (StoreUnavailable, Overloaded):
            assert time.monotonic() < deadline
        else:
            return


async def test_f32_statement_on_a_frozen_server_ends_in_time(
    connections: Connections, proxy: FaultProxy
) -> None:
    """The driver's own cancellation would ask the frozen server, and wait ten seconds for its answer."""
    await works(connections)
    for _ in range(5):
        proxy.freeze()
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await works(connections)
        assert time.monotonic() - started < (PATIENCE + LATE).total_seconds()
        proxy.thaw()
        await recovers(connections)


async def test_f32_commit_on_a_frozen_server_ends_in_time(
    connections: Connections, proxy: FaultProxy
) -> None:
    """Its fate is unknown then; the caller must learn that soon, and not when the server comes back."""

    async def commit() -> None:
        async with connections.transaction() as connection:
            await connection.execute("SELECT 1")
            proxy.freeze()

    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await commit()
    assert time.monotonic() - started < (PATIENCE + LATE).total_seconds()
    proxy.thaw()
    await recovers(connections)


async def test_f32_connecting_to_a_frozen_server_ends_in_time(database: str, proxy: FaultProxy) -> None:
    """A broker that starts beside a frozen server says so, and goes on by itself when that is back."""
    proxy.freeze()
    connections = Connections(Secret(proxied(database, proxy)), max_size=1, patience=PATIENCE)
    await connections.open()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await works(connections)
    assert time.monotonic() - started < (PATIENCE + LATE).total_seconds()
    proxy.thaw()
    deadline = time.monotonic() + 30
    while True:
        try:
            await works(connections)
            break
        except StoreUnavailable:
            assert time.monotonic() < deadline
    await connections.close()


@pytest.mark.parametrize("moment", Moment)
async def test_f31_commit_whose_answer_is_lost_is_unavailable(
    connections: Connections, proxy: FaultProxy, moment: Moment
) -> None:
    """Whether it was committed nobody can tell; the store's verbs are written for that."""
    await works(connections)
    proxy.cut_at(b"COMMIT", moment)
    with pytest.raises(StoreUnavailable):
        async with connections.transaction() as connection:
            await connection.execute("CREATE TABLE was_committed ()")
    await recovers(connections)
    async with connections.connection() as connection:
        cursor = await connection.execute("SELECT to_regclass('was_committed') IS NOT NULL AS was")
        assert await cursor.fetchone() == {"was": moment is Moment.AFTER}
