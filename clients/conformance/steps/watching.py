"""Steps of the streams of WatchTokens: what is said on them, and what befalls them."""

import grpc

from broker.sandbox.stack import PLUGIN_ID
from clients.conformance.expectations import UnmetError
from clients.conformance.stage import Stage
from clients.conformance.table import Step
from tokenbroker.v1 import token_broker_pb2 as pb
from tokenbroker.v1.error_reason_pb2 import ErrorReason


async def cut_streams(stage: Stage, _step: Step) -> None:
    """Every stream ends."""
    for gate in stage.gates:
        gate.cut_streams()


async def next_within_seconds(stage: Stage, step: Step) -> None:
    """Heartbeats promise the next so soon from now on; null: as the broker does."""
    stage.orders.next_within_seconds = step["next_within_seconds"]


async def unavailable(stage: Stage, step: Step) -> None:
    """Streams say that an install has no token, and why."""
    failure = pb.TokenFailure(
        code=grpc.StatusCode[step["code"]].value[0],
        reason=ErrorReason.Value(f"ERROR_REASON_{step['reason']}"),
        message="said by the gate",
    )
    install = stage.ids[step["unavailable"]]
    event = pb.WatchTokensUnavailable(plugin_id=PLUGIN_ID, install_id=install, failure=failure)
    for gate in stage.gates:
        await gate.tell(pb.WatchTokensResponse(unavailable=event))


async def watched(stage: Stage, step: Step) -> None:
    """So often the installs have been subscribed to."""
    expected = {stage.ids[name]: number for name, number in step["watched"].items()}
    await stage.soon(lambda: dict(stage.orders.watched), expected, at_least=step.get("at_least", False))


async def known(stage: Stage, step: Step) -> None:
    """The newest subscription to each install named the generation that the client has."""
    for name, generation in step["known"].items():
        found = stage.orders.known.get(stage.ids[name])
        if found != generation:
            raise UnmetError(f"{name} was subscribed to from generation {found} on")


async def unsubscribed(stage: Stage, step: Step) -> None:
    """So often they have been unsubscribed."""
    expected = {stage.ids[name]: number for name, number in step["unsubscribed"].items()}
    await stage.soon(lambda: dict(stage.orders.unsubscribed), expected)
