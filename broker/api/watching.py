"""A stream of WatchTokens: what the caller asks goes to its watch, what the watch tells goes to the caller."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from broker.api.callers import until_not_found_may_be_told
from broker.api.errors import failure_message
from broker.api.messages import duration, token_bytes
from broker.domain.errors import BrokerError, InstallNotFound, InvalidField
from broker.domain.identifiers import InstallKey
from broker.ports import Clock
from broker.service.watch import HEARTBEAT, Silence, Told, Watch
from tokenbroker.v1 import token_broker_pb2 as pb

_HEARTBEAT: Final = pb.WatchTokensResponse(heartbeat=pb.WatchTokensHeartbeat(next_within=duration(HEARTBEAT)))


async def replies(
    watch: Watch, requests: AsyncIterator[pb.WatchTokensRequest], clock: Clock
) -> AsyncIterator[pb.WatchTokensResponse]:
    """What the caller is told, until the watch or the caller ends it. Raises what ended the watch."""
    reading = asyncio.create_task(_read(watch, requests))
    try:
        yield _HEARTBEAT
        while (told := await watch.next()) is not Silence.OVER:
            if told is Silence.HEARTBEAT:
                yield _HEARTBEAT
                continue
            looked_at = told if isinstance(told, Told) else await _look(watch, told)
            if looked_at is not None:
                yield _message(looked_at, clock.now())
    finally:
        reading.cancel()


async def _read(watch: Watch, requests: AsyncIterator[pb.WatchTokensRequest]) -> None:
    """Whoever ends its requests is told on of what it has subscribed to."""
    try:
        async for request in requests:
            match request.WhichOneof("change"):
                case "subscribe":
                    wanted = request.subscribe
                    watch.subscribe(wanted.plugin_id, wanted.install_id, wanted.known_generation)
                case "unsubscribe":
                    watch.unsubscribe(request.unsubscribe.plugin_id, request.unsubscribe.install_id)
                case _:
                    raise InvalidField("change", "must be given, subscribe or unsubscribe")
    except BrokerError as error:
        watch.end_by(error)


async def _look(watch: Watch, key: InstallKey) -> Told | None:
    began = asyncio.get_running_loop().time()
    told = await watch.look(key)
    if told is not None and isinstance(told.what, InstallNotFound):
        await until_not_found_may_be_told(began)
    return told


def _message(told: Told, now: datetime) -> pb.WatchTokensResponse:
    if not isinstance(told.what, BrokerError):
        token = pb.GetTokenResponse.FromString(token_bytes(told.what, now))
        return pb.WatchTokensResponse(token=token)
    plugin_id, install_id = told.key or ("", "")
    return pb.WatchTokensResponse(
        unavailable=pb.WatchTokensUnavailable(
            plugin_id=plugin_id, install_id=install_id, failure=failure_message(told.what)
        )
    )
