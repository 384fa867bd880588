"""F35: PgBouncer in transaction mode. `make test-pgbouncer` runs every test of this folder behind one."""

from collections.abc import Iterator
from functools import partial

import grpc
import grpc.aio
import pytest
from psycopg.conninfo import conninfo_to_dict

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.eventually import eventually
from tests.integration.served_broker import INSTALL_ID, served_broker
from tests.integration.served_envoy import ServedEnvoy
from tests.pgbouncer import PgBouncer, pgbouncer
from tokenbroker.v1 import installs_pb2

# Not a bound that a test waits for: without hints the other would look after an hour.
STALE = "3600"


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
