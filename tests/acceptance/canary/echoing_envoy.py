"""An Envoy that says back what it was told, secrets and all, wherever an answer has room for words."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from tests.integration.scripted_server import Connection, scripted

Echo = Callable[[str], bytes]
"""Makes the whole answer of the whole request, both as they go over the wire."""

_END_OF_LINE: Final = "\r\n"


@dataclass
class EchoingEnvoy:
    """An Envoy, and another before it that repeats.

    Attributes:
        url: where it is reached.
        planned: how the next requests are answered; then all go on to the Envoy behind it.
        told: all requests.
    """

    url: str = ""
    told: list[bytes] = field(default_factory=list)
    planned: deque[Echo] = field(default_factory=deque)


@asynccontextmanager
async def echoing_envoy(behind: int) -> AsyncIterator[EchoingEnvoy]:
    """Runs one before the simulated Envoy at the port `behind`."""
    front = EchoingEnvoy()

    async def script(connection: Connection) -> None:
        request = await connection.request()
        front.told.append(request)
        if front.planned:
            await connection.send(front.planned.popleft()(request.decode("latin-1")))
        else:
            await connection.send(await _forwarded(request, behind))

    async with scripted(script) as server:
        front.url = f"http://127.0.0.1:{server.port}"
        yield front


async def _forwarded(request: bytes, port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        # The broker asks for "Connection: close", so an answer ends with its connection.
        return await reader.read(-1)
    finally:
        writer.close()
        await writer.wait_closed()


def _line(said: str) -> str:
    return " ".join(said.split())


def _answer(status: str, body: str, *headers: str) -> bytes:
    content = body.encode("latin-1")
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return _END_OF_LINE.join(lines).encode("latin-1") + content


def _json(status: str, document: Mapping[str, Any] | list[Any], *headers: str) -> bytes:
    return _answer(status, json.dumps(document), "Content-Type: application/json", *headers)


ECHOES: Final[Mapping[str, Echo]] = {
    "error": lambda said: _json("400 Bad Request", {"error": said, "error_description": said}),
    "invalid_grant": lambda said: _json(
        "400 Bad Request", {"error": "invalid_grant", "error_description": said, "error_uri": said}
    ),
    "invalid_client": lambda said: _json(
        "401 Unauthorized",
        {"error": "invalid_client", "error_description": said},
        f'WWW-Authenticate: Basic realm="{_line(said)}"',
    ),
    "unauthorized": lambda said: _json("401 Unauthorized", {"message": said}),
    "failed": lambda said: _answer("500 Internal Server Error", said, f"Server: {_line(said)}"),
    "unavailable": lambda said: _answer("503 Service Unavailable", said, f"Retry-After: 0 {_line(said)}"),
    "redirect": lambda said: _answer("302 Found", said, f"Location: https://127.0.0.1/?{quote(said)}"),
    "reason": lambda said: _answer(f"400 {_line(said)}", said),
    "text": lambda said: _answer(
        "200 OK", said, f"Content-Type: {_line(said)}", f"Set-Cookie: {_line(said)}"
    ),
    "list": lambda said: _json("200 OK", [said]),
    "no_token": lambda said: _json("200 OK", {said: said, "error": said, "access_token": [said]}),
    "no_json": lambda said: _answer("200 OK", '{"access_token": "' + said),
    "encoded": lambda said: _answer("200 OK", said, f"Content-Encoding: {_line(said)}"),
    "bad_status_line": lambda said: said.encode("latin-1"),
    "bad_header": lambda said: f"HTTP/1.1 200 OK\r\n\x00{_line(said)}\r\n\r\n".encode("latin-1"),
    "bad_length": lambda said: f"HTTP/1.1 200 OK\r\nContent-Length: {_line(said)}\r\n\r\n".encode("latin-1"),
    "bad_chunk": lambda said: (
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{_line(said)}\r\n".encode("latin-1")
    ),
}


def limited(said: str) -> bytes:
    """An echo by itself: when it was heard, nothing is asked for a while."""
    return _answer("429 Too Many Requests", said, f"Retry-After: {_line(said)}", f"Date: {_line(said)}")
