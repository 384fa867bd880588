"""What the role that serves may do: read and write rows. No DDL, no DELETE, no TRUNCATE."""

from typing import Final

import psycopg
from psycopg import sql

from broker.adapters.postgres.connections import check_database_url
from broker.domain.secret import Secret

_GRANTS: Final = (
    "GRANT USAGE ON SCHEMA token_broker TO {role}",
    "GRANT SELECT, INSERT, UPDATE ON token_broker.installs, token_broker.provider_health TO {role}",
    "GRANT SELECT, UPDATE ON token_broker.census TO {role}",
    "GRANT SELECT ON token_broker.migrations TO {role}",
)


def grant_serving(database_url: str, role: str) -> None:
    """Let `role` serve, and take from it what an earlier grant gave beyond that. Safe to run twice.

    Raises:
        ValueError: libpq can't read the URL.
        psycopg.Error: the database can't be reached, or refuses: no such role, or not the schema's owner.
    """
    check_database_url(Secret(database_url))
    name = sql.Identifier(role)
    with psycopg.connect(database_url) as connection:
        connection.execute(sql.SQL("REVOKE ALL ON SCHEMA token_broker FROM {role}").format(role=name))
        connection.execute(
            sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA token_broker FROM {role}").format(role=name)
        )
        for grant in _GRANTS:
            connection.execute(sql.SQL(grant).format(role=name))
