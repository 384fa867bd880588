"""One HTTP/2 connection (RFC 9113) as a hostile client has it: any frame may be sent at any time."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.hpack import RequestHeaders
from bench.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    FRAME_HEADER,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_BYTES,
    MAX_FRAME_BYTES,
    PING,
    PREFACE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    SETTINGS_INITIAL_WINDOW_SIZE,
    WINDOW_UPDATE,
)
from broker.sandbox.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE

GET_TOKEN: Final = "/tokenbroker.v1.TokenBroker/GetToken"  # no stubs here: the process is to start fast
SETTLING_SECONDS: Final = 30
CANCEL: Final = (8).to_bytes(4)  # RFC 9113 7
SETTINGS_MAX_CONCURRENT_STREAMS: Final = 3  # RFC 9113 6.5.2
_COUNTED: Final = {RST_STREAM: "resets", HEADERS: "answers"}


@dataclass(frozen=True)
class Door:
    """Where the flood goes. Attributes: certificates: a caller's folder; None speaks in the clear."""

    host: str
    port: int
    certificates: Path | None = None

    def tls(self) -> ssl.SSLContext | None:
        """What a caller with these certificates would use."""
        if self.certificates is None:
            return None
        context = ssl.create_default_context(cafile=self.certificates / CA_FILE)
        context.load_cert_chain(self.certificates / CERTIFICATE_FILE, self.certificates / KEY_FILE)
        context.set_alpn_protocols(["h2"])
        return context


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """One frame as it stands on the wire."""
    length = len(body)
    return FRAME_HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream) + body


def request_headers() -> RequestHeaders:
    """Those of a GetToken."""
    headers = [(":path", GET_TOKEN), (":authority", "localhost"), ("te", "trailers")]
    return RequestHeaders("https", [*headers, ("content-type", "application/grpc")])


class Connection:
    """Sends what it is told, and counts what comes back. Attributes: max_streams: as the server has told it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Counter[str]
    ) -> None:
        self.max_streams = 0
        self.settled = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._seen = seen
        self._headers = request_headers()
        self._block = self._headers.first
        self._next_stream = 1
        self._first_window = INITIAL_WINDOW_BYTES
        self._windows: dict[int, int] = {0: INITIAL_WINDOW_BYTES}
        self._moved = asyncio.Condition()
        self._is_closed = False

    def call(self) -> tuple[int, bytes]:
        """The number and the header frame of one call more."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        block, self._block = self._block, self._headers.repeated
        return stream, frame(HEADERS, END_HEADERS, stream, block)

    async def send(self, data: bytes) -> None:
        """Send; returns when the socket has room for more.

        Raises:
            ConnectionError: the server has closed.
        """
        if self._is_closed or self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(0)  # drain returns at once while there is room; what came has to be read, too

    async def upload(self, stream: int, body: bytes) -> None:
        """Send part of a message, as fast as the server's windows allow.

        Raises:
            ConnectionError: the server has closed.
        """
        self._windows.setdefault(stream, self._first_window)
        while body:
            async with self._moved:
                await self._moved.wait_for(lambda: self._is_closed or self._room(stream) > 0)
            part, body = body[: self._room(stream)], body[self._room(stream) :]
            self._windows[0] -= len(part)
            self._windows[stream] -= len(part)
            self._seen["uploaded bytes"] += len(part)
            await self.send(frame(DATA, 0, stream, part))

    async def read(self) -> None:
        """Count what the server sends, until it closes."""
        try:
            while True:
                header = await self._reader.readexactly(FRAME_HEADER.size)
                high, low, kind, flags, stream = FRAME_HEADER.unpack(header)
                body = await self._reader.readexactly(high << 8 | low)
                async with self._moved:
                    self._on_frame(kind, flags, stream, body)
                    self._moved.notify_all()
        except (OSError, asyncio.IncompleteReadError):
            async with self._moved:
                self._is_closed = True
                self._moved.notify_all()

    async def closed(self) -> None:
        """Return when the server has closed."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._is_closed)

    def _room(self, stream: int) -> int:
        return min(MAX_FRAME_BYTES, self._windows[0], self._windows[stream])

    def _on_frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind in _COUNTED:
            self._seen[_COUNTED[kind]] += 1
        elif kind == GOAWAY:
            self._seen[f"goaway {int.from_bytes(body[4:8])}"] += 1
        elif kind == SETTINGS and not flags & ACK:
            self._on_settings(dict(SETTING.iter_unpack(body)))
        elif kind == PING and not flags & ACK:
            self._writer.write(frame(PING, ACK, 0, body))
        elif kind == WINDOW_UPDATE:
            self._windows[stream] = self._windows.get(stream, self._first_window) + int.from_bytes(body)

    def _on_settings(self, settings: dict[int, int]) -> None:
        # Of streams that are open already the window would change as well; none of ours waits for that.
        self._first_window = settings.get(SETTINGS_INITIAL_WINDOW_SIZE, self._first_window)
        self.max_streams = settings.get(SETTINGS_MAX_CONCURRENT_STREAMS, self.max_streams)
        self._writer.write(frame(SETTINGS, ACK, 0, b""))
        self.settled.set()


@asynccontextmanager
async def connected(door: Door, seen: Counter[str]) -> AsyncIterator[Connection]:
    """An open connection, past TLS and both sides' settings.

    Raises:
        OSError: the server lets nobody in.
        TimeoutError: it says nothing.
    """
    reader, writer = await asyncio.open_connection(door.host, door.port, ssl=door.tls())
    connection = Connection(reader, writer, seen)
    reading = asyncio.create_task(connection.read())
    seen["connections"] += 1
    try:
        await connection.send(PREFACE + frame(SETTINGS, 0, 0, b""))
        async with asyncio.timeout(SETTLING_SECONDS):
            await connection.settled.wait()
        yield connection
    finally:
        reading.cancel()
        writer.transport.abort()
