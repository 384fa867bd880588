"""Many clients that watch tokens (WatchTokens), in this process, and when each of them was told what.

Raw gRPC streams, one a client: what a broker needs to tell them is measured, and no client's own memory.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import grpc.aio

from bench.broker import HOST, PLUGIN_ID, Served
from bench.load import LoadFailedError
from tokenbroker.v1 import token_broker_pb2_grpc
from tokenbroker.v1.token_broker_pb2 import WatchTokensRequest, WatchTokensSubscribe

if TYPE_CHECKING:
    from tokenbroker.v1.token_broker_pb2_grpc import TokenBrokerAsyncStub

STREAMS_EACH = 500  # on one connection; a broker takes no more than about a thousand
OPENED_AT_ONCE = 100  # a crowd of clients, and no flood: what a broker keeps for a burst is not the streams'
TOLD_SECONDS = 60.0


class Watchers:
    """Clients under way, each with one stream that watches one install."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._told_at: defaultdict[int, list[float]] = defaultdict(list)  # Unix seconds, by generation
        self._news: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._streams: list[asyncio.Task[None]] = []

    def watch(self, stub: "TokenBrokerAsyncStub", install_id: str) -> None:
        """One more client."""
        self._streams.append(asyncio.create_task(self._stream(stub, install_id)))

    async def told(self, generation: int, count: int | None = None) -> list[float]:
        """When each (or so many) was told that generation, the first first, in Unix seconds; waits until all were.

        Raises:
            LoadFailedError: not all are in time.
        """
        wanted, told, news = count or self._count, self._told_at[generation], self._news[generation]
        try:
            async with asyncio.timeout(TOLD_SECONDS):
                while len(told) < wanted:
                    await news.wait()
                    news.clear()
        except TimeoutError:
            reason = f"{len(told)} of {wanted} watchers were told generation {generation}"
            raise LoadFailedError(f"{reason} within {TOLD_SECONDS:.0f} s{self._first_fault()}") from None
        return sorted(told)

    async def end(self) -> None:
        """Ends every stream."""
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    async def _stream(self, stub: "TokenBrokerAsyncStub", install_id: str) -> None:
        call = stub.WatchTokens()
        subscribe = WatchTokensSubscribe(plugin_id=PLUGIN_ID, install_id=install_id)
        try:
            await call.write(WatchTokensRequest(subscribe=subscribe))
            async for event in call:
                if event.HasField("token"):
                    self._note(event.token.generation, time.time())
        finally:
            call.cancel()

    def _note(self, generation: int, at: float) -> None:
        self._told_at[generation].append(at)
        self._news[generation].set()

    def _first_fault(self) -> str:
        """How the first stream that ended did so, for people."""
        ended = (stream for stream in self._streams if stream.done() and not stream.cancelled())
        return next((f"; a stream ended: {stream.exception()!r}" for stream in ended), "")


@asynccontextmanager
async def watching(served: Served, install_ids: Sequence[str]) -> AsyncIterator[Watchers]:
    """A client for each of these ids, which has been told the install's first generation.

    Raises:
        LoadFailedError: not all were told.
    """
    watchers = Watchers(len(install_ids))
    async with AsyncExitStack() as stack:
        stubs = [
            token_broker_pb2_grpc.TokenBrokerStub(
                await stack.enter_async_context(_connection_of_its_own(served.port))
            )
            for _ in range(0, len(install_ids), STREAMS_EACH)
        ]
        stack.push_async_callback(watchers.end)
        for start in range(0, len(install_ids), OPENED_AT_ONCE):
            some = install_ids[start : start + OPENED_AT_ONCE]
            for position, install_id in enumerate(some, start):
                watchers.watch(stubs[position // STREAMS_EACH], install_id)
            await watchers.told(1, start + len(some))
        yield watchers


def _connection_of_its_own(port: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"{HOST}:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
