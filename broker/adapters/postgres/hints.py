"""PostgresHints: the Hints port by LISTEN and NOTIFY.

A NOTIFY in the storing transaction would serialise commits, so hints are sent by themselves, in batches, and may be lost:
with the process, with the database, or behind a pooler that gives no session. Every replica is right without them.
"""

import asyncio
import json
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Final, LiteralString

import psycopg
import structlog

from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.queries import QUERIES
from broker.domain.backoff import full_jitter
from broker.domain.errors import RetryableError
from broker.domain.identifiers import InstallKey
from broker.domain.secret import Secret

log = structlog.get_logger(__name__)

CHANNEL: Final = "token_broker"
LISTEN: Final = f"LISTEN {CHANNEL}"
FLUSH_INTERVAL: Final = timedelta(milliseconds=50)
MAX_QUEUED: Final = 10_000
# Postgres takes payloads of less than 8,000 bytes.
MAX_KEYS_BYTES: Final = 7_900
# A server that has been silent so long is asked whether it is there, and has as long to answer.
SILENCE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(seconds=10)

OnHint = Callable[[InstallKey], None]


class PostgresHints:
    """Sends and hears hints, once started."""

    def __init__(self, connections: Connections, listen_url: Secret) -> None:
        """`listen_url`: where a session is one, and not a pooler's."""
        self._connections = connections
        self._listen_url = listen_url
        # Told apart from the others' hints: what this process has stored it knows.
        self._sender = secrets.token_hex(8)
        self._queued: dict[InstallKey, None] = {}
        self._something_queued = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, on_hint: OnHint) -> None:
        """Begin to send, and to pass on what is heard."""
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._listen(on_hint))]

    async def stop(self) -> None:
        """Send and hear no more. What is queued is lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def tell(self, key: InstallKey) -> None:
        """See Hints."""
        self._queued[key] = None
        if len(self._queued) > MAX_QUEUED:
            del self._queued[next(iter(self._queued))]
        self._something_queued.set()

    async def _send(self) -> None:
        while True:
            await self._something_queued.wait()
            await asyncio.sleep(FLUSH_INTERVAL.total_seconds())
            keys, self._queued = self._queued, {}
            self._something_queued.clear()
            try:
                async with self._connections.connection() as connection:
                    for payload in self._payloads(list(keys)):
                        await connection.execute(QUERIES["notify"], {"channel": CHANNEL, "payload": payload})
            except RetryableError as error:
                log.debug("hints.lost", count=len(keys), error=str(error))
            except psycopg.Error:
                log.exception("hints.failed")

    def _payloads(self, keys: list[InstallKey]) -> Iterator[str]:
        batch: list[InstallKey] = []
        size = 0
        for key in keys:
            length = len(json.dumps(key)) + 2
            if size + length > MAX_KEYS_BYTES - len(self._sender):
                yield json.dumps([self._sender, batch])
                batch, size = [], 0
            batch.append(key)
            size += length
        yield json.dumps([self._sender, batch])

    async def _listen(self, on_hint: OnHint) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(SILENCE.total_seconds()):
                    connection = await psycopg.AsyncConnection.connect(
                        self._listen_url.reveal(), autocommit=True, application_name="token-broker hints"
                    )
                try:
                    if failures:
                        log.info("hints.listening_again")
                    failures = 0
                    await self._hear(connection, on_hint)
                finally:
                    # Its own farewell would wait for a server that may be frozen.
                    connection.pgconn.finish()
            except (psycopg.Error, OSError, TimeoutError) as error:
                if not failures:
                    log.warning("hints.not_heard", error=type(error).__name__)
            failures += 1
            pause = min(full_jitter(failures, random.random()), LONGEST_PAUSE)  # noqa: S311 (jitter)
            await asyncio.sleep(pause.total_seconds())

    async def _hear(self, connection: psycopg.AsyncConnection, on_hint: OnHint) -> None:
        await self._ask(connection, LISTEN)
        while True:
            async for notification in connection.notifies(timeout=SILENCE.total_seconds()):
                for key in self._keys_of(notification.payload):
                    on_hint(key)
            await self._ask(connection, "SELECT 1")

    async def _ask(self, connection: psycopg.AsyncConnection, statement: LiteralString) -> None:
        """A statement that a frozen server must not hold up: psycopg's own cancellation would wait for it."""
        asked = asyncio.create_task(_execute(connection, statement))
        done, _ = await asyncio.wait({asked}, timeout=SILENCE.total_seconds())
        if not done:
            asked.cancel()
            raise TimeoutError
        asked.result()

    def _keys_of(self, payload: str) -> list[InstallKey]:
        with suppress(ValueError, RecursionError):
            match json.loads(payload):
                case [str(sender), [*keys]] if sender != self._sender:
                    return [InstallKey(*key) for key in keys if _is_key(key)]
        return []


async def _execute(connection: psycopg.AsyncConnection, statement: LiteralString) -> None:
    await connection.execute(statement)


def _is_key(key: object) -> bool:
    match key:
        case [str(), str()]:
            return True
    return False
