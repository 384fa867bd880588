"""A TCP proxy that freezes, cuts and refuses when a test says so: what a network does to a broker."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Final

import psycopg

CHUNK: Final = 65536
# Closing such a socket resets the connection instead of ending it in order.
RESET: Final = struct.pack("ii", 1, 0)


class Moment(Enum):
    """Where a connection is cut: BEFORE the server sees what the client said, or AFTER it has answered."""

    BEFORE = "before"
    AFTER = "after"


class FaultProxy:
    """Stands between a client and `target`: a (host, port), or the path of a Unix socket.

    Attributes:
        port: where it listens on loopback.
        accepted: how many connections there have been.
        has_cut: set when a planned cut has been made.
    """

    def __init__(self, target: tuple[str, int] | Path) -> None:
        self.port = 0
        self.accepted = 0
        self.has_cut = asyncio.Event()
        self._target = target
        self._running = asyncio.Event()
        self._running.set()
        self._refuses = False
        self._plan: tuple[bytes, Moment] | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    def freeze(self) -> None:
        """Forward nothing any more, either way, and answer nothing; connections stay."""
        self._running.clear()

    def thaw(self) -> None:
        """Forward again, also what was held."""
        self._running.set()

    def refuse(self) -> None:
        """Reset every new connection."""
        self._refuses = True

    def restore(self) -> None:
        """Take connections again."""
        self._refuses = False

    def cut(self) -> None:
        """Reset every connection now."""
        for writer in list(self._writers):
            _reset(writer)

    def cut_at(self, said: bytes, moment: Moment) -> None:
        """Once: reset the connection on which the client says `said`."""
        self._plan = (said, moment)
        self.has_cut.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client."""
        self.accepted += 1
        if self._refuses:
            _reset(writer)
            return
        await self._running.wait()
        if isinstance(self._target, Path):
            server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        else:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        ends = _Ends(writer, server_writer)
        self._writers |= {writer, server_writer}
        try:
            await asyncio.gather(
                self._pump(reader, server_writer, ends, from_client=True),
                self._pump(server_reader, writer, ends, from_client=False),
            )
        finally:
            self._writers -= {writer, server_writer}
            ends.reset()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: "_Ends", *, from_client: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._running.wait()
                if from_client and self._plan is not None and self._plan[0] in data:
                    moment, self._plan = self._plan[1], None
                    if moment is Moment.BEFORE:
                        break
                    ends.doomed = True
                elif ends.doomed and not from_client:
                    break
                writer.write(data)
                await writer.drain()
        if ends.doomed or not ends.is_reset:
            self.has_cut.set()
        ends.reset()


class _Ends:
    """Both ends of a proxied connection. `doomed`: the server's next answer is not passed on."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.doomed = self.is_reset = False
        self._writers = writers

    def reset(self) -> None:
        """Reset both."""
        self.is_reset = True
        for writer in self._writers:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    if end is not None and end.family != socket.AF_UNIX:
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()


@asynccontextmanager
async def fault_proxy(target: tuple[str, int] | Path) -> AsyncIterator[FaultProxy]:
    """A proxy on a free port."""
    proxy = FaultProxy(target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.thaw()
        server.close()
        proxy.cut()
        await server.wait_closed()


def target_of(dsn: str) -> tuple[str, int] | Path:
    """Where a Postgres DSN leads."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    host, port = str(parts["host"]), int(parts.get("port") or 5432)
    return Path(host) / f".s.PGSQL.{port}" if host.startswith("/") else (host, port)


def proxied(dsn: str, proxy: FaultProxy) -> str:
    """The same database by way of the proxy."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return psycopg.conninfo.make_conninfo("", **{**parts, "host": "127.0.0.1", "port": proxy.port})
