"""The stream of WatchTokens, for programs of threads.

One thread opens streams and judges which is dead; another reads the one that there is. What is said is taken by gRPC's
own thread from a generator, which waits for something to say. All three share the client's lock.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import grpc

from tokenbroker.client.keeper import Keeper
from tokenbroker.client.token import Seconds
from tokenbroker.client.watching import Watching
from tokenbroker.client.wire import Wire
from tokenbroker.v1.token_broker_pb2 import WatchTokensRequest, WatchTokensResponse

log = logging.getLogger(__name__)

CLOSE_WITHIN: Final[Seconds] = 5.0


class WatchCall(Protocol):
    """A call of WatchTokens."""

    def __iter__(self) -> Iterator[WatchTokensResponse]:
        """What comes."""

    def cancel(self) -> object:
        """End it."""


class Watch:
    """One stream at a time, from the first token that is remembered on. `lock`: the client's."""

    def __init__(
        self,
        keeper: Keeper[Any],
        wire: Wire,
        open_stream: Callable[[Iterator[WatchTokensRequest]], WatchCall],
        lock: threading.Lock,
        clock: Callable[[], Seconds],
    ) -> None:
        self._watching = Watching(keeper, wire, self._on_news)
        self._open_stream = open_stream
        self._clock = clock
        self._begin_anew(lock)

    def close(self) -> None:
        """End the stream, and wait until it has ended."""
        self._closed.set()
        with self._news:
            self._end()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_WITHIN)

    def after_fork_in_child(self, lock: threading.Lock) -> None:
        """The threads are gone; the next install that is remembered starts others."""
        self._begin_anew(lock)

    def _begin_anew(self, lock: threading.Lock) -> None:
        self._news = threading.Condition(lock)
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        # Which stream there is; whoever serves another has had his time.
        self._stream: object | None = None

    def _on_news(self) -> None:
        """Called under the lock."""
        if self._thread is None and not self._closed.is_set():
            self._thread = _daemon(self._run)
        self._news.notify_all()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - memory works without, and another stream may do better
                log.debug("no stream of tokens: %s", error)
            with self._news:
                pause = self._watching.pause()
            self._closed.wait(pause)

    def _follow(self) -> None:
        """One stream, until it ends or is dead."""
        stream = object()
        with self._news:
            self._watching.opened(self._clock())
            self._stream = None if self._closed.is_set() else stream
        call = self._open_stream(self._requests(stream))
        reader = _daemon(self._read, stream, call)
        with self._news:
            while self._stream is stream:
                silence = self._watching.dead_at - self._clock()
                if silence <= 0:
                    self._end()
                else:
                    self._news.wait(silence)
        call.cancel()
        reader.join()

    def _requests(self, stream: object) -> Iterator[WatchTokensRequest]:
        while True:
            with self._news:
                while (request := self._next_request(stream)) is None:
                    if self._stream is not stream:
                        return
                    self._news.wait()
            yield request

    def _next_request(self, stream: object) -> WatchTokensRequest | None:
        return self._watching.next_request() if self._stream is stream else None

    def _read(self, stream: object, call: WatchCall) -> None:
        try:
            for message in call:
                with self._news:
                    if self._stream is stream:
                        self._watching.heard(message, self._clock())
                        # It may be held for dead sooner than the one who waits for that knows.
                        self._news.notify_all()
        except grpc.RpcError as error:
            log.debug("the stream of tokens has ended: %s", error)
        finally:
            with self._news:
                if self._stream is stream:
                    self._end()

    def _end(self) -> None:
        """Called under the lock."""
        self._stream = None
        self._news.notify_all()


def _daemon(work: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, name="token-broker-watch", daemon=True)
    thread.start()
    return thread
