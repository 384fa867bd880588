"""Serving the simulated Envoy by uvicorn, in a way that lets it drop a connection without an answer.

ASGI has no word for "hang up". This protocol lays the connection's transport into the scope's state.
"""

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

TRANSPORT = "simulated_envoy_transport"
GRACEFUL_SHUTDOWN_SECONDS = 2


class DroppableConnection(H11Protocol):
    """uvicorn's HTTP/1.1, with the transport in reach of the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Remembers the transport for this connection's requests."""
        super().connection_made(transport)
        # asyncio does this only for sockets made with IPPROTO_TCP; without it each answer comes 40 ms late.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, TRANSPORT: transport}


def server_config(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Config:
    """How to serve `SimulatedEnvoy.asgi`. Under another server a cut still shows, but only after headers."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=DroppableConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )


def transport_of(scope: Scope) -> asyncio.Transport | None:
    """The connection's transport, where `server_config` serves."""
    transport = scope.get("state", {}).get(TRANSPORT)
    return transport if isinstance(transport, asyncio.Transport) else None
