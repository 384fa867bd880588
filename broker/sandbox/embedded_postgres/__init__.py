"""A Postgres server of one's own, for the sandbox and the tests."""

from broker.sandbox.embedded_postgres.programs import EmbeddedPostgresError, PostgresNotFoundError
from broker.sandbox.embedded_postgres.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "PostgresNotFoundError"]
