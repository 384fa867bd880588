"""Installs in a database, sealed by keysets of the test's choosing, and replicas that have one keyset each."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from broker.adapters.clock import SteadyClock
from broker.adapters.keys import TinkCipher, generate_keyset, with_new_key, with_newest_primary
from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.resealing import SealedRows
from broker.adapters.postgres.seal_check import SealCheck
from broker.adapters.postgres.store import PostgresInstallStore
from broker.domain.claims import Claim
from broker.domain.identifiers import InstallKey
from broker.domain.secret import Secret
from broker.ports import Clock
from tests.fakes.samples import APP, COMPANY, due, exchange, issued

PATIENCE: Final = timedelta(seconds=20)
_SEALED: Final = "SELECT * FROM token_broker.installs ORDER BY plugin_id, install_id"


@dataclass(frozen=True)
class Rotation:
    """The keysets of one rotation, in the order in which they are deployed."""

    first: Secret
    added: Secret
    promoted: Secret

    @property
    def old_id(self) -> int:
        """The key that is rotated out."""
        return TinkCipher(self.first).primary_key_id

    @property
    def new_id(self) -> int:
        """The key that comes."""
        return TinkCipher(self.promoted).primary_key_id


def rotation() -> Rotation:
    """New keysets."""
    first = generate_keyset()
    added, _ = with_new_key(first)
    return Rotation(first, added, with_newest_primary(added)[0])


class SealingReplica:
    """What a broker with one keyset does with the database."""

    def __init__(self, connections: Connections, keyset: Secret, clock: Clock) -> None:
        self.cipher: Final = TinkCipher(keyset)
        self.clock: Final = clock
        self.store: Final = PostgresInstallStore(connections, self.cipher, clock)
        self.rows: Final = SealedRows(connections, self.cipher, clock)
        self.check: Final = SealCheck(connections, self.cipher, clock)

    async def install(self, key: InstallKey) -> None:
        """An ACTIVE install of generation 1."""
        await self.store.enrol(key, COMPANY)
        claim = await self.store.claim(key, exchange())
        assert isinstance(claim, Claim)
        await self.store.keep(claim, issued(self.clock.now()))

    async def refresh(self, key: InstallKey) -> bool:
        """One refresh, its stored refresh token opened; False if another replica was at it."""
        holding = await self.store.find_holding(key)
        assert holding is not None
        claim = await self.store.claim(key, due(holding.install.generation))
        if not isinstance(claim, Claim):
            return False
        assert claim.refresh_token is not None
        kept = await self.store.keep(claim, issued(self.clock.now()))
        assert kept.access_token is not None
        return True

    async def opens(self, key: InstallKey) -> bool:
        """Whether both tokens of the install open here. Raises SealBroken if not."""
        holding = await self.store.find_holding(key)
        assert holding is not None
        return holding.access_token is not None and await self.refresh(key)


@asynccontextmanager
async def replica(database: str, keyset: Secret, clock: Clock | None = None) -> AsyncIterator[SealingReplica]:
    """A replica with that keyset."""
    connections = Connections(Secret(database), max_size=4, patience=PATIENCE)
    await connections.open()
    try:
        yield SealingReplica(connections, keyset, clock or SteadyClock())
    finally:
        await connections.close()


def install_keys(count: int) -> list[InstallKey]:
    """That many installs of one app."""
    return [InstallKey(APP.plugin_id, f"{2_000_000 + number}") for number in range(count)]


async def installed(database: str, keyset: Secret, count: int) -> list[InstallKey]:
    """That many installs, sealed with that keyset."""
    keys = install_keys(count)
    async with replica(database, keyset) as broker:
        for key in keys:
            await broker.install(key)
    return keys


def stored(database: str) -> list[dict[str, Any]]:
    """Every row, byte for byte."""
    with psycopg.connect(database, row_factory=dict_row) as connection:
        return connection.execute(_SEALED).fetchall()


def sealed_by(database: str, key_id: int) -> int:
    """How many ciphertexts the key has made of what is stored, read without the code under test."""
    prefix = b"\x01" + key_id.to_bytes(4)
    return sum(
        row[column] is not None and row[column].startswith(prefix)
        for row in stored(database)
        for column in ("access_token", "refresh_token")
    )


def damage(database: str, key: InstallKey) -> None:
    """Change the last byte of an access token."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE token_broker.installs SET access_token = set_byte(access_token, length(access_token) - 1,"
            " get_byte(access_token, length(access_token) - 1) # 1)"
            " WHERE plugin_id = %(plugin_id)s AND install_id = %(install_id)s",
            key._asdict(),
        )
