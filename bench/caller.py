"""The calls of one connection, and the count of what came back."""

import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import cast

from bench.hpack import HpackError
from bench.http2 import Call, ClientConnection, Http2Error

OK = "0"  # google.rpc.Code


class Tally:
    """Counts answers: good ones only inside the window, bad ones always."""

    def __init__(self, reply_bytes: int) -> None:
        self.errors: Counter[str] = Counter()
        self.calls_in_all = 0
        self.recording = False
        self.latencies: list[float] = []
        self._reply_bytes = reply_bytes

    def add(self, call: Call, now: float) -> None:
        """Takes one finished call; an answer that is too short is an error."""
        if call.status != OK:
            self.errors[f"grpc-status {call.status}"] += 1
        elif call.message_bytes < self._reply_bytes:
            self.errors["answer too short"] += 1
        else:
            self.calls_in_all += 1
            if self.recording:
                self.latencies.append(now - call.started)


class Caller(asyncio.Protocol):
    """One connection, with at most `room` calls outstanding.

    Closed loop: each answer makes room for the next call, at once. Open loop: a call waits in `due`
    until there is room, and its latency counts from when it was due.
    """

    def __init__(
        self,
        connection: ClientConnection,
        messages: Iterator[bytes],
        tally: Tally,
        *,
        room: int,
        closed_loop: bool,
    ) -> None:
        self.settled = asyncio.Event()
        self._connection = connection
        self._messages = messages
        self._next = next(messages)
        self._tally = tally
        self._room = room
        self._closed_loop = closed_loop
        self._stopped = False
        self._due: deque[float] = deque()
        self._transport: asyncio.Transport | None = None

    @property
    def outstanding(self) -> int:
        """Calls not answered yet."""
        return len(self._connection.calls) + len(self._due)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Opens HTTP/2 and sends the first calls."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._transport.write(self._connection.opening())
        self._proceed(time.perf_counter())

    def data_received(self, data: bytes) -> None:
        """Counts what finished and sends what there is room for."""
        now = time.perf_counter()
        try:
            finished = self._connection.receive(data)
        except (Http2Error, HpackError) as error:
            print(f"load generator: {error}", file=sys.stderr)
            self.close()
            return
        for call in finished:
            self._tally.add(call, now)
        self._proceed(now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Every call still out is an error, and a closed connection is one itself unless it was asked for."""
        lost = self.outstanding
        if lost or not self._stopped:
            self._tally.errors[f"connection lost ({type(exc).__name__})"] += max(lost, 1)
        self._connection.calls.clear()
        self._due.clear()
        self._stopped = True
        self.settled.set()

    def call(self, due: float) -> None:
        """Open loop: one more call, due now."""
        if self._stopped:
            self._tally.errors["not sent: connection lost"] += 1
            return
        self._due.append(due)
        self._proceed(due)

    def stop(self) -> None:
        """Begins no more calls; `settled` is set when the last answer is there."""
        self._stopped = True
        self._proceed(time.perf_counter())

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    def _proceed(self, now: float) -> None:
        connection = self._connection
        while self._has_work() and len(connection.calls) < self._room and connection.may_send(self._next):
            connection.send(self._next, self._due.popleft() if self._due else now)
            self._next = next(self._messages)
        outgoing = connection.take_outgoing()
        if outgoing and self._transport is not None:
            self._transport.write(outgoing)
        if self._stopped and not connection.calls and not self._due:
            self.settled.set()

    def _has_work(self) -> bool:
        return bool(self._due) or (self._closed_loop and not self._stopped)
