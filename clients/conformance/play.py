"""A scenario, played by a client."""

from contextlib import AsyncExitStack

from clients.conformance.adapter import Adapter, AdapterGoneError
from clients.conformance.expectations import UnmetError
from clients.conformance.stage import SOON_SECONDS, Stage
from clients.conformance.steps import VERBS
from clients.conformance.table import Scenario
from clients.conformance.world import World


async def play(scenario: Scenario, adapter: Adapter, world: World) -> str | None:
    """What went wrong first, in a line; None: nothing."""
    stage = Stage(scenario, adapter, world)
    problem: str | None = None
    place = "opening"
    try:
        async with AsyncExitStack() as stack:
            await stage.set(stack)
            for number, step in enumerate(scenario.steps, 1):
                place = f"step {number}, {step}"
                problem = await _problem_of(stage, step)
                if problem is not None:
                    break
            else:
                place = "closing"
    except Exception as error:  # noqa: BLE001 - whatever it is, the other scenarios are played
        problem = problem or _told(error)
    return None if problem is None else f"{place}: {problem}"


async def _problem_of(stage: Stage, step: dict[str, object]) -> str | None:
    try:
        await VERBS[next(iter(step))](stage, step)
    except Exception as error:  # noqa: BLE001 - as above
        return _told(error)
    return None


def _told(error: Exception) -> str:
    if isinstance(error, UnmetError | AdapterGoneError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"nothing came in {SOON_SECONDS:g} s"
    return f"the world is not as it should be: {' '.join(repr(error).split())}"
