"""PostgresProviderHealth: the ProviderHealthStore port, one locked record an app.

What becomes of a record is decided in domain/provider_health.py; this file locks, asks, writes.
"""

from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import datetime
from typing import TypeVar

from broker.adapters.postgres.connections import Connections
from broker.adapters.postgres.queries import QUERIES
from broker.domain.errors import ProviderFault
from broker.domain.provider_health import (
    FIRST_LEVEL,
    Lease,
    ProviderHealth,
    ProviderLimits,
    after_answer,
    leased,
)
from broker.ports import Randomness

Result = TypeVar("Result")


class PostgresProviderHealth:
    """Docstrings of the methods stand on the port."""

    def __init__(self, connections: Connections, limits: ProviderLimits, randomness: Randomness) -> None:
        self._connections = connections
        self._limits = limits
        self._randomness = randomness

    async def lease(self, plugin_id: str, want: int, *, urgent: bool, insist: bool = False) -> Lease:
        def change(health: ProviderHealth, now: datetime) -> tuple[ProviderHealth, Lease]:
            return leased(health, want, urgent=urgent, insist=insist, limits=self._limits, now=now)

        return await self._change(plugin_id, change)

    async def report(self, plugin_id: str, install_id: str, fault: ProviderFault | None) -> ProviderHealth:
        def answered(health: ProviderHealth, now: datetime) -> tuple[ProviderHealth, ProviderHealth]:
            health = after_answer(health, install_id, fault, now=now, fraction=self._randomness.fraction())
            return health, health

        return await self._change(plugin_id, answered)

    async def _change(
        self, plugin_id: str, change: Callable[[ProviderHealth, datetime], tuple[ProviderHealth, Result]]
    ) -> Result:
        async with self._connections.transaction() as connection:
            cursor = await connection.execute(QUERIES["find_health"], {"plugin_id": plugin_id})
            row = await cursor.fetchone()
            if row is None:
                first = {"plugin_id": plugin_id, "level": FIRST_LEVEL}
                await connection.execute(QUERIES["enrol_health"], first)
                cursor = await connection.execute(QUERIES["find_health"], {"plugin_id": plugin_id})
                (row,) = await cursor.fetchall()
            before = ProviderHealth(**{field.name: row[field.name] for field in fields(ProviderHealth)})
            health, result = change(before, row["now"])
            if health != before:
                await connection.execute(QUERIES["write_health"], {"plugin_id": plugin_id, **asdict(health)})
        return result
