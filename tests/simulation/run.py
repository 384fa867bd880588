"""One run: a world, some replicas, people, a few faults, then quiet; and the judgement of it."""

import asyncio
import itertools
import logging
import traceback
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from broker.domain.errors import BrokerError, InstallNotFound
from tests.simulation.faults import FAULTS
from tests.simulation.issuer import Policy, Rotation
from tests.simulation.people import PATIENCE, caller, judge, webhook
from tests.simulation.process import CALLS_PER_SECOND, Process, task_factory
from tests.simulation.virtual_time import VirtualLoop
from tests.simulation.watchers import Watcher
from tests.simulation.world import World

QUIET: Final = 900.0
CALM: Final = 20.0
ALONE: Final = [(name,) for name in FAULTS]
PAIRS: Final = list(itertools.combinations(FAULTS, 2))
POLICIES: Final = [(rotation, invalidates) for rotation in Rotation for invalidates in (False, True)]
# Calls in ten seconds: the budget, what stood in the bucket, what was leased before, and second calls of attempts.
WINDOW: Final = 10.0
WINDOW_BOUND: Final = CALLS_PER_SECOND * (WINDOW + 1 + 2) + 40


@dataclass(frozen=True, slots=True)
class Story:
    """What a seed stands for."""

    seed: int
    faults: tuple[str, ...]
    rotation: Rotation
    mint_invalidates: bool

    @classmethod
    def of(cls, seed: int) -> "Story":
        """First every fault alone, then every pair, in turn under every policy; then more at once."""
        planned = ALONE + PAIRS
        faults: tuple[str, ...] = planned[seed % len(planned)]
        if (seed // len(planned)) % 3 == 2:
            names = list(FAULTS)
            faults = tuple(dict.fromkeys(names[(seed * step) % len(names)] for step in (1, 3, 5, 9)))
        rotation, invalidates = POLICIES[(seed + seed // len(planned)) % len(POLICIES)]
        return cls(seed, faults, rotation, invalidates)

    def __str__(self) -> str:
        mints = ", mints invalidate" if self.mint_invalidates else ""
        return f"seed {self.seed}: {' + '.join(self.faults)} ({self.rotation.value}{mints})"


def simulate(seed: int) -> World:
    """The world after the run that `seed` stands for. `broken` says which promises were."""
    loop = VirtualLoop()
    loop.set_task_factory(task_factory)
    with _unexpected() as surprises:
        try:
            world = loop.run_until_complete(_run(Story.of(seed)))
        finally:
            loop.close()
    for surprise in surprises:
        world.breaks("errors", surprise)
    return world


@contextmanager
def _unexpected() -> Iterator[list[str]]:
    """Nothing is logged; what the broker would have logged with a traceback is a surprise."""
    surprises: list[str] = []

    def listen(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event.get("exc_info"):
            surprises.append(f"{event['event']}: {traceback.format_exc(limit=-3)}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[listen], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    yield surprises
    structlog.configure(**before)


async def _run(story: Story) -> World:
    world = World(story.seed, Policy(story.rotation, story.mint_invalidates))
    world.note("STORY", str(story))
    world.forgot_a_reinstall = {"failed_over", "uninstalled"} <= set(story.faults)
    processes = [Process(world, f"replica-{n}") for n in range(1, world.dice.randint(2, 4) + 1)]
    installs = [str(n) for n in range(1, world.dice.randint(1, 5) + 1)]
    tasks = [asyncio.create_task(world.keep_snapshots())]
    for install_id in installs:
        world.issuer.installed.add(install_id)
        tasks.append(
            asyncio.create_task(webhook(world, processes, ("installed", install_id, world.dice.randbytes(4))))
        )
    await asyncio.sleep(CALM)
    watchers = [Watcher(world, processes, number, installs) for number in range(len(processes))]
    watching = [asyncio.create_task(watcher.watch()) for watcher in watchers]
    people = asyncio.create_task(_people(world, processes, installs))
    await asyncio.gather(*(FAULTS[name](world, processes) for name in story.faults))
    people.cancel()
    await asyncio.sleep(CALM)
    for watcher in watchers:
        watcher.judge()
    await asyncio.sleep(QUIET)
    tasks[0].cancel()
    for watcher in watchers:
        watcher.judge()
    for stream in watching:
        stream.cancel()
    await _judge(world, processes, installs)
    for process in processes:
        process.kill()
    await asyncio.sleep(0)
    return world


async def _people(world: World, processes: list[Process], installs: Sequence[str]) -> None:
    while True:
        await asyncio.sleep(world.dice.expovariate(1.5))
        for _ in range(world.dice.choice((1, 1, 1, 10))):
            asyncio.create_task(caller(world, processes, world.dice.choice(installs)))  # noqa: RUF006 (it keeps itself)


async def _judge(world: World, processes: Sequence[Process], installs: Sequence[str]) -> None:
    """P2: every replica hands out a token that Envoy takes. And nothing is left over."""
    for process, install_id in itertools.product(processes, installs):
        try:
            await _ends_well(world, process, install_id)
        except BrokerError as error:
            if isinstance(error, InstallNotFound) and world.forgot_a_reinstall:
                # Envoy was told that all is well, and sends nothing more: an operator has to ask.
                await process.begin(process.caller.installs.refresh("", install_id))
                continue
            world.breaks("P2", f"{process.name} has no token for {install_id}: {type(error).__name__}")
    for start in world.calls_at:
        calls = sum(start <= at < start + WINDOW for at in world.calls_at)
        if calls > WINDOW_BOUND:
            world.breaks("budget", f"{calls} calls in the {WINDOW:g} s from {start:.3f}")
            break
    for task in [task for process in processes for task in process.upkeep]:
        task.cancel()
    await asyncio.sleep(PATIENCE)
    for process in processes:
        if left := process.pending():
            world.breaks("leaks", f"{process.name} still runs {left}")


async def _ends_well(world: World, process: Process, install_id: str) -> None:
    entry = await process.begin(process.caller.get_token("", install_id))
    holding = entry.holding
    judge(world, process, install_id, holding.access_token)
    if world.issuer.takes(holding.access_token, install_id, world.now()):
        return
    # Where a mint ends what was before, Envoy may have acted for a request whose sender was gone.
    if not (world.failed_over_at or install_id in world.processed_late):
        world.breaks("P2", f"{process.name} hands out a dead token of {install_id}")
        return
    caller = process.caller
    await process.begin(caller.report_rejected_token("", install_id, holding.install.generation))
    entry = await process.begin(caller.get_token("", install_id))
    if not world.issuer.takes(entry.holding.access_token, install_id, world.now()):
        world.breaks("P2", f"{process.name} hands out a dead token of {install_id} after it was reported")
