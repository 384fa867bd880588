"""Applies the migrations: forward only, each once, in the order of their numbers."""

from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import Final, LiteralString

import psycopg

from broker.adapters.postgres.connections import check_database_url
from broker.domain.secret import Secret

_LOCK_KEY: Final = 0x746F6B656E  # "token": two migrations at once would race for the same tables
_BOOKKEEPING: Final = """
CREATE SCHEMA IF NOT EXISTS token_broker;
CREATE TABLE IF NOT EXISTS token_broker.migrations (
    version    integer PRIMARY KEY,
    name       text        NOT NULL,
    digest     bytea       NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of `migrations/`: `0001_installs.sql` has version 1."""

    version: int
    name: str
    sql: LiteralString

    @property
    def digest(self) -> bytes:
        """Tells an applied migration from an edited one."""
        return sha256(self.sql.encode()).digest()


class MigrationChanged(Exception):
    """A migration was edited after it had been applied. Write a new one instead."""


def load_migrations() -> list[Migration]:
    """Every migration of this release, in order."""
    folder = resources.files(__package__).joinpath("migrations")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(int(f.name.split("_")[0]), f.name, f.read_text(encoding="utf-8")) for f in files]


NEWEST_VERSION: Final = max(migration.version for migration in load_migrations())


def migrate(database_url: str) -> list[str]:
    """Bring the schema up to this release, all or nothing. Returns the names of what was applied.

    Raises:
        ValueError: libpq can't read the URL.
        MigrationChanged: see there.
        psycopg.Error: the database can't be reached, or refuses.
    """
    check_database_url(Secret(database_url))
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        connection.execute(_BOOKKEEPING)
        rows = connection.execute("SELECT version, digest FROM token_broker.migrations")
        applied: dict[int, bytes] = dict(rows.fetchall())
        pending = [m for m in load_migrations() if not _is_applied(m, applied)]
        for migration in pending:
            connection.execute(migration.sql)
            connection.execute(
                "INSERT INTO token_broker.migrations (version, name, digest) VALUES (%s, %s, %s)",
                (migration.version, migration.name, migration.digest),
            )
    return [migration.name for migration in pending]


def _is_applied(migration: Migration, applied: dict[int, bytes]) -> bool:
    digest = applied.get(migration.version)
    if digest is not None and digest != migration.digest:
        raise MigrationChanged(f"{migration.name} was edited after it had been applied; write a new one")
    return digest is not None
