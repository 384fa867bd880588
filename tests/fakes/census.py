"""InMemoryCensus: the Census port over an InstallsTable and records of health."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta

from broker.domain.census import AppHealth, CensusOfInstalls, ExpiringOf, InstallsOf, within
from broker.domain.provider_health import ProviderHealth, ProviderLimits, calls_left
from broker.domain.states import SERVING_STATES
from broker.ports import Clock
from tests.fakes.installs_table import InstallsTable


@dataclass(slots=True)
class CensusRow:
    """What was counted last, by whichever replica. Times are on the table's clock."""

    counted: CensusOfInstalls | None = None


class InMemoryCensus:
    """One replica's client of a row that others may share.

    Attributes:
        counts: how often this one counted.
    """

    def __init__(
        self,
        row: CensusRow,
        table: InstallsTable,
        records: dict[str, ProviderHealth],
        limits: ProviderLimits,
        clock: Clock,
    ) -> None:
        self.counts = 0
        self._row = row
        self._table = table
        self._records = records
        self._limits = limits
        self._clock = clock

    async def take(self, max_age: timedelta) -> CensusOfInstalls | None:
        """See Census."""
        now = self._table.clock.now()
        if self._row.counted is None or now - self._row.counted.counted_at >= max_age:
            self._row.counted = self._count()
        shift = self._clock.now() - now
        apps = tuple(self._health(plugin_id, shift) for plugin_id in sorted(self._records))
        return replace(self._row.counted, counted_at=self._row.counted.counted_at + shift, apps=apps)

    def _count(self) -> CensusOfInstalls:
        self.counts += 1
        now = self._table.clock.now()
        installs = [row.install for row in self._table.rows.values()]
        return CensusOfInstalls(
            counted_at=now,
            installs=Counter(InstallsOf(i.key.plugin_id, i.state, i.failing) for i in installs),
            expiring=Counter(
                ExpiringOf(i.key.plugin_id, within(i.validity.expires_at - now))
                for i in installs
                if i.state in SERVING_STATES and i.validity is not None
            ),
            apps=(),
        )

    def _health(self, plugin_id: str, shift: timedelta) -> AppHealth:
        health, now = self._records[plugin_id], self._table.clock.now()
        return AppHealth(
            plugin_id=plugin_id,
            calls_left=calls_left(health, self._limits, now),
            circuit=health.kind if health.is_open else "",
            open_until=health.open_until + shift if health.open_until is not None else None,
        )
