"""What is read of a running broker whenever somebody looks at its metrics: states, not events.

What is counted anyway is only looked at then. Two things need a task of their own: the census, which costs the database
something and is the same for all replicas, and the event loop's lag, which nobody else would notice.
"""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

import structlog

from broker.adapters.postgres.connections import Connections
from broker.api.handlers import Admission
from broker.domain.census import CensusOfInstalls
from broker.domain.errors import RetryableError
from broker.entrance import Entrance
from broker.ports import Census, Clock
from broker.readiness import Readiness
from broker.service.use_cases import UseCases
from broker.telemetry import metrics
from broker.telemetry.kinds import Metric
from broker.telemetry.metrics import Observation

log = structlog.get_logger(__name__)

# So old may the count of installs be, which reads the whole table; one replica counts for all.
CENSUS_AGE: Final = timedelta(minutes=1)
CENSUS_INTERVAL: Final = timedelta(seconds=15)
ONE_SECOND: Final = timedelta(seconds=1)
LAG_INTERVAL: Final = timedelta(seconds=1)


class Gauges:
    """Attributes: census: the newest there is; None before the first."""

    def __init__(self, census: Census, clock: Clock) -> None:
        self.census: CensusOfInstalls | None = None
        self._take = census
        self._clock = clock
        self._seen: dict[Metric, set[tuple[tuple[str, str], ...]]] = {}

    async def watch_census(self) -> None:
        """Keep the census, for ever."""
        while True:
            try:
                self.census = await self._take.take(CENSUS_AGE)
            except RetryableError as error:
                log.debug("census.failed", error=str(error))
            except Exception:
                log.exception("census.failed")
            await self._clock.sleep(CENSUS_INTERVAL)

    async def watch_loop(self) -> None:
        """Tell how late the event loop gets to a timer, for ever. Its own clock: the broker's may be a test's."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL.total_seconds()
            await asyncio.sleep(LAG_INTERVAL.total_seconds())
            metrics.loop_lags.record(max(0.0, loop.time() - due))

    def observe(
        self,
        use_cases: UseCases,
        *,
        readiness: Readiness,
        admission: Admission,
        connections: Connections,
        entrance: Entrance,
    ) -> None:
        """Let the metrics look at this broker from now on. Once a process."""
        one: dict[Metric, Callable[[], float]] = {
            metrics.CALLS_IN_FLIGHT: lambda: admission.calls,
            metrics.CACHED: lambda: len(use_cases.cache),
            metrics.WATCHES: lambda: len(use_cases.watch_tokens),
            metrics.WATCHED: lambda: use_cases.watch_tokens.subscriptions,
            metrics.UNDER_WAY: lambda: len(use_cases.refresher),
            metrics.UNSTORED: lambda: use_cases.refresher.pairs_not_stored,
            metrics.SWEEP_LAG: lambda: use_cases.scheduler.lag / ONE_SECOND,
            metrics.POOL_MAX: lambda: connections.usage().at_most,
            metrics.POOL_PENDING: lambda: connections.usage().waiting,
            metrics.AUDIT_PENDING: lambda: entrance.records_pending,
            metrics.READY: lambda: float(readiness.problem is None),
        }
        for metric, look in one.items():
            metrics.observe(metric, lambda look=look: [(look(), {})])  # type: ignore[misc]  # mypy can't infer a default
        handed_out = use_cases.handed_out
        metrics.observe(
            metrics.HANDED_OUT, lambda: [(count, {"source": source}) for source, count in handed_out.items()]
        )
        metrics.observe(metrics.POOL, lambda: _pool(connections))
        metrics.observe(metrics.CIRCUIT, lambda: self._circuits(use_cases))
        metrics.observe(metrics.INSTALLS, lambda: self._kept(metrics.INSTALLS, self._installs()))
        metrics.observe(metrics.EXPIRING, lambda: self._kept(metrics.EXPIRING, self._expiring()))
        metrics.observe(metrics.BUDGET, self._budgets)

    def _kept(self, metric: Metric, counted: Iterator[Observation]) -> list[Observation]:
        """What was counted, and 0 for what is no more: a series that ended would stay as it was for a while."""
        counts = {tuple(labels.items()): count for count, labels in counted}
        seen = self._seen.setdefault(metric, set())
        seen.update(counts)
        return [(counts.get(labels, 0), dict(labels)) for labels in seen]

    def _installs(self) -> Iterator[Observation]:
        for of, count in self.census.installs.items() if self.census is not None else ():
            failing = "true" if of.failing else "false"
            yield count, {metrics.PLUGIN_ID: of.plugin_id, "state": of.state.value, "failing": failing}

    def _expiring(self) -> Iterator[Observation]:
        for of, count in self.census.expiring.items() if self.census is not None else ():
            yield count, {metrics.PLUGIN_ID: of.plugin_id, "within": of.within.value}

    def _circuits(self, use_cases: UseCases) -> Iterator[Observation]:
        """As this process has met them, and as the replicas know together: who calls for no token meets none."""
        apps = self.census.apps if self.census is not None else ()
        known = {app.plugin_id: app.circuit for app in apps if app.circuit}
        for plugin_id, kind in {**known, **use_cases.gate.held_apps()}.items():
            yield 1, {metrics.PLUGIN_ID: plugin_id, "kind": kind}

    def _budgets(self) -> Iterator[Observation]:
        for app in self.census.apps if self.census is not None else ():
            yield app.calls_left, {metrics.PLUGIN_ID: app.plugin_id}


def _pool(connections: Connections) -> Iterator[Observation]:
    usage = connections.usage()
    yield usage.used, {metrics.CONNECTION_STATE: "used"}
    yield usage.idle, {metrics.CONNECTION_STATE: "idle"}
