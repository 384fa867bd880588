"""The connection pool, and what its failures mean."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
import structlog
from psycopg import errors
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from broker.domain.errors import Overloaded, StoreUnavailable
from broker.domain.secret import Secret

log = structlog.get_logger(__name__)

# Of the patience: who has waited so long for a connection would not get its work done with the rest.
QUEUE_SHARE: Final = 0.5
RETRY_AFTER: Final = timedelta(seconds=1)
OVERLOAD_RETRY_AFTER: Final = timedelta(milliseconds=500)

Connection = psycopg.AsyncConnection[DictRow]

# What a database says that is down, full, read-only, or not migrated: none of it is the statement's fault.
_UNAVAILABLE: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,  # a read-only server, a transaction that its own limits ended
    errors.UndefinedTable,
    errors.InvalidSchemaName,
    errors.InsufficientPrivilege,
)


class _UtcLoader(TimestamptzLoader):
    """Times in UTC whatever the session's zone: within one zone Python counts wall-clock hours, and those jump."""

    def load(self, data: Buffer) -> datetime:
        return super().load(data).astimezone(UTC)


_ADAPTERS: Final = AdaptersMap(psycopg.adapters)
_ADAPTERS.register_loader("timestamptz", _UtcLoader)


def check_database_url(database_url: Secret) -> None:
    """Nothing, if libpq can read it.

    Raises:
        ValueError: it can't. libpq's own text may quote the password, so this one says less.
    """
    try:
        conninfo_to_dict(database_url.reveal())
    except psycopg.ProgrammingError:
        raise ValueError("is no connection string that libpq can read") from None


class Connections:
    """A bounded pool. Statements are never prepared, so a transaction-mode PgBouncer may stand in between."""

    def __init__(self, database_url: Secret, *, max_size: int, patience: timedelta) -> None:
        """`patience` bounds the wait for a connection and the work done with it, together."""
        self._patience = patience.total_seconds()
        self._max_size = max_size
        self._in_use = 0
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            database_url.reveal(),
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "prepare_threshold": None,
                "context": _ADAPTERS,
            },
            min_size=1,
            max_size=max_size,
            timeout=self._patience * QUEUE_SHARE,
            check=AsyncConnectionPool.check_connection,
            # Or its back-off doubles for minutes, and a database that is back stays unused as long.
            reconnect_timeout=self._patience,
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
            async with asyncio.timeout(self._patience), self._pool.connection() as connection:
                self._in_use += 1
                try:
                    yield connection
                finally:
                    self._in_use -= 1
        except PoolTimeout:
            if self._in_use >= self._max_size:
                raise Overloaded(
                    "every database connection is in use; retry later", OVERLOAD_RETRY_AFTER
                ) from None
            raise StoreUnavailable("the database can't be reached; retry later", RETRY_AFTER) from None
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
