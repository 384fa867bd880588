"""HTTP connections that nobody can hold for long.

uvicorn bounds how long a connection may be idle between two requests. One that sends nothing, or a byte of a header now
and then, it keeps for ever, and any number of them. Here every request has its time and every answer another; and of
more connections than there is room for, the one that we have waited for longest goes. So whoever sends a request at
once is served, also in a flood of those who don't.
"""

import asyncio
from datetime import timedelta
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from broker.web.peer_names import PEER_NAMES, names_of_peer

# From a connection's first moment, or the first byte after an answer, to the end of the headers.
REQUEST_TIME: Final = timedelta(seconds=10)
# From there to the answer's end. More than a webhook takes whose body is slow and whose install needs a pair.
ANSWER_TIME: Final = timedelta(minutes=2)
MAX_CONNECTIONS: Final = 512


class BoundedConnection(H11Protocol):
    """A connection of uvicorn's, with bounds on its time and on the number of its kind.

    Attributes:
        waiting_since: when we began to wait for its request, by the event loop's clock; None: we don't.
    """

    waiting_since: float | None = None
    _answering: object | None = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Wait for a request, and make room. Who is at the other end goes with each request."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, PEER_NAMES: names_of_peer(transport)}
        self._proceed()
        if len(self.connections) > MAX_CONNECTIONS:
            self._longest_waiting().leave()

    def data_received(self, data: bytes) -> None:
        """Read it, and give what has to come next its time."""
        super().data_received(data)
        self._proceed()

    def on_response_complete(self) -> None:
        """Begin to wait again. Until the first byte comes, uvicorn's bound on idle connections holds."""
        self._limit(None)
        self.waiting_since = self.loop.time()
        super().on_response_complete()
        if self._is_answering():  # what was sent behind the last request
            self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._limit(None)
        super().connection_lost(exc)

    def leave(self) -> None:
        """Make room for another."""
        self.waiting_since = None
        self.transport.abort()

    def _proceed(self) -> None:
        if not self._is_answering():
            self.waiting_since = self.waiting_since or self.loop.time()
            if self._timer is None:
                self._limit(REQUEST_TIME)
        elif self.cycle is not self._answering:
            self._answering, self.waiting_since = self.cycle, None
            self._limit(ANSWER_TIME)

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        return cycle is not None and not cycle.response_complete

    def _limit(self, time: timedelta | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if time is not None:
            self._timer = self.loop.call_later(time.total_seconds(), self.transport.abort)

    def _longest_waiting(self) -> "BoundedConnection":
        """Itself, if all others are being answered."""
        waiting = [
            (each.waiting_since, id(each), each)
            for each in self.connections
            if isinstance(each, BoundedConnection) and each.waiting_since is not None
        ]
        return min(waiting)[-1]
