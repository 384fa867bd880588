"""Fixtures for all tests: a Postgres server of the run's own (one a worker under pytest-xdist), and databases in it."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from broker.sandbox.embedded_postgres.programs import PostgresNotFoundError

_TEMPLATE = "migrated_template"


def _administer(postgres: EmbeddedPostgres, statement: str, **names: str) -> None:
    identifiers = {key: sql.Identifier(name) for key, name in names.items()}
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(**identifiers))


@contextmanager
def _new_database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    _administer(postgres, "CREATE DATABASE {name} TEMPLATE {template}", name=name, template=template)
    yield postgres.dsn(name)
    _administer(postgres, "DROP DATABASE {name} WITH (FORCE)", name=name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running server, shared by the tests of this process; it ends with them, however they end."""
    try:
        server = EmbeddedPostgres()
    except PostgresNotFoundError as absent:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(absent))
    with server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """The name of a database with the broker's schema and nothing in it, closed to connections."""
    from broker.adapters.postgres.migrate import migrate  # noqa: PLC0415  # tests without a schema don't need it

    _administer(postgres, "CREATE DATABASE {name}", name=_TEMPLATE)
    migrate(postgres.dsn(_TEMPLATE))
    _administer(postgres, "ALTER DATABASE {name} ALLOW_CONNECTIONS false", name=_TEMPLATE)
    return _TEMPLATE


@pytest.fixture
def database(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """The DSN of a fresh database with the broker's schema, dropped after the test with all its connections."""
    with _new_database(postgres, migrated_template) as dsn:
        yield dsn


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The DSN of a fresh database without a schema, dropped after the test with all its connections."""
    with _new_database(postgres, "template0") as dsn:
        yield dsn
