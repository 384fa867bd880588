"""Steps of callers: who asks for tokens, waits, gives up, and what comes."""

import asyncio
from collections.abc import Mapping
from typing import Any

from clients.conformance.adapter import Answer, Pending
from clients.conformance.expectations import UnmetError, compare_error, compare_response
from clients.conformance.stage import A_WHILE_SECONDS, CLIENT, LOOK_SECONDS, SOON_SECONDS, Stage
from clients.conformance.table import Step
from clients.conformance.world import company_of


async def get(stage: Stage, step: Step) -> None:
    """Ask for a token, `times` at once, and see what comes."""
    waiting = [_send_get(stage, step, step["get"]) for _ in range(step.get("times", 1))]
    for pending in waiting:
        await _judge(stage, step, await stage.answer(pending))


async def start(stage: Stage, step: Step) -> None:
    """Ask, and do not wait; `as` names those who wait."""
    names = stage.pending.setdefault(step["as"], [])
    names += [_send_get(stage, step, step["start"]) for _ in range(step.get("times", 1))]


async def waits(stage: Stage, step: Step) -> None:
    """They still wait, a while later."""
    await asyncio.sleep(A_WHILE_SECONDS)
    if any(pending.is_answered for pending in stage.pending[step["waits"]]):
        raise UnmetError("it has been answered")


async def finish(stage: Stage, step: Step) -> None:
    """What they get in the end."""
    for pending in stage.pending.pop(step["finish"]):
        await _judge(stage, step, await stage.answer(pending))


async def cancel(stage: Stage, step: Step) -> None:
    """Those who wait give up."""
    for pending in stage.pending[step["cancel"]]:
        await stage.answer(stage.adapter.send("cancel", of=pending.id))


async def eventually(stage: Stage, step: Step) -> None:
    """Ask again and again, until the answer is as expected."""
    last = UnmetError("never asked")
    try:
        async with asyncio.timeout(SOON_SECONDS):
            while True:
                answer = await stage.answer(_send_get(stage, step, step["eventually"]))
                try:
                    return await _judge(stage, step, answer)
                except UnmetError as unmet:
                    last = unmet
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise last from None


async def masked(stage: Stage, step: Step) -> None:
    """No way to turn a token, or the client, into text shows its value."""
    token = stage.tokens[step["masked"]]
    answer = await stage.answer(
        stage.adapter.send("describe", client=CLIENT, install=stage.ids[step["masked"]])
    )
    texts = answer.get("texts", [])
    if not texts or any(token in text for text in texts):
        raise UnmetError(f"{sum(token in text for text in texts)} of {len(texts)} texts show it")


def _send_get(stage: Stage, step: Step, name: str) -> Pending:
    install = stage.ids.get(name, name)
    fields = {key: step.get(key) for key in ("timeout_seconds", "traceparent")}
    return stage.adapter.send("get", client=CLIENT, install=install, **fields)


async def _judge(stage: Stage, step: Step, answer: Answer) -> None:
    expected: Mapping[str, Any] = step.get("expect", {})
    if "status" in expected:
        compare_response(expected, answer)
        return
    if "error" in expected or "cancelled" in expected:
        compare_error(expected, answer)
        return
    if "token" not in answer:
        raise UnmetError(f"expected a token, got {answer}")
    name = step.get("of") or step.get("get") or step.get("eventually") or step.get("start")
    await _judge_token(stage, step, expected, answer, name)


async def _judge_token(
    stage: Stage, step: Step, expected: Mapping[str, Any], answer: Answer, name: str | None
) -> None:
    for field in expected.keys() & {"generation"}:
        if answer.get(field) != expected[field]:
            raise UnmetError(f"expected {field} {expected[field]}, got {answer.get(field)}")
    if name is not None:
        install = stage.ids[name]
        if answer.get("company") != company_of(install):
            raise UnmetError(f"expected company {company_of(install)}, got {answer.get('company')}")
        if not step.get("dead") and not await stage.world.takes(answer["token"], install):
            raise UnmetError("Envoy does not take the token for this install's company")
        stage.tokens[name] = answer["token"]
