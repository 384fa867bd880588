"""A real server on 127.0.0.1 that does to each connection what a test's script says."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Connection:
    """One accepted connection.

    Attributes:
        over: set when the test ends; a script that says nothing more waits for it.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    over: asyncio.Event
    _requests: list[bytes]

    async def request(self) -> bytes:
        """Reads one whole request, and takes it down."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await self.reader.readexactly(int(lengths[0].partition(b":")[2])) if lengths else b""
        self._requests.append(head + body)
        return head + body

    async def answer(self, status: int, body: bytes, *headers: str) -> None:
        """Answers the next request."""
        await self.request()
        lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *headers]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def send(self, raw: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()


Script = Callable[[Connection], Awaitable[None]]


@dataclass
class ScriptedServer:
    """Attributes: port: where it listens. connections: how many came. requests: the whole ones that were read."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def scripted(
    script: Script, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Serves by the script, on a free port. Connections end with the script, or with the test."""
    server, over = ScriptedServer(), asyncio.Event()
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.arrived.set()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await script(Connection(reader, writer, over, server.requests))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.get_running_loop().create_task(handle(reader, writer)))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=ssl_context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        async with listener:
            yield server
            over.set()
    finally:
        over.set()
        await asyncio.gather(*handlers)
