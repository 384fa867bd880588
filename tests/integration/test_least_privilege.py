"""The role that serves can read and write rows, and nothing else: each thing it must not do is really tried."""

import asyncio
from collections.abc import Iterator
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.databases import direct_url
from tests.integration.sealed_installs import installed, replica, rotation, sealed_by
from tests.processes import Finished, token_broker

ROLE: Final = "token_broker_least"
TABLES: Final = ("installs", "provider_health", "census", "migrations")
GRANTS: Final = """
SELECT table_name, privilege_type FROM information_schema.role_table_grants
WHERE table_schema = 'token_broker' AND grantee = %s ORDER BY 1, 2
"""
ALLOWED: Final = [
    ("census", "SELECT"),
    ("census", "UPDATE"),
    ("installs", "INSERT"),
    ("installs", "SELECT"),
    ("installs", "UPDATE"),
    ("migrations", "SELECT"),
    ("provider_health", "INSERT"),
    ("provider_health", "SELECT"),
    ("provider_health", "UPDATE"),
]
FORBIDDEN: Final = (
    # Destroying rows, and what says which schema it is.
    "DELETE FROM token_broker.installs",
    "DELETE FROM token_broker.provider_health",
    "DELETE FROM token_broker.census",
    "DELETE FROM token_broker.migrations",
    *(f"TRUNCATE token_broker.{table}" for table in TABLES),
    "UPDATE token_broker.migrations SET digest = ''",
    "INSERT INTO token_broker.migrations (version, name, digest) VALUES (99, 'mine', '')",
    # DDL.
    *(f"DROP TABLE token_broker.{table}" for table in TABLES),
    *(f"ALTER TABLE token_broker.{table} ADD COLUMN mine text" for table in TABLES),
    "ALTER TABLE token_broker.installs DISABLE TRIGGER ALL",
    "ALTER TABLE token_broker.installs DROP CONSTRAINT a_tombstone_holds_no_token",
    "CREATE INDEX mine ON token_broker.installs (company_id)",
    "DROP INDEX token_broker.installs_due",
    "CREATE TABLE token_broker.mine (id text)",
    "CREATE TABLE public.mine (id text)",
    "CREATE VIEW token_broker.mine AS SELECT 1",
    "CREATE FUNCTION token_broker.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER mine BEFORE UPDATE ON token_broker.installs EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE mine AS ON UPDATE TO token_broker.installs DO INSTEAD NOTHING",
    "CREATE SCHEMA mine",
    "DROP SCHEMA token_broker CASCADE",
    "CREATE EXTENSION pg_stat_statements",
    # More rights.
    f"ALTER ROLE {ROLE} SUPERUSER",
    "CREATE ROLE mine",
    f"ALTER TABLE token_broker.installs OWNER TO {ROLE}",
    "SELECT rolpassword FROM pg_authid",
    # Out of the database.
    "COPY token_broker.installs TO '/tmp/mine'",
    "COPY token_broker.installs TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
    "ALTER SYSTEM SET log_statement = 'all'",
)


async def migrate(database: str, *arguments: str) -> Finished:
    """`token-broker migrate` by the schema's owner."""
    return await token_broker("migrate", *arguments, env={"TOKEN_BROKER_DATABASE_URL": database})


def table_grants(database: str, role: str = ROLE) -> list[tuple[str, ...]]:
    """What the catalogue says."""
    with psycopg.connect(database) as connection:
        return connection.execute(GRANTS, [role]).fetchall()


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """A role without any right of its own, gone afterwards."""
    name = sql.Identifier(ROLE)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        yield ROLE
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))


@pytest.fixture
def as_role(database: str, role: str) -> str:
    """The DSN of the database for the role, once `migrate --grant-to` has let it serve."""
    granted = asyncio.run(migrate(database, "--grant-to", role))
    assert (granted.code, granted.out) == (0, "nothing to do\n")
    return make_conninfo(direct_url(database), user=role)


def test_grants_are_these_and_no_others(database: str, as_role: str) -> None:
    """A grant that is added must be added here, by somebody who has thought about it."""
    assert as_role
    assert table_grants(database) == ALLOWED


def test_serving_role_is_refused_whatever_serving_does_not_need(as_role: str) -> None:
    """Whoever breaks into a broker has its tokens for as long as it is in, and can destroy nothing."""
    allowed = []
    with psycopg.connect(as_role, autocommit=True) as connection:
        for statement in FORBIDDEN:
            try:
                connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
            allowed.append(statement)
    assert allowed == []


def test_forbidden_statements_are_refused_for_the_role_s_sake_alone(database: str, as_role: str) -> None:
    """A misspelt statement would be refused to anybody, and prove nothing."""
    assert as_role
    with psycopg.connect(direct_url(database)) as owner:
        for statement in FORBIDDEN:
            if "COPY" in statement or "SYSTEM" in statement or "pg_read_file" in statement:
                continue  # what leaves the database is not done even in a test
            with owner.transaction(force_rollback=True):
                owner.execute(statement.encode())


def test_granting_takes_away_what_was_granted_before(database: str, as_role: str) -> None:
    """A role that once was given too much is mended by the same command."""
    with psycopg.connect(database) as connection:
        connection.execute(
            sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA token_broker TO {}").format(sql.Identifier(ROLE))
        )
    assert table_grants(database) != ALLOWED
    assert asyncio.run(migrate(database, "--grant-to", ROLE)).code == 0
    assert table_grants(database) == ALLOWED
    assert as_role


def test_serving_role_can_pass_nothing_on(database: str, as_role: str) -> None:
    """Postgres only warns, and grants nothing."""
    with psycopg.connect(as_role, autocommit=True) as connection:
        connection.execute("GRANT ALL ON token_broker.installs TO PUBLIC")
    assert table_grants(database, "PUBLIC") == []


async def test_unknown_role_is_refused_by_its_name(database: str) -> None:
    """And nothing else is said of the database."""
    refused = await migrate(database, "--grant-to", 'nobody"; DROP SCHEMA token_broker')
    assert (refused.code, refused.out) == (1, "")
    assert "does not exist" in refused.err
    assert "Traceback" not in refused.err


async def test_serving_role_can_rotate(database: str, role: str) -> None:
    """`keys status|reseal|abandon` need no more than serving does: the owner's password stays where it is."""
    assert (await migrate(database, "--grant-to", role)).code == 0
    steps = rotation()
    await installed(database, steps.first, 2)
    async with replica(make_conninfo(direct_url(database), user=role), steps.promoted) as broker:
        assert await broker.check.problem() is None
        progress = await broker.rows.reseal(
            rows_per_second=1_000_000, on_progress=lambda _: None, on_broken=lambda _: None
        )
        assert progress.changed == 2
        await broker.rows.abandon(steps.new_id, rows_per_second=1_000_000, on_progress=lambda _: None)
    assert sealed_by(database, steps.new_id) == 0
