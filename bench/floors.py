"""Starts the servers of `bench.floor` as contestants."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from bench.floor import COUNT, Kind
from bench.load import Target
from bench.processes import ready_line, running
from bench.rounds import Contestant
from bench.tls import IN_THE_CLEAR, Door

BARE = (Kind.AIO, Kind.AIO_UVLOOP, Kind.SYNC)  # the floor is the fastest of these
SIZE_TOLERANCE_BYTES = 1  # see bench.floor.answer


@asynccontextmanager
async def floor(
    kind: Kind,
    *,
    messages: Path,
    reply_bytes: int,
    core: int | None,
    name: str | None = None,
    door: Door = IN_THE_CLEAR,
) -> AsyncIterator[Contestant]:
    """A bare server on that core that answers `reply_bytes` to whatever is asked.

    It is named by its kind if no `name` is given. It does not look at the callers' metadata.
    """
    command = ["python", "-m", "bench.floor", "--kind", kind, "--reply-bytes", str(reply_bytes)]
    if door.tls is not None:
        command += ["--tls", str(door.tls.folder), *(["--mutual"] if door.tls.mutual else [])]
    async with running(command, core=core) as process:
        target = Target(
            port=int(await ready_line(process)),
            pid=process.pid,
            messages=messages,
            reply_bytes=reply_bytes - SIZE_TOLERANCE_BYTES,
            door=door,
        )
        async with door.channel(f"{target.host}:{target.port}") as channel:
            ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(COUNT)

            async def count() -> int:
                return int(await ask(b""))

            yield Contestant(name or kind, target, count)
