"""The stream of WatchTokens, for programs of tasks."""

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from typing import Any

import grpc

from tokenbroker.client.keeper import Keeper
from tokenbroker.client.token import Seconds
from tokenbroker.client.watching import Watching
from tokenbroker.client.wire import Wire
from tokenbroker.v1.token_broker_pb2 import WatchTokensRequest, WatchTokensResponse

log = logging.getLogger(__name__)

AsyncWatchCall = grpc.aio.StreamStreamCall[WatchTokensRequest, WatchTokensResponse]


class AsyncWatch:
    """One stream at a time, from the first token that is remembered on."""

    def __init__(
        self,
        keeper: Keeper[Any],
        wire: Wire,
        open_stream: Callable[[], AsyncWatchCall],
        clock: Callable[[], Seconds],
    ) -> None:
        self._watching = Watching(keeper, wire, self._on_news)
        self._open_stream = open_stream
        self._clock = clock
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    async def close(self) -> None:
        """End the stream, and wait until it has ended."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _on_news(self) -> None:
        if self._task is None and not self._is_closed:
            # The stream outlives whoever asked for the first token, and is not part of his trace.
            self._task = asyncio.create_task(self._run(), context=Context())
        self._news.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except asyncio.CancelledError:
                # gRPC says so, too, when the channel is closed under the stream, as it is once the credentials change.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
            except Exception as error:  # noqa: BLE001 - memory works without, and another stream may do better
                log.debug("no stream of tokens: %s", error)
            await asyncio.sleep(self._watching.pause())

    async def _follow(self) -> None:
        """One stream, until it ends or is dead."""
        self._watching.opened(self._clock())
        call = self._open_stream()
        speaking = asyncio.create_task(self._speak(call))
        try:
            await self._hear(call)
        finally:
            call.cancel()
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _hear(self, call: AsyncWatchCall) -> None:
        while True:
            async with asyncio.timeout(self._watching.dead_at - self._clock()):
                message = await call.read()
            if not isinstance(message, WatchTokensResponse):
                return
            self._watching.heard(message, self._clock())

    async def _speak(self, call: AsyncWatchCall) -> None:
        while True:
            self._news.clear()
            while (request := self._watching.next_request()) is not None:
                await call.write(request)
            await self._news.wait()
