"""F35: PgBouncer in transaction mode. `make test-pgbouncer` runs every test of this folder behind one."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import grpc
import grpc.aio
import pytest
from psycopg.conninfo import conninfo_to_dict

from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.hints import PostgresHints
from broker.domain.identifiers import InstallKey
from broker.domain.secret import Secret
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.eventually import eventually
from tests.integration.served_broker import INSTALL_ID, served_broker
from tests.integration.served_envoy import ServedEnvoy
from tests.integration.watchers import watcher
from tests.pgbouncer import PgBouncer, pgbouncer
from tokenbroker.v1 import installs_pb2

# Not a bound that a test waits for: without hints the other would look after an hour.
STALE = "3600"
PATIENCE = timedelta(seconds=30)


@pytest.fixture
def pooler(postgres: EmbeddedPostgres) -> Iterator[PgBouncer]:
    """One before the tests' Postgres."""
    with pgbouncer(postgres) as running:
        yield running


async def test_f35_replicas_behind_pgbouncer_refresh_and_tell_each_other(
    simulated_envoy: ServedEnvoy, pooler: PgBouncer, postgres: EmbeddedPostgres, database: str
) -> None:
    """Statements pass through the pooler; hints need a session, and go around it."""
    name = str(conninfo_to_dict(database)["dbname"])
    replica = partial(
        served_broker,
        simulated_envoy,
        pooler.dsn(name),
        DATABASE_DIRECT_URL=postgres.dsn(name),
        CACHE_STALENESS_SECONDS=STALE,
    )
    async with replica() as one, replica() as other:
        await one.installed()
        assert (await other.get_token()).generation == 1
        assert (await one.refresh()).generation == 2

        async def has_heard() -> bool:
            return (await other.get_token()).generation == 2

        await eventually(has_heard)
        await one.installs.DeleteInstall(installs_pb2.DeleteInstallRequest(install_id=INSTALL_ID))

        async def is_gone() -> bool:
            try:
                await other.get_token()
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.NOT_FOUND
            return False

        await eventually(is_gone)


async def test_watcher_behind_a_pooler_that_lets_no_hint_through_is_told_nevertheless(
    simulated_envoy: ServedEnvoy, pooler: PgBouncer, database: str
) -> None:
    """Where TOKEN_BROKER_DATABASE_DIRECT_URL was forgotten: the broker notices that it hears nothing, and looks itself."""
    name = str(conninfo_to_dict(database)["dbname"])
    replica = partial(served_broker, simulated_envoy, pooler.dsn(name), CACHE_STALENESS_SECONDS=STALE)
    async with replica() as one, replica() as other, watcher(other.channel, i1000000=0) as watching:
        await one.installed()
        await watching.subscribe(INSTALL_ID)
        while (await watching.event()).token.generation != 1:
            pass
        assert (await one.refresh()).generation == 2
        assert (await watching.token()).generation == 2


async def test_replica_knows_whether_it_hears_hints(
    pooler: PgBouncer, postgres: EmbeddedPostgres, database: str
) -> None:
    """It hears its own, by the way that the others' come; behind the pooler none comes, and LISTEN says nothing of it."""
    name = str(conninfo_to_dict(database)["dbname"])
    connections = Connections(Secret(pooler.dsn(name)), max_size=1, patience=PATIENCE)
    await connections.open()
    around, behind = (
        PostgresHints(connections, Secret(url)) for url in (postgres.dsn(name), pooler.dsn(name))
    )
    heard = asyncio.Event()
    for hints in (around, behind):
        hints.start(lambda _key: heard.set(), lambda _plugin_id: None)

    async def is_heard() -> bool:
        return around.are_heard

    await eventually(is_heard)
    behind.tell(InstallKey("4242", INSTALL_ID))
    await asyncio.wait_for(heard.wait(), PATIENCE.total_seconds())
    assert not behind.are_heard
    for hints in (around, behind):
        await hints.stop()
    assert not around.are_heard
    await connections.close()
