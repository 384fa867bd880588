"""What an engine asks of a container, without one: the image's own test runs it inside."""

import asyncio
import socket

import pytest

from broker.config import Settings
from broker.healthcheck import ADDRESS_VARIABLE, DEFAULT_ADDRESS, problem
from tests.integration.scripted_server import Connection, scripted

OK = 200
UNAVAILABLE = 503


def test_address_is_the_settings_own_when_none_is_set() -> None:
    """Or a broker with the default settings would never be healthy."""
    assert str(Settings.model_fields["http_address"].default) == DEFAULT_ADDRESS


@pytest.mark.parametrize(
    ("status", "found"), [(OK, None), (UNAVAILABLE, "/readyz answers 503")], ids=["ready", "not ready"]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
async def test_readyz_decides_wherever_the_broker_listens(host: str, status: int, found: str | None) -> None:
    """A container that is healthy gets callers; one that listens everywhere is asked by loopback."""

    async def script(connection: Connection) -> None:
        await connection.answer(status, b"")

    async with scripted(script) as broker:
        assert await asyncio.to_thread(problem, {ADDRESS_VARIABLE: f"{host}:{broker.port}"}) == found
        assert broker.requests[0].startswith(b"GET /readyz ")


async def test_silence_and_nonsense_are_told_in_a_line_and_no_proxy_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine keeps what is printed for whoever looks into it; a proxy knows nothing of this container."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"nonsense\r\n\r\n")

    async with scripted(script) as broker, scripted(script) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        address = f"127.0.0.1:{broker.port}"
        found = await asyncio.to_thread(problem, {ADDRESS_VARIABLE: address})
        assert found == f"no answer from {address}: BadStatusLine"
        assert proxy.connections == 0
    assert problem({ADDRESS_VARIABLE: address}) == f"no answer from {address}: ConnectionRefusedError"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_broker_that_listens_everywhere_by_ipv6_is_asked_there() -> None:
    """[::] is what a cluster of IPv6 sets."""

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()
        await writer.wait_closed()

    asked = asyncio.Event()
    async with await asyncio.start_server(close, "::1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(problem, {ADDRESS_VARIABLE: f"[::]:{port}"}) is not None
        assert asked.is_set()
