"""PostgresHints: the Hints port by LISTEN and NOTIFY.

A NOTIFY in the storing transaction would serialise commits, so hints are sent by themselves, in batches, and may be lost:
with the process, with the database, or behind a pooler that gives no session. Every replica is right without them.
"""

import asyncio
import json
import math
import random
import secrets
from collections.abc import Callable, Iterator
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
MAX_SUBJECTS_BYTES: Final = 7_900
# A server that has been silent so long is asked whether it is there, and has as long to answer.
SILENCE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(seconds=10)
# A hint that takes longer is as good as lost: a pooler passes some on, whenever it happens to.
HEARD_WITHIN: Final = timedelta(seconds=1)

OnHint = Callable[[InstallKey], None]
OnHealthHint = Callable[[str], None]
# As it is sent: an install's plugin id and install id, or an app's plugin id alone.
_Subject = tuple[str, str] | tuple[str]


class PostgresHints:
    """Sends and hears hints, once started."""

    def __init__(self, connections: Connections, listen_url: Secret) -> None:
        """`listen_url`: where a session is one, and not a pooler's."""
        self._connections = connections
        self._listen_url = listen_url
        # Told apart from the others' hints: what this process has stored it knows.
        self._sender = secrets.token_hex(8)
        self._queued: dict[_Subject, None] = {}
        self._something_queued = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._on_hint: OnHint = lambda _key: None
        self._on_health_hint: OnHealthHint = lambda _plugin_id: None
        self._are_heard = False
        self._sent_at = -math.inf

    @property
    def are_heard(self) -> bool:
        return self._are_heard

    def start(self, on_hint: OnHint, on_health_hint: OnHealthHint) -> None:
        """Begin to send, and to pass on what is heard."""
        self._on_hint, self._on_health_hint = on_hint, on_health_hint
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._listen())]

    async def stop(self) -> None:
        """Send and hear no more. What is queued is lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def tell(self, key: InstallKey) -> None:
        """See Hints."""
        self._queue((key.plugin_id, key.install_id))

    def tell_health(self, plugin_id: str) -> None:
        """See Hints."""
        self._queue((plugin_id,))

    def _queue(self, subject: _Subject) -> None:
        self._queued[subject] = None
        if len(self._queued) > MAX_QUEUED:
            del self._queued[next(iter(self._queued))]
        self._something_queued.set()

    async def _send(self) -> None:
        while True:
            await self._something_queued.wait()
            await asyncio.sleep(FLUSH_INTERVAL.total_seconds())
            subjects, self._queued = self._queued, {}
            self._something_queued.clear()
            self._sent_at = asyncio.get_running_loop().time()
            try:
                async with self._connections.connection() as connection:
                    for payload in self._payloads(list(subjects)):
                        await connection.execute(QUERIES["notify"], {"channel": CHANNEL, "payload": payload})
            except RetryableError as error:
                log.debug("hints.lost", count=len(subjects), error=str(error))
            except psycopg.Error:
                log.exception("hints.failed")

    def _payloads(self, subjects: list[_Subject]) -> Iterator[str]:
        batch: list[_Subject] = []
        size = 0
        for subject in subjects:
            length = len(json.dumps(subject)) + 2
            if size + length > MAX_SUBJECTS_BYTES - len(self._sender):
                yield json.dumps([self._sender, batch])
                batch, size = [], 0
            batch.append(subject)
            size += length
        yield json.dumps([self._sender, batch])

    async def _listen(self) -> None:
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
                    await self._hear(connection)
                finally:
                    self._are_heard = False
                    # Its own farewell would wait for a server that may be frozen.
                    connection.pgconn.finish()
            except (psycopg.Error, OSError, TimeoutError) as error:
                if not failures:
                    log.warning("hints.not_heard", error=type(error).__name__)
            failures += 1
            pause = min(full_jitter(failures, random.random()), LONGEST_PAUSE)  # noqa: S311 (jitter)  # nosec B311
            await asyncio.sleep(pause.total_seconds())

    async def _hear(self, connection: psycopg.AsyncConnection) -> None:
        await self._ask(connection, LISTEN)
        self._say_something()
        while True:
            async for notification in connection.notifies(timeout=SILENCE.total_seconds()):
                self._pass_on(notification.payload)
            await self._ask(connection, "SELECT 1")
            self._say_something()

    def _say_something(self) -> None:
        """Send to itself, by the way that all hints go: behind a pooler that gives no session nobody hears any."""
        self._something_queued.set()

    async def _ask(self, connection: psycopg.AsyncConnection, statement: LiteralString) -> None:
        """A statement that a frozen server must not hold up: psycopg's own cancellation would wait for it."""
        asked = asyncio.create_task(_execute(connection, statement))
        done, _ = await asyncio.wait({asked}, timeout=SILENCE.total_seconds())
        if not done:
            asked.cancel()
            raise TimeoutError
        asked.result()

    def _pass_on(self, payload: str) -> None:
        """Anybody who reaches the database can send anything here."""
        try:
            told = json.loads(payload)
        except (ValueError, RecursionError):
            return
        match told:
            case [self._sender, _]:
                took = asyncio.get_running_loop().time() - self._sent_at
                self._are_heard = took < HEARD_WITHIN.total_seconds()
            case [str(), [*subjects]]:
                for subject in subjects:
                    match subject:
                        case [str(plugin_id), str(install_id)]:
                            self._on_hint(InstallKey(plugin_id, install_id))
                        case [str(plugin_id)]:
                            self._on_health_hint(plugin_id)


async def _execute(connection: psycopg.AsyncConnection, statement: LiteralString) -> None:
    await connection.execute(statement)
