"""One replica's way to the world: latency, freezes, death. Every port of the replica goes through here."""

import asyncio
from typing import NoReturn

from broker.domain.errors import StoreUnavailable
from tests.fakes.steps import Steps
from tests.fakes.store_faults import RETRY_AFTER
from tests.simulation.world import World


class Network(Steps):
    """The steps of the fakes, with what a network does to them."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__()
        self.name = name
        self.is_dead = False
        self._world = world
        self._thawed = asyncio.Event()
        self._thawed.set()

    def freeze(self) -> None:
        """The process is stopped: nothing of it goes on until it is thawed."""
        self._thawed.clear()

    def thaw(self) -> None:
        """The process goes on."""
        self._thawed.set()

    async def step(self, _what: str) -> None:
        """A place where a process may be stopped, or killed."""
        if self.is_dead:
            self._stay_dead()
        await self._thawed.wait()
        if self.is_dead:
            self._stay_dead()

    async def sleep(self, seconds: float) -> None:
        """Time passes for this process; a stopped one notices later."""
        await asyncio.sleep(seconds)
        await self.step("slept")

    async def __call__(self, step: str) -> None:
        """A step of a fake: `verb: asked` before the database has acted, `verb: done` after."""
        world, verb = self._world, step.partition(":")[0]
        await self.sleep(world.dice.uniform(0.0002, 0.003))
        asked = step.endswith("asked")
        if world.mood.store_away or world.chance(world.mood.store_errors):
            await self.sleep(world.dice.uniform(0, 0.5))
            if not asked:
                world.note(self.name, f"{verb} committed, and does not know it")
            raise StoreUnavailable("the simulated database is away", RETRY_AFTER)

    def _stay_dead(self) -> NoReturn:
        raise asyncio.CancelledError
