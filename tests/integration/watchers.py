"""A watcher at a broker's door: one stream of WatchTokens, read event by event."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import grpc.aio

from tokenbroker.v1 import token_broker_pb2 as pb
from tokenbroker.v1 import token_broker_pb2_grpc

if TYPE_CHECKING:
    WatchCall = grpc.aio.StreamStreamCall[pb.WatchTokensRequest, pb.WatchTokensResponse]

SOON_SECONDS: Final = 20


class Watcher:
    """One stream. Heartbeats are counted, and not told."""

    def __init__(self, call: "WatchCall") -> None:
        self.heartbeats = 0
        self._call = call

    async def subscribe(self, install_id: str, known_generation: int = 0, plugin_id: str = "") -> None:
        """Begin to watch an install."""
        change = pb.WatchTokensSubscribe(
            plugin_id=plugin_id, install_id=install_id, known_generation=known_generation
        )
        await self.send(pb.WatchTokensRequest(subscribe=change))

    async def unsubscribe(self, install_id: str) -> None:
        """Watch it no more."""
        await self.send(pb.WatchTokensRequest(unsubscribe=pb.WatchTokensUnsubscribe(install_id=install_id)))

    async def send(self, request: pb.WatchTokensRequest) -> None:
        """Any request."""
        await self._call.write(request)

    async def event(self) -> pb.WatchTokensResponse:
        """The next that is no heartbeat."""
        while True:
            response = await self.read()
            if not response.HasField("heartbeat"):
                return response
            self.heartbeats += 1

    async def read(self) -> pb.WatchTokensResponse:
        """The next message. Raises EOFError: the stream has ended, and that is no failure."""
        async with asyncio.timeout(SOON_SECONDS):
            response = await self._call.read()
        if response is grpc.aio.EOF:
            raise EOFError
        assert isinstance(response, pb.WatchTokensResponse)
        return response

    async def token(self) -> pb.GetTokenResponse:
        """The next event, which must be a token."""
        event = await self.event()
        assert event.HasField("token"), event
        return event.token

    async def refusal(self) -> pb.WatchTokensUnavailable:
        """The next event, which must be `unavailable`."""
        event = await self.event()
        assert event.HasField("unavailable"), event
        return event.unavailable

    def cancel(self) -> None:
        """End the stream."""
        self._call.cancel()


@asynccontextmanager
async def watcher(
    channel: grpc.aio.Channel, metadata: Sequence[tuple[str, str]] = (), **known: int
) -> AsyncIterator[Watcher]:
    """A stream that is subscribed to the installs of `known`, each with the generation that is known of it."""
    call = token_broker_pb2_grpc.TokenBrokerStub(channel).WatchTokens(metadata=tuple(metadata))
    watching = Watcher(call)
    try:
        for install_id, generation in _by_id(known).items():
            await watching.subscribe(install_id, generation)
        yield watching
    finally:
        watching.cancel()


def _by_id(known: Mapping[str, int]) -> dict[str, int]:
    return {name.removeprefix("i"): generation for name, generation in known.items()}
