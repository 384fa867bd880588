"""The faults that a run may meet, each by name: a spell of bad mood, or something that befalls a process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.simulation.process import Process
from tests.simulation.world import World

Processes = list[Process]
Fault = Callable[[World, Processes], Awaitable[None]]


def _spell(**mood: Any) -> Fault:
    """Some seconds in which operations meet a fault."""

    async def befall(world: World, _processes: Processes) -> None:
        with _in_mood(world, **mood):
            await asyncio.sleep(world.dice.uniform(5, 60))

    return befall


@contextmanager
def _in_mood(world: World, **mood: Any) -> Iterator[None]:
    before = {name: getattr(world.mood, name) for name in mood}
    for name, value in mood.items():
        setattr(world.mood, name, value)
    yield
    for name, value in before.items():
        setattr(world.mood, name, value)


async def _killed(world: World, processes: Processes) -> None:
    for _ in range(world.dice.randint(1, 6)):
        await asyncio.sleep(world.dice.uniform(0, 15))
        number = world.dice.randrange(len(processes))
        world.note(processes[number].name, "is killed, and started anew")
        processes[number].kill()
        processes[number] = Process(world, _next_name(processes[number].name))


async def _stopped(world: World, processes: Processes) -> None:
    for _ in range(world.dice.randint(1, 4)):
        await asyncio.sleep(world.dice.uniform(0, 15))
        process = world.dice.choice(processes)
        world.note(process.name, "is stopped")
        process.network.freeze()
        await asyncio.sleep(world.dice.uniform(0.1, 60))
        world.note(process.name, "goes on")
        process.network.thaw()


async def _store_away(world: World, _processes: Processes) -> None:
    for _ in range(world.dice.randint(1, 4)):
        await asyncio.sleep(world.dice.uniform(0, 20))
        world.note("DATABASE", "is away")
        world.mood.outages += 1
        await asyncio.sleep(world.dice.uniform(0.1, 30))
        world.mood.outages -= 1
        world.note("DATABASE", "is back")


async def _fail_over(world: World, _processes: Processes) -> None:
    await asyncio.sleep(world.dice.uniform(5, 60))
    await world.fail_over(lost=world.dice.choice((0.05, 0.5, 2, 10)))


async def _hints_lost(world: World, _processes: Processes) -> None:
    world.hints.are_lost = True
    await asyncio.sleep(world.dice.uniform(20, 120))
    world.hints.are_lost = False


async def _uninstalled(world: World, processes: Processes) -> None:
    """Uninstalls and installs again, and the webhooks of it in any order, some of them twice."""
    from tests.simulation.people import webhook  # noqa: PLC0415 (people know faults' processes)

    install_id = world.dice.choice(sorted(world.issuer.installed))
    world.issuer.installed.discard(install_id)
    world.issuer.revoke(install_id)
    world.note("COMPANY", f"uninstalls {install_id}")
    gone = ("uninstalled", install_id, world.dice.randbytes(4))
    await webhook(world, processes, gone)
    await asyncio.sleep(world.dice.uniform(0, 10))
    world.issuer.installed.add(install_id)
    world.note("COMPANY", f"installs {install_id} again")
    told = [("installed", install_id, world.dice.randbytes(4)), gone, gone]
    world.dice.shuffle(told)
    for each in told:
        await webhook(world, processes, each)
        await asyncio.sleep(world.dice.uniform(0, 5))


def _next_name(name: str) -> str:
    first, _, lives = name.partition(".")
    return f"{first}.{int(lives or 1) + 1}"


FAULTS: Final[dict[str, Fault]] = {
    "killed": _killed,
    "stopped": _stopped,
    "lost_answers": _spell(lost_answers=0.4),
    "late_processing": _spell(late_processing=0.3),
    "envoy_errors": _spell(envoy_errors=0.9),
    "envoy_asks_for_patience": _spell(envoy_asks_for_patience=0.3),
    "envoy_slow": _spell(envoy_slow=0.5),
    "client_refused": _spell(client_refused=1.0),
    "not_sent": _spell(not_sent=0.5),
    "store_errors": _spell(store_errors=0.15),
    "store_away": _store_away,
    "failed_over": _fail_over,
    "hints_lost": _hints_lost,
    "uninstalled": _uninstalled,
}
