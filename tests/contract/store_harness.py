"""The two InstallStores, each with the means to do what no port's verb does: end a claim, move a ciphertext."""

from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, LiteralString

import psycopg

from broker.adapters.clock import SteadyClock
from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.store import PostgresInstallStore
from broker.domain.claims import Claim, ClaimTerms
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding, IssuedTokens
from broker.domain.secret import Secret
from broker.ports import Clock, InstallStore
from tests.fakes.clock import FakeClock, ShiftedClock
from tests.fakes.install_store import InMemoryInstallStore
from tests.fakes.installs_table import InstallsTable
from tests.fakes.samples import CIPHER, COMPANY, KEY, exchange, issued

PATIENCE: Final = timedelta(seconds=20)
# How long a test waits for a database that is not there.
IMPATIENCE: Final = timedelta(milliseconds=100)
AWAY: Final = "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1"


class StoreHarness(ABC):
    """A store under test. `clock` is right; `store` may be given another."""

    clock: Clock

    @abstractmethod
    def store(self, clock: Clock | None = None) -> InstallStore:
        """A replica's store. All of one harness share their installs."""

    @abstractmethod
    async def away(self) -> InstallStore:
        """A store whose database can't be reached."""

    @abstractmethod
    async def end_claim(self, key: InstallKey = KEY) -> None:
        """Let the life of the install's claim pass."""

    @abstractmethod
    async def copy_access_token(self, source: InstallKey, target: InstallKey) -> None:
        """Put one install's sealed access token into another's row."""

    @abstractmethod
    async def copy_refresh_token_to_access_token(self, key: InstallKey) -> None:
        """Put a sealed token into the other column of its row."""

    @abstractmethod
    async def set_generation(self, key: InstallKey, generation: int) -> None:
        """Change a row's generation, and leave its sealed tokens."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything."""

    def shifted(self, offset: timedelta) -> InstallStore:
        """The store of a replica whose clock is wrong by `offset`."""
        return self.store(ShiftedClock(self.clock, offset))

    async def take(self, terms: ClaimTerms, key: InstallKey = KEY) -> Claim:
        """A claim that must be had."""
        claim = await self.store().claim(key, terms)
        assert isinstance(claim, Claim)
        return claim

    async def installed(self, pair: IssuedTokens | None = None, key: InstallKey = KEY) -> Holding:
        """An ACTIVE install of generation 1, by the webhook b"first"."""
        store = self.store()
        await store.enrol(key, COMPANY)
        return await store.keep(await self.take(exchange(), key), pair or issued(self.clock.now()))

    async def found(self, key: InstallKey = KEY) -> Holding:
        """What stands in the store now."""
        holding = await self.store().find_holding(key)
        assert holding is not None
        return holding


class MemoryHarness(StoreHarness):
    """InMemoryInstallStore."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.table = InstallsTable(self.clock, CIPHER)

    def store(self, clock: Clock | None = None) -> InstallStore:
        """See StoreHarness."""
        return InMemoryInstallStore(self.table, clock or self.clock)

    async def away(self) -> InstallStore:
        """See StoreHarness."""
        store = InMemoryInstallStore(self.table, self.clock)
        store.faults.away = True
        return store

    async def end_claim(self, key: InstallKey = KEY) -> None:
        """See StoreHarness."""
        with self.table.written(key) as row:
            row.install = replace(row.install, claim_ends_at=self.clock.now())
            row.due_at = self.clock.now()

    async def copy_access_token(self, source: InstallKey, target: InstallKey) -> None:
        """See StoreHarness."""
        self.table.rows[target].access_token = self.table.rows[source].access_token

    async def copy_refresh_token_to_access_token(self, key: InstallKey) -> None:
        """See StoreHarness."""
        self.table.rows[key].access_token = self.table.rows[key].refresh_token

    async def set_generation(self, key: InstallKey, generation: int) -> None:
        """See StoreHarness."""
        with self.table.written(key) as row:
            row.install = replace(row.install, generation=generation)

    async def close(self) -> None:
        """See StoreHarness."""


class PostgresHarness(StoreHarness):
    """PostgresInstallStore on a database of the test's own."""

    def __init__(self, dsn: str) -> None:
        self.clock = SteadyClock()
        self._dsn = dsn
        self._connections = [Connections(Secret(dsn), max_size=8, patience=PATIENCE)]

    async def open(self) -> None:
        """Begin to connect."""
        await self._connections[0].open()

    def store(self, clock: Clock | None = None) -> InstallStore:
        """See StoreHarness."""
        return PostgresInstallStore(self._connections[0], CIPHER, clock or self.clock)

    async def away(self) -> InstallStore:
        """See StoreHarness."""
        connections = Connections(Secret(AWAY), max_size=1, patience=IMPATIENCE)
        self._connections.append(connections)
        await connections.open()
        return PostgresInstallStore(connections, CIPHER, self.clock)

    async def end_claim(self, key: InstallKey = KEY) -> None:
        """See StoreHarness."""
        await self.execute(
            "UPDATE token_broker.installs SET claim_expires_at = clock_timestamp(), due_at = clock_timestamp() WHERE {}",
            key,
        )

    async def copy_access_token(self, source: InstallKey, target: InstallKey) -> None:
        """See StoreHarness."""
        await self.execute(
            "UPDATE token_broker.installs SET access_token = (SELECT access_token FROM token_broker.installs"
            " WHERE plugin_id = %(from_plugin_id)s AND install_id = %(from_install_id)s) WHERE {}",
            target,
            from_plugin_id=source.plugin_id,
            from_install_id=source.install_id,
        )

    async def copy_refresh_token_to_access_token(self, key: InstallKey) -> None:
        """See StoreHarness."""
        await self.execute("UPDATE token_broker.installs SET access_token = refresh_token WHERE {}", key)

    async def set_generation(self, key: InstallKey, generation: int) -> None:
        """See StoreHarness."""
        await self.execute(
            "UPDATE token_broker.installs SET generation = %(generation)s WHERE {}",
            key,
            generation=generation,
        )

    async def close(self) -> None:
        """See StoreHarness."""
        for connections in self._connections:
            await connections.close()

    async def execute(self, statement: LiteralString, key: InstallKey, **parameters: Any) -> None:
        """Change one row behind the store's back; `{}` stands for the row's condition."""
        condition = "plugin_id = %(plugin_id)s AND install_id = %(install_id)s"
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            cursor = await connection.execute(
                statement.replace("{}", condition), {**key._asdict(), **parameters}
            )
            assert cursor.rowcount == 1
