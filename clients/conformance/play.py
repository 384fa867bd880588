"""A scenario, played by a client."""

from contextlib import AsyncExitStack

from clients.conformance.adapter import Adapter, AdapterGoneError
from clients.conformance.stage import SOON_SECONDS, Stage, UnmetError
from clients.conformance.steps import VERBS
from clients.conformance.table import Scenario
from clients.conformance.world import World


async def play(scenario: Scenario, adapter: Adapter, world: World) -> str | None:
    """What went wrong; None: nothing."""
    stage = Stage(scenario, adapter, world)
    try:
        async with AsyncExitStack() as stack:
            await stage.set(stack)
            for number, step in enumerate(scenario.steps, 1):
                verb = next(iter(step))
                try:
                    await VERBS[verb](stage, step)
                except UnmetError as unmet:
                    return f"step {number}, {step}: {unmet}"
                except TimeoutError:
                    return f"step {number}, {step}: nothing came in {SOON_SECONDS:g} s"
    except (UnmetError, AdapterGoneError) as problem:
        return str(problem)
    except TimeoutError:
        return f"opening or closing took more than {SOON_SECONDS:g} s"
    return None
