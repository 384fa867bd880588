"""Which keys seal what is stored; sealing it anew; and giving up what a lost key has sealed.

All of it runs beside brokers of this release and of the one before. Nothing is decided on what was read without a lock:
a row is read, opened, sealed and written under its lock, in a transaction of its own, and only the ciphertexts change.
The associated data stays (table, column, install, generation), and so do generation, claim, fence and times: whoever
holds a claim, or has read the row before, sees no difference. A run that is killed has done whole rows only; the next
one takes those that are left.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from broker.adapters.clock import SteadyClock
from broker.adapters.postgres.connections import Connection, Connections, check_database_url
from broker.adapters.postgres.queries import QUERIES
from broker.adapters.postgres.rows import ACCESS_TOKEN, REFRESH_TOKEN, Row, key_of, open_token, seal_context
from broker.domain.errors import SealBroken
from broker.domain.identifiers import InstallKey
from broker.domain.secret import Secret
from broker.ports import Cipher, Clock

COLUMNS: Final = (ACCESS_TOKEN, REFRESH_TOKEN)
# Read in one statement: some milliseconds, and a megabyte.
PAGE_ROWS: Final = 1000
# For one statement of a command that nobody's call waits for.
PATIENCE: Final = timedelta(seconds=10)
_FIRST: Final = InstallKey("", "")


class KeyedCipher(Cipher, Protocol):
    """A Cipher whose ciphertexts name their key in their first `prefix_bytes`."""

    prefix_bytes: int
    primary_key_id: int
    key_ids: AbstractSet[int]

    def sealed_by(self, sealed: bytes) -> int | None:
        """The id of the key that made a ciphertext; None if it names none."""
        ...


@dataclass(slots=True)
class Sealed:
    """How many ciphertexts a key has made of what is stored."""

    access_tokens: int = 0
    refresh_tokens: int = 0


@dataclass(slots=True)
class Progress:
    """What a run has come to. `broken`: how many rows did not open, and were left as they are."""

    seen: int = 0
    changed: int = 0
    broken: int = 0
    last: InstallKey = field(default=_FIRST)


class SealedRows:
    """The ciphertexts in the database. Every method raises StoreUnavailable; what is done until then stays done."""

    def __init__(self, connections: Connections, cipher: KeyedCipher, clock: Clock) -> None:
        self._connections = connections
        self._cipher = cipher
        self._clock = clock

    async def counts(self) -> dict[int | None, Sealed]:
        """By the key's id; None for what names no key. Rows that change meanwhile count as they were seen."""
        counts: dict[int | None, Sealed] = {}
        async for page in self._pages():
            for row in page:
                for key_id, column in self._keys(row):
                    sealed = counts.setdefault(key_id, Sealed())
                    sealed.access_tokens += column == ACCESS_TOKEN
                    sealed.refresh_tokens += column == REFRESH_TOKEN
        return counts

    async def reseal(
        self,
        *,
        rows_per_second: float,
        on_progress: Callable[[Progress], None],
        on_broken: Callable[[InstallKey], None],
    ) -> Progress:
        """Seal everything with the primary key, in the order of the installs' keys, at most so many rows a second."""
        primary = self._cipher.primary_key_id

        def wanted(row: Row) -> bool:
            return any(key_id != primary for key_id, _ in self._keys(row))

        progress = Progress()
        async for row in self._paced(wanted, rows_per_second, progress, on_progress):
            try:
                progress.changed += await self._change(key_of(row), wanted, self._reseal)
            except SealBroken:
                progress.broken += 1
                on_broken(key_of(row))
        return progress

    async def abandon(
        self, key_id: int | None, *, rows_per_second: float, on_progress: Callable[[Progress], None]
    ) -> Progress:
        """Destroy what a lost key has sealed: those installs are due at once, and minted anew.

        None for a key: destroy what does not open though its key is there, or though it names none.
        """

        def wanted(row: Row) -> bool:
            return any(key_id in (None, sealed_by) for sealed_by, _ in self._keys(row))

        def is_lost(row: Row) -> bool:
            return wanted(row) if key_id is not None else self._is_broken(row)

        progress = Progress()
        async for row in self._paced(wanted, rows_per_second, progress, on_progress):
            progress.changed += await self._change(key_of(row), is_lost, _abandon)
        return progress

    async def _paced(
        self,
        wanted: Callable[[Row], bool],
        rows_per_second: float,
        progress: Progress,
        on_progress: Callable[[Progress], None],
    ) -> AsyncIterator[Row]:
        """Those of all rows that are wanted, spread over time."""
        step, next_at = timedelta(seconds=1 / rows_per_second), self._clock.now()
        async for page in self._pages():
            for row in filter(wanted, page):
                now = self._clock.now()
                if now < next_at:
                    await self._clock.sleep(next_at - now)
                next_at = max(next_at, now) + step
                yield row
            progress.seen += len(page)
            progress.last = key_of(page[-1])
            on_progress(progress)

    async def _pages(self) -> AsyncIterator[list[Row]]:
        behind = _FIRST
        while True:
            parameters = {
                "prefix_bytes": self._cipher.prefix_bytes,
                "after_plugin_id": behind.plugin_id,
                "after_install_id": behind.install_id,
                "limit": PAGE_ROWS,
            }
            async with self._connections.connection() as connection:
                cursor = await connection.execute(QUERIES["seal_page"], parameters)
                page: list[Row] = list(await cursor.fetchall())
            if page:
                yield page
            if len(page) < PAGE_ROWS:
                return
            behind = key_of(page[-1])

    def _keys(self, row: Row) -> list[tuple[int | None, str]]:
        return [(self._cipher.sealed_by(row[name]), name) for name in COLUMNS if row[name] is not None]

    def _is_broken(self, row: Row) -> bool:
        """Whether something does not open, and not since this keyset lacks a key: that another one may have."""
        columns = [name for _, name in self._keys(row)]
        if any(self._cipher.is_foreign(row[name]) for name in columns):
            return False
        return not all(opens(row, name, self._cipher) for name in columns)

    async def _change(
        self,
        key: InstallKey,
        wanted: Callable[[Row], bool],
        change: Callable[[Connection, Row], Awaitable[None]],
    ) -> bool:
        """Do it to the locked row, unless somebody else has written the row since it was wanted."""
        async with self._connections.transaction() as connection:
            cursor = await connection.execute(QUERIES["lock"], key._asdict())
            row = await cursor.fetchone()
            if row is None or not wanted(row):
                return False
            await change(connection, row)
        return True

    async def _reseal(self, connection: Connection, row: Row) -> None:
        sealed = {column: self._resealed(row, column) for column in COLUMNS}
        await connection.execute(QUERIES["reseal"], {**key_of(row)._asdict(), **sealed})

    def _resealed(self, row: Row, column: str) -> bytes | None:
        token = open_token(row, column, self._cipher)
        if token is None:
            return None
        return self._cipher.seal(token, seal_context(column, key_of(row), row["generation"]))


def opens(row: Row, column: str, cipher: Cipher) -> bool:
    """Whether the token in `column` opens."""
    try:
        open_token(row, column, cipher)
    except SealBroken:
        return False
    return True


async def _abandon(connection: Connection, row: Row) -> None:
    await connection.execute(QUERIES["abandon_tokens"], key_of(row)._asdict())


@asynccontextmanager
async def sealed_rows(database_url: Secret, cipher: KeyedCipher) -> AsyncIterator[SealedRows]:
    """What is sealed in that database, over a connection of its own. Raises ValueError if libpq can't read the URL."""
    check_database_url(database_url)
    connections = Connections(database_url, max_size=1, patience=PATIENCE)
    await connections.open()
    try:
        yield SealedRows(connections, cipher, SteadyClock())
    finally:
        await connections.close()
