"""One process of the broker in a simulated world: its use cases, its scheduler, and its deaths."""

import asyncio
import contextvars
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from broker.adapters.anybody import EverythingAllowed, NoRecord
from broker.domain.provider_health import ProviderLimits
from broker.service.attempts import RefreshTiming
from broker.service.use_cases import Bounds, Ports, UseCases
from tests.fakes.caller import UseCasesOfACaller
from tests.fakes.install_store import InMemoryInstallStore
from tests.fakes.provider_health import InMemoryProviderHealth
from tests.fakes.replica import BOUNDS
from tests.fakes.samples import APPS
from tests.fakes.webhook_reader import FakeWebhookReader
from tests.simulation.endpoint import SimulatedEndpoint
from tests.simulation.network import Network
from tests.simulation.virtual_time import SimulatedClock
from tests.simulation.world import World

CALLS_PER_SECOND: Final = 10.0
TIMING: Final = RefreshTiming(
    call=timedelta(seconds=10), claim=timedelta(seconds=15), margin=timedelta(seconds=2)
)
STALENESS: Final = timedelta(seconds=10)
SIMULATED: Final = replace(
    BOUNDS,
    timing=TIMING,
    refreshes_in_flight=8,
    calls_per_second=CALLS_PER_SECOND,
    cache_staleness=STALENESS,
    rejection_cool_down=timedelta(seconds=20),
)

_process: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


def task_factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
    """Every task belongs to the process that began it."""
    task = asyncio.Task(work, loop=loop, **options)
    process = _process.get()
    if process is not None:
        process.tasks.append(task)
    return task


class _Health(InMemoryProviderHealth):
    """The shared record, by way of a network."""

    network: Network

    async def _way(self, verb: str) -> None:
        await self.network(f"{verb}: asked")


class _Clock(SimulatedClock):
    """A clock whose sleeper may find that its process was stopped meanwhile."""

    network: Network

    async def sleep(self, duration: timedelta) -> None:
        """See Clock."""
        await self.network.sleep(duration.total_seconds())


class _Dice:
    def __init__(self, world: World) -> None:
        self._world = world

    def fraction(self) -> float:
        """See Randomness."""
        return self._world.dice.random()


class Process:
    """Attributes: tasks: every task that was begun for this process. upkeep: those that run as long as it does."""

    def __init__(self, world: World, name: str, bounds: Bounds = SIMULATED) -> None:
        self.name = name
        self.tasks: list[asyncio.Task[Any]] = []
        self.network = Network(world, name)
        self._world = world
        dice, clock = _Dice(world), _Clock(world.loop, timedelta(seconds=world.dice.uniform(-300, 300)))
        clock.network = self.network
        limits = ProviderLimits(bounds.calls_per_second, probe_life=bounds.timing.claim)
        health = _Health(world.health, world.clock, limits, dice)
        health.network = self.network
        hints = world.hints.joined()
        self.store = InMemoryInstallStore(world.table, clock, self.network)
        ports = Ports(
            store=self.store,
            health=health,
            endpoint=SimulatedEndpoint(world, self.network, clock),
            reader=FakeWebhookReader(),
            hints=hints,
            clock=clock,
            randomness=dice,
            authorizer=EverythingAllowed(),
            audit=NoRecord(),
        )
        self.clock = clock
        self.use_cases = UseCases(ports, APPS, replace(bounds, owner=name))
        self.caller = UseCasesOfACaller(self.use_cases)
        hints.on_hint = lambda key: self.begin_now(lambda: self.use_cases.hinted(key))
        hints.on_health_hint = lambda app: self.begin_now(lambda: self.use_cases.health_hinted(app))
        self.upkeep = [
            self.begin(self.use_cases.scheduler.run()),
            self.begin(self.use_cases.watch_tokens.run()),
        ]

    @property
    def is_alive(self) -> bool:
        """Whether it has not been killed."""
        return not self.network.is_dead

    def begin(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Do `work` in this process."""
        token = _process.set(self)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            _process.reset(token)

    def begin_now(self, action: Any) -> None:
        """Do something at once in this process, if it lives."""
        if not self.is_alive:
            return
        token = _process.set(self)
        try:
            action()
        finally:
            _process.reset(token)

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more, and nothing is cleaned up."""
        self.network.is_dead = True
        self.network.thaw()
        for task in self.tasks:
            task.cancel()

    def pending(self) -> list[str]:
        """What still runs."""
        return [repr(task.get_coro()) for task in self.tasks if not task.done()]
