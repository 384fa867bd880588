"""The Envoy client and TLS: whom it trusts with the client secret."""

import ssl
from datetime import timedelta
from pathlib import Path

from broker.adapters.envoy.client import CONNECT_LIMIT, EnvoyClient
from broker.domain.errors import NotSent
from tests.integration.envoy_calls import CLOCK, SHORT, answer_pair, be_silent, fault, refresh
from tests.integration.scripted_server import Connection, scripted

CERTIFICATE = Path(__file__).parent / "certificates" / "localhost.pem"


def client(
    host: str, port: int, ssl_context: ssl.SSLContext | None = None, connect_limit: timedelta = CONNECT_LIMIT
) -> EnvoyClient:
    """A client of a server with TLS; without a context it trusts whom httpx trusts."""
    url = f"https://{host}:{port}/"
    return EnvoyClient(url, clock=CLOCK, connect_limit=connect_limit, ssl_context=ssl_context)


def server_context() -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def test_f13_unknown_certificate_is_refused_before_the_secret_is_sent() -> None:
    """Somebody stands between us and Envoy."""
    async with scripted(answer_pair, server_context()) as server:
        endpoint = client("localhost", server.port)
        assert await fault(endpoint) == (NotSent, "certificate_refused")
        assert server.requests == []


async def test_f13_certificate_of_another_host_is_refused() -> None:
    """A trusted authority is not enough: the name must fit."""
    trusting = ssl.create_default_context(cafile=CERTIFICATE)
    async with scripted(answer_pair, server_context()) as server:
        endpoint = client("127.0.0.1", server.port, trusting)
        assert await fault(endpoint) == (NotSent, "certificate_refused")
        assert (await refresh(client("localhost", server.port, trusting))).expires_in == timedelta(days=1)
        assert len(server.requests) == 1


async def test_f13_server_that_speaks_no_tls_is_refused() -> None:
    """There is no falling back to plain HTTP."""

    async def speak_plainly(connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await connection.over.wait()

    async with scripted(speak_plainly) as server:
        assert await fault(client("localhost", server.port)) == (NotSent, "tls_failed")


async def test_stalled_handshake_is_not_sent() -> None:
    """Connected is not sent: no byte of the request leaves before the handshake ends."""
    async with scripted(be_silent) as server:
        by_connect_limit = client("localhost", server.port, connect_limit=SHORT)
        assert await fault(by_connect_limit) == (NotSent, "connect_timeout")
        by_deadline = client("localhost", server.port)
        assert await fault(by_deadline, SHORT) == (NotSent, "connect_timeout")
