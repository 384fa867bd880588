"""InMemoryProviderHealth: the ProviderHealthStore port; replicas share the records."""

from broker.domain.errors import ProviderFault
from broker.domain.provider_health import (
    Lease,
    ProviderHealth,
    ProviderLimits,
    after_answer,
    first_health,
    leased,
)
from broker.ports import Clock, Randomness
from tests.fakes.steps import turn
from tests.fakes.store_faults import StoreFaults


class InMemoryProviderHealth:
    """One replica's client of records that others may share.

    Attributes:
        leases: how often a lease was asked for.
    """

    def __init__(
        self,
        records: dict[str, ProviderHealth],
        clock: Clock,
        limits: ProviderLimits,
        randomness: Randomness,
        faults: StoreFaults | None = None,
    ) -> None:
        self.leases = 0
        self._records = records
        self._clock = clock
        self._limits = limits
        self._randomness = randomness
        self._faults = faults or StoreFaults()

    async def lease(self, plugin_id: str, want: int, *, urgent: bool, insist: bool = False) -> Lease:
        """See ProviderHealthStore."""
        self.leases += 1
        await self._way("lease")
        now = self._clock.now()
        health, lease = leased(
            self._known(plugin_id), want, urgent=urgent, insist=insist, limits=self._limits, now=now
        )
        self._records[plugin_id] = health
        return lease

    async def report(self, plugin_id: str, install_id: str, fault: ProviderFault | None) -> ProviderHealth:
        """See ProviderHealthStore."""
        await self._way("report")
        now, fraction = self._clock.now(), self._randomness.fraction()
        health = after_answer(self._known(plugin_id), install_id, fault, now=now, fraction=fraction)
        self._records[plugin_id] = health
        return health

    async def _way(self, verb: str) -> None:
        await turn()
        fault = self._faults.take(verb)
        if fault is not None:
            raise fault[1]

    def _known(self, plugin_id: str) -> ProviderHealth:
        return self._records.get(plugin_id) or first_health(self._clock.now())
