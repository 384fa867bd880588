"""PostgresCensus: the Census port. Counting reads the whole table, so one replica does it for all, and not often.

The row of token_broker.census holds what was counted. A replica that finds it too old tries to lock it, counts, and
writes; one that finds it locked reads what stands there. The apps' health is a row each, and is read every time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb

from broker.adapters.postgres.connections import Connection, Connections
from broker.adapters.postgres.queries import QUERIES
from broker.adapters.postgres.rows import Row
from broker.domain.census import ENDS, AppHealth, CensusOfInstalls, ExpiringOf, InstallsOf, Within
from broker.domain.provider_health import ProviderHealth, ProviderLimits, calls_left
from broker.domain.states import InstallState
from broker.ports import Clock

# For its connections' deadline. A million installs are counted within a second, and nobody's call waits for it.
PATIENCE: Final = timedelta(minutes=1)

# As width_bucket numbers them, by how many of the ends the token's is behind.
_WITHIN: Final = tuple(Within)
_ENDS_IN_SECONDS: Final = [end.total_seconds() for end in ENDS.values()]


class PostgresCensus:
    """Docstrings of the methods stand on the port."""

    def __init__(self, connections: Connections, limits: ProviderLimits, clock: Clock) -> None:
        """`connections`: of its own, with PATIENCE; what answers callers is given less."""
        self._connections = connections
        self._limits = limits
        self._clock = clock

    async def take(self, max_age: timedelta) -> CensusOfInstalls | None:
        asked_at = self._clock.now()
        async with self._connections.connection() as connection:
            row = await _one(connection, "find_census")
            if _is_old(row, max_age):
                row = await self._counted(connection, max_age) or row
            healths = await (await connection.execute(QUERIES["find_healths"])).fetchall()
        if row["counted_at"] is None:
            return None
        return CensusOfInstalls(
            counted_at=row["counted_at"] + (asked_at - row["now"]),
            installs=_installs_of(row["counted"]),
            expiring=_expiring_of(row["counted"]),
            apps=tuple(self._app_health(health, asked_at) for health in healths),
        )

    async def _counted(self, connection: Connection, max_age: timedelta) -> Row | None:
        """The row after a count, by this replica or by one that was just before it; None while another counts."""
        async with connection.transaction():
            row = await (await connection.execute(QUERIES["lock_census_unless_locked"])).fetchone()
            if row is None or not _is_old(row, max_age):
                return row
            groups = await (
                await connection.execute(QUERIES["count_installs"], {"ends": _ENDS_IN_SECONDS})
            ).fetchall()
            written = {"counted": Jsonb([_group(group) for group in groups]), "counted_at": row["now"]}
            await connection.execute(QUERIES["write_census"], written)
        return {**row, "counted": written["counted"].obj, "counted_at": row["now"]}

    def _app_health(self, row: Row, asked_at: datetime) -> AppHealth:
        health = ProviderHealth(**{field.name: row[field.name] for field in fields(ProviderHealth)})
        open_until = health.open_until
        return AppHealth(
            plugin_id=row["plugin_id"],
            calls_left=calls_left(health, self._limits, row["now"]),
            circuit=health.kind if health.is_open else "",
            open_until=open_until + (asked_at - row["now"]) if open_until is not None else None,
        )


async def _one(connection: Connection, query: str) -> Row:
    (row,) = await (await connection.execute(QUERIES[query])).fetchall()
    return row


def _is_old(row: Row, max_age: timedelta) -> bool:
    return row["counted_at"] is None or row["now"] - row["counted_at"] >= max_age


def _group(row: Row) -> dict[str, Any]:
    """A group of installs as the census keeps it."""
    passed = row["passed"]
    within = _WITHIN[passed].value if passed is not None else None
    return {name: row[name] for name in ("plugin_id", "state", "failing", "installs")} | {"within": within}


def _installs_of(groups: Sequence[Mapping[str, Any]]) -> Mapping[InstallsOf, int]:
    counts: Counter[InstallsOf] = Counter()
    for group in groups:
        key = InstallsOf(group["plugin_id"], InstallState(group["state"]), group["failing"])
        counts[key] += group["installs"]
    return counts


def _expiring_of(groups: Sequence[Mapping[str, Any]]) -> Mapping[ExpiringOf, int]:
    counts: Counter[ExpiringOf] = Counter()
    for group in groups:
        if group["within"] is not None:
            counts[ExpiringOf(group["plugin_id"], Within(group["within"]))] += group["installs"]
    return counts
