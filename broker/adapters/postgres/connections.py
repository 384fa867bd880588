"""The connection pool, and what its failures mean."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import psycopg
import structlog
from psycopg import errors
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from broker.domain.errors import Overloaded, StoreUnavailable
from broker.domain.secret import Secret

log = structlog.get_logger(__name__)

RETRY_AFTER: Final = timedelta(seconds=1)
OVERLOAD_RETRY_AFTER: Final = timedelta(milliseconds=500)

Connection = psycopg.AsyncConnection[DictRow]

# What a database says that is down, full, read-only, or not migrated: none of it is the statement's fault.
_UNAVAILABLE: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.UndefinedTable,
    errors.InvalidSchemaName,
    errors.InsufficientPrivilege,
)


class Connections:
    """A bounded pool. Statements are never prepared, so a transaction-mode PgBouncer may stand in between."""

    def __init__(self, database_url: Secret, *, max_size: int, patience: timedelta) -> None:
        """`patience` bounds the wait for a connection, and again the work done with it."""
        self._patience = patience.total_seconds()
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            database_url.reveal(),
            kwargs={"autocommit": True, "row_factory": dict_row, "prepare_threshold": None},
            min_size=1,
            max_size=max_size,
            timeout=self._patience,
            check=AsyncConnectionPool.check_connection,
            open=False,
            name="installs",
        )

    async def open(self) -> None:
        """Begin to connect. Returns at once: a database that is away is waited for behind the scenes."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit.

        Raises:
            StoreUnavailable: the database is away, too slow, or won't do what a store needs.
            Overloaded: every connection of the pool is in use.
        """
        try:
            async with self._pool.connection() as connection, asyncio.timeout(self._patience):
                yield connection
        except PoolTimeout:
            raise self._pool_timeout() from None
        except TimeoutError:
            raise StoreUnavailable("the database answers too slowly; retry later", RETRY_AFTER) from None
        except _UNAVAILABLE as error:
            log.warning("store.unavailable", error=type(error).__name__, sqlstate=error.sqlstate)
            raise StoreUnavailable("the database is unavailable; retry later", RETRY_AFTER) from None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction that is committed at the end. Raises as `connection` does."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    def _pool_timeout(self) -> StoreUnavailable | Overloaded:
        stats: dict[str, Any] = self._pool.get_stats()
        connected = stats["pool_size"] > 0 and not stats.get("connections_errors", 0)
        if connected:
            return Overloaded("every database connection is in use; retry later", OVERLOAD_RETRY_AFTER)
        return StoreUnavailable("the database can't be reached; retry later", RETRY_AFTER)
