"""Steps of the gates: what befalls calls on their way, and what was seen of them."""

import asyncio

from clients.conformance.expectations import UnmetError
from clients.conformance.orders import Refusal
from clients.conformance.stage import A_WHILE_SECONDS, Stage
from clients.conformance.table import Step


async def hold(stage: Stage, step: Step) -> None:
    """Calls of an RPC wait before they reach the broker."""
    stage.orders.held[step["hold"]] = asyncio.Event()


async def hold_answers(stage: Stage, step: Step) -> None:
    """The broker's answers to an RPC wait on their way back."""
    stage.orders.held_answers[step["hold_answers"]] = asyncio.Event()


async def held(stage: Stage, step: Step) -> None:
    """So many calls wait there, by now or soon."""
    await stage.soon(lambda: dict(stage.orders.waiting.items()), step["held"], at_least=True)


async def release(stage: Stage, step: Step) -> None:
    """What waits goes on."""
    stage.orders.release(step["release"])


async def refuse(stage: Stage, step: Step) -> None:
    """Calls of an RPC are refused from now on, or so many times."""
    fields = {key: value for key, value in step.items() if key != "refuse"}
    stage.orders.refusals[step["refuse"]] = Refusal(**fields)


async def allow(stage: Stage, step: Step) -> None:
    """They are refused no more."""
    del stage.orders.refusals[step["allow"]]


async def lifetime_seconds(stage: Stage, step: Step) -> None:
    """Tokens have that life left when they are handed out from now on; null: their own."""
    stage.orders.lifetime_seconds = step["lifetime_seconds"]


async def wait_seconds(stage: Stage, step: Step) -> None:
    """Time passes."""
    await asyncio.sleep(step["wait_seconds"])


async def calls(stage: Stage, step: Step) -> None:
    """So many calls came since the scenario began, no more and no less, and none comes in a while."""
    await stage.soon(lambda: dict(stage.orders.counts()), step["calls"], at_least=True)
    await asyncio.sleep(A_WHILE_SECONDS)
    counts = stage.orders.counts()
    if any(counts[rpc] != number for rpc, number in step["calls"].items()):
        raise UnmetError(f"there were {dict(counts)}")


async def every_gate(stage: Stage, step: Step) -> None:
    """Each replica had at least so many calls."""
    for gate in stage.gates:
        if any(gate.counts[rpc] < number for rpc, number in step["every_gate"].items()):
            raise UnmetError(f"they had {[dict(each.counts) for each in stage.gates]}")


async def outage(stage: Stage, step: Step) -> None:
    """Every replica is gone, or back."""
    for gate in stage.gates:
        await (gate.stop() if step["outage"] else gate.start())


async def stop_gate(stage: Stage, step: Step) -> None:
    """One replica is gone."""
    await stage.gates[step["stop_gate"]].stop()
