"""Databases for tests, each fresh, and gone afterwards; behind a PgBouncer if the run was asked for one."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.pgbouncer import PgBouncer

EMPTY = "template0"

# By `pytest --behind-pgbouncer`; and the way around it, for what needs a session of its own.
pooler: PgBouncer | None = None
_direct_urls: dict[str, str] = {}


@contextmanager
def new_database(postgres: EmbeddedPostgres, template: str = EMPTY) -> Iterator[str]:
    """The DSN of a copy of `template`, dropped at the end with all its connections."""
    name = f"test_{uuid.uuid4().hex}"
    direct = postgres.dsn(name)
    dsn = pooler.dsn(name) if pooler is not None else direct
    administer(postgres, "CREATE DATABASE {name} TEMPLATE {template}", name=name, template=template)
    _direct_urls[dsn] = direct
    yield dsn
    del _direct_urls[dsn]
    administer(postgres, "DROP DATABASE {name} WITH (FORCE)", name=name)


@contextmanager
def folder_for_data() -> Iterator[Path]:
    """A folder for servers' data that their account, which is not root's, may enter."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def direct_url(dsn: str) -> str:
    """The same database without a pooler in between."""
    return _direct_urls.get(dsn, dsn)


def administer(postgres: EmbeddedPostgres, statement: str, **names: str) -> None:
    """A statement on databases, whose names stand in it in braces."""
    identifiers = {key: sql.Identifier(name) for key, name in names.items()}
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement.encode().decode()).format(**identifiers))
