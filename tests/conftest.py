"""Fixtures for all tests: a Postgres server of the run's own (one a worker under pytest-xdist), and databases in it."""

import os
from collections.abc import Iterator

import pytest

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.sandbox.embedded_postgres.programs import PostgresNotFoundError
from tests import databases
from tests.databases import administer, new_database
from tests.pgbouncer import pgbouncer

_TEMPLATE = "migrated_template"


# A test that runs as root starts servers under another account, which forks; grpc's own preparations for a fork that is
# not followed by more Python crash there. To be said before grpc is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make test-pgbouncer` asks for."""
    parser.addoption(
        "--behind-pgbouncer", action="store_true", help="put a PgBouncer in transaction mode before Postgres"
    )


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[EmbeddedPostgres]:
    """A running server, shared by the tests of this process; it ends with them, however they end."""
    try:
        server = EmbeddedPostgres()
    except PostgresNotFoundError as absent:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(absent))
    with server:
        if not pytestconfig.getoption("--behind-pgbouncer"):
            yield server
            return
        with pgbouncer(server) as databases.pooler:
            yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """The name of a database with the broker's schema and nothing in it, closed to connections."""
    from broker.adapters.postgres.migrate import migrate  # noqa: PLC0415  # tests without a schema don't need it

    administer(postgres, "CREATE DATABASE {name}", name=_TEMPLATE)
    migrate(postgres.dsn(_TEMPLATE))
    administer(postgres, "ALTER DATABASE {name} ALLOW_CONNECTIONS false", name=_TEMPLATE)
    return _TEMPLATE


@pytest.fixture
def database(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """The DSN of a fresh database with the broker's schema, dropped after the test with all its connections."""
    with new_database(postgres, migrated_template) as dsn:
        yield dsn


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The DSN of a fresh database without a schema, dropped after the test with all its connections."""
    with new_database(postgres) as dsn:
        yield dsn
