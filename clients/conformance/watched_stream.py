"""A stream of WatchTokens on its way through a gate."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Any, Final

import grpc.aio

from clients.conformance.orders import Orders
from tokenbroker.v1 import token_broker_pb2 as pb

# What has come and was not passed on yet: as with any stream, whoever does not read holds up who writes.
MAX_WAITING: Final = 64


class WatchedStream:
    """What comes from the broker, and what a scenario puts among it, in one order."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._coming: asyncio.Queue[bytes | grpc.aio.AioRpcError | None] = asyncio.Queue(MAX_WAITING)
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """End it, without a word."""
        self._cut.set()

    async def tell(self, event: pb.WatchTokensResponse) -> None:
        """Say this to the client, as if the broker had."""
        await self._coming.put(event.SerializeToString())

    async def events(self, requests: AsyncIterator[bytes], call: Any) -> AsyncGenerator[bytes]:
        """What the client hears, until one side ends it, or it is cut.

        Raises:
            grpc.aio.AioRpcError: the broker's.
        """
        work = [asyncio.create_task(each) for each in (self._send_on(requests, call), self._receive(call))]
        cutting = asyncio.create_task(self._cut.wait())
        coming: asyncio.Task[bytes | grpc.aio.AioRpcError | None]
        coming = asyncio.create_task(self._coming.get())
        try:
            while True:
                await asyncio.wait({coming, cutting}, return_when=asyncio.FIRST_COMPLETED)
                if self._cut.is_set():
                    return
                event = coming.result()
                if isinstance(event, grpc.aio.AioRpcError):
                    raise event
                if event is None:
                    return
                yield self._shortened(event)
                coming = asyncio.create_task(self._coming.get())
        finally:
            for task in (*work, cutting, coming):
                task.cancel()
            call.cancel()

    @property
    def is_cut(self) -> bool:
        """Whether it was cut."""
        return self._cut.is_set()

    async def _receive(self, call: Any) -> None:
        try:
            while (event := await call.read()) is not grpc.aio.EOF:
                await self._coming.put(event)
        except grpc.aio.AioRpcError as error:
            await self._coming.put(error)
        else:
            await self._coming.put(None)

    async def _send_on(self, requests: AsyncIterator[bytes], call: Any) -> None:
        async for request in requests:
            asked = pb.WatchTokensRequest.FromString(request)
            if asked.WhichOneof("change") == "subscribe":
                self._orders.watched[asked.subscribe.install_id] += 1
                self._orders.known[asked.subscribe.install_id] = asked.subscribe.known_generation
            else:
                self._orders.unsubscribed[asked.unsubscribe.install_id] += 1
            await call.write(request)

    def _shortened(self, event: bytes) -> bytes:
        within = self._orders.next_within_seconds
        message = pb.WatchTokensResponse.FromString(event)
        if within is None or not message.HasField("heartbeat"):
            return event
        message.heartbeat.next_within.FromTimedelta(timedelta(seconds=within))
        return message.SerializeToString()
