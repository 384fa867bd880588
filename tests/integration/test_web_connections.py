"""HTTP connections that nobody can hold for long, over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final

import pytest
from starlette.types import Receive, Scope, Send

from broker.web import connections
from broker.web.server import MAX_HEAD_BYTES, HttpServer, listen, web_config

SOON: Final = timedelta(seconds=0.2)
LONG: Final = timedelta(minutes=10)
DEADLINE_SECONDS: Final = 10
REQUEST: Final = b"GET /healthz HTTP/1.1\r\nhost: broker\r\n\r\n"
DRIP_SECONDS: Final = SOON.total_seconds() / 8

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], AbstractAsyncContextManager[Client]]


async def _app(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers at once, and reads no body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Opens connections to a server that does not wait long for requests."""
    monkeypatch.setattr(connections, "REQUEST_TIME", SOON)
    listener = listen("127.0.0.1", 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # so that unread answers are soon too many
    server = HttpServer(web_config(_app, drain_seconds=1), listener)
    server.start()

    @asynccontextmanager
    async def connected() -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    yield connected
    await server.stop()
    listener.close()


async def _is_cut(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends the connection without another word, by and by."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await reader.read() == b""
    except ConnectionError:
        return True


async def _drip(writer: asyncio.StreamWriter, byte: bytes) -> None:
    """A byte now and then, for ever."""
    while True:
        writer.write(byte)
        await asyncio.sleep(DRIP_SECONDS)  # what is tested is the passing of time


async def _is_cut_while_dripping(client: Client, byte: bytes) -> bool:
    reader, writer = client
    dripping = asyncio.create_task(_drip(writer, byte))
    try:
        return await _is_cut(reader)
    finally:
        dripping.cancel()


async def _ask_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(REQUEST * 100)
        await writer.drain()


async def _answered(client: Client, request: bytes = REQUEST) -> bytes:
    reader, writer = client
    writer.write(request)
    async with asyncio.timeout(DEADLINE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        return head.split(b"\r\n")[0] + b" " + await reader.readexactly(2)


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTT", REQUEST[:-2]])
async def test_f45_connection_without_a_whole_request_is_cut(connect: Connect, said: bytes) -> None:
    """By itself uvicorn would keep it for ever."""
    async with connect() as (reader, writer):
        writer.write(said)
        assert await _is_cut(reader)


async def test_f45_connection_that_drips_headers_is_cut(connect: Connect) -> None:
    """A byte buys no time (Slowloris)."""
    async with connect() as client:
        client[1].write(REQUEST[:-2] + b"x: ")
        assert await _is_cut_while_dripping(client, b"x")


async def test_f45_second_request_has_no_more_time_than_the_first(connect: Connect) -> None:
    """One good request is cheap."""
    async with connect() as client:
        assert await _answered(client) == b"HTTP/1.1 200 OK ok"
        client[1].write(REQUEST[:-2] + b"x: ")
        assert await _is_cut_while_dripping(client, b"x")


async def test_f45_body_that_nobody_wants_is_not_read_for_ever(connect: Connect) -> None:
    """The answer is out, and the body still comes."""
    async with connect() as client:
        announced = REQUEST[:-2] + b"content-length: 1000000000\r\n\r\n"
        assert await _answered(client, announced) == b"HTTP/1.1 200 OK ok"
        assert await _is_cut_while_dripping(client, b"x")


async def test_f45_answer_that_is_not_read_is_given_up(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests one behind the other, and not one answer taken from the socket."""
    monkeypatch.setattr(connections, "REQUEST_TIME", LONG)
    monkeypatch.setattr(connections, "ANSWER_TIME", SOON)
    async with connect() as (_, writer):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads, too
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(ConnectionError):
                await _ask_for_ever(writer)


async def test_requests_one_after_the_other_share_a_connection_longer_than_one_may_take(
    connect: Connect,
) -> None:
    """The bound is on each request and not on the connection."""
    async with connect() as client:
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < began + 3 * SOON.total_seconds():
            assert await _answered(client) == b"HTTP/1.1 200 OK ok"


async def test_headers_larger_than_their_bound_are_refused(connect: Connect) -> None:
    """They would have to be kept until they end."""
    async with connect() as client:
        large = REQUEST[:-2] + b"x: " + b"x" * MAX_HEAD_BYTES
        assert (await _answered(client, large)).startswith(b"HTTP/1.1 400 Bad Request")


async def test_f45_longest_silent_of_too_many_connections_makes_room(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks at once is served, however many there are who don't."""
    monkeypatch.setattr(connections, "REQUEST_TIME", LONG)
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connect()) for _ in range(3)]
        async with connect() as client:
            assert await _answered(client) == b"HTTP/1.1 200 OK ok"
            assert await _is_cut(silent[0][0])
            assert await _answered(silent[1]) == b"HTTP/1.1 200 OK ok"
