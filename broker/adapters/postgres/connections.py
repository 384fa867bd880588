"""The connection pool, its deadlines, and what its failures mean.

A server may be frozen, or cut off without a word. psycopg's own cancellation asks that same server and waits ten seconds
for it, so deadlines are kept another way: at the end of its time a connection's socket is shut down under it, and
whoever waits for it reads of a lost connection at once.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

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

# A connection that has rested longer is asked whether it is still there: a restart may have been in between.
RESTED: Final = timedelta(seconds=1)
# Of the patience: what that question may take, since another connection must then still do the work.
CHECK_SHARE: Final = 0.2
# A server that is gone without a word is noticed by TCP, for connections that nobody has a deadline on.
TCP_DEFAULTS: Final = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


class Connection(psycopg.AsyncConnection[DictRow]):
    """A connection that remembers when it was last used, and can be hung up on."""

    used_at: float = 0.0
    ran_out = False

    def hang_up(self) -> None:
        """Shut the socket down: whatever waits for the server ends at once, and the pool drops the connection."""
        self.ran_out = True
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Hang up if the block is not over in time."""
        timer = asyncio.get_running_loop().call_later(max(seconds, 0), self.hang_up)
        try:
            yield
        finally:
            timer.cancel()


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


class PoolUsage(NamedTuple):
    """Connections in use and idle, what waits for one, and as many as there may be."""

    used: int
    idle: int
    waiting: int
    at_most: int


class Connections:
    """A bounded pool. Statements are never prepared, so a transaction-mode PgBouncer may stand in between."""

    def __init__(self, database_url: Secret, *, max_size: int, patience: timedelta) -> None:
        """`patience` bounds the wait for a connection and the work done with it, together."""
        self._patience = patience.total_seconds()
        self._max_size = max_size
        self._in_use = 0
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            database_url.reveal(),
            connection_class=Connection,
            kwargs={
                **_unless_set(database_url, TCP_DEFAULTS),
                "autocommit": True,
                "row_factory": dict_row,
                "prepare_threshold": None,
                "context": _ADAPTERS,
            },
            min_size=1,
            max_size=max_size,
            timeout=self._patience * QUEUE_SHARE,
            check=self._check,
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

    def usage(self) -> PoolUsage:
        """How the connections are used now."""
        stats = self._pool.get_stats()
        size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
        return PoolUsage(size - idle, idle, stats.get("requests_waiting", 0), self._pool.max_size)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit.

        Raises:
            StoreUnavailable: the database is away, too slow, or won't do what a store needs.
            Overloaded: every connection of the pool is in use.
        """
        ends_at = time.monotonic() + self._patience
        ran_out = False
        try:
            async with self._pool.connection() as connection:
                self._in_use += 1
                try:
                    with connection.deadline(ends_at - time.monotonic()):
                        yield connection
                finally:
                    self._in_use -= 1
                    ran_out = connection.ran_out
                    connection.used_at = time.monotonic()
        except PoolTimeout:
            if self._in_use >= self._max_size:
                raise Overloaded(
                    "every database connection is in use; retry later", OVERLOAD_RETRY_AFTER
                ) from None
            raise StoreUnavailable("the database can't be reached; retry later", RETRY_AFTER) from None
        except _UNAVAILABLE as error:
            if ran_out:
                raise StoreUnavailable("the database answers too slowly; retry later", RETRY_AFTER) from None
            log.warning("store.unavailable", error=type(error).__name__, sqlstate=error.sqlstate)
            raise StoreUnavailable("the database is unavailable; retry later", RETRY_AFTER) from None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction that is committed at the end. Raises as `connection` does."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def _check(self, connection: Connection) -> None:
        """Raise if a connection that has rested is gone. One that was used just now costs no round trip."""
        if time.monotonic() - connection.used_at > RESTED.total_seconds():
            with connection.deadline(self._patience * CHECK_SHARE):
                await connection.execute("")


def _unless_set(database_url: Secret, defaults: Mapping[str, str]) -> dict[str, str]:
    """Those of the defaults that the URL does not decide."""
    chosen = conninfo_to_dict(database_url.reveal())
    return {name: value for name, value in defaults.items() if name not in chosen}
