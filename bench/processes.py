"""Servers under test, as processes of their own that say on stdout when they are ready."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from bench.machine import pinned

READY_SECONDS = 30.0
STOP_SECONDS = 10.0

Process = asyncio.subprocess.Process


class NotReadyError(Exception):
    """A server ended, or said nothing, before it was ready."""


@asynccontextmanager
async def running(
    arguments: Sequence[str], *, core: int | None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """A process on that core, ended by SIGTERM (then SIGKILL) on the way out. Its stdout is a pipe.

    Args:
        arguments: the command; "python" stands for this interpreter.
        core: where it and its children run; None leaves that to the system.
        environment: the whole environment; None inherits.
    """
    command = [sys.executable if argument == "python" else argument for argument in arguments]
    with pinned(core):
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, env=environment
        )
    try:
        yield process
    finally:
        await _stop(process)


async def ready_line(process: Process) -> str:
    """The next line of its stdout.

    Raises:
        NotReadyError: there is none in time.
    """
    assert process.stdout is not None  # noqa: S101 - `running` made the pipe
    try:
        async with asyncio.timeout(READY_SECONDS):
            line = await process.stdout.readline()
    except TimeoutError:
        raise NotReadyError(f"nothing on stdout within {READY_SECONDS:.0f} s") from None
    if not line:
        raise NotReadyError("it ended before it was ready")
    return line.decode().strip()


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
