"""Serves an ASGI application in the running event loop, by uvicorn."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from broker.web.connections import BoundedConnection

KEEP_ALIVE_SECONDS: Final = 30
BACKLOG: Final = 512
MAX_HEAD_BYTES: Final = 16 * 1024


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; port 0 lets the system choose. `shared`: with other workers (broker/doors.py).

    Raises:
        OSError: the address is taken, or none of ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, so that the event loop sends small answers at once (TCP_NODELAY).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Uvicorn(uvicorn.Server):
    """Signals are app.py's business: one drain for HTTP and gRPC."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def web_config(app: ASGIApp, *, drain_seconds: float, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    """How the broker's own HTTP is served: bounded, quiet, without a word about the software. `tls`: over that."""
    return uvicorn.Config(
        app,
        log_config=None,
        # Below that is one line for each request that is none: whoever sends such could fill the disk.
        log_level="error",
        access_log=False,
        lifespan="off",
        server_header=False,
        # Else whoever is on this machine could say to be elsewhere, also on record.
        proxy_headers=False,
        ssl_context_factory=(lambda *_: tls) if tls is not None else None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(drain_seconds),
        http=BoundedConnection,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        backlog=BACKLOG,
        ws="none",
    )


class HttpServer:
    """An ASGI application behind a socket that listens already."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        self._listener = listener
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens at."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._server.serve([self._listener]))

    async def stop(self) -> None:
        """Refuse new connections, and let those under way end."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
