"""An example as a process: built, started, asked, and ended with the block that runs it."""

import asyncio
import os
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import httpx

from examples.languages import CHECKOUT, Command, Language

HOST: Final = "127.0.0.1"
BUILD_SECONDS: Final = 600.0  # the first build fetches packages
READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02


class ExampleFailed(Exception):
    """An example did not do what it shows."""


async def build(language: Language) -> None:
    """Make the example ready to start.

    Raises:
        ExampleFailed: a command is not on this machine, fails, or takes too long.
    """
    for command in language.build:
        await _run_to_its_end(command)


@asynccontextmanager
async def running(language: Language, environment: Mapping[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """The example at a free port, and a client of its own to ask it by.

    Raises:
        ExampleFailed: it can't be started, ended at once, or does not listen in time.
    """
    port = _free_port()
    # A session of its own: Ctrl-C is the runner's, which ends the example in its turn.
    process = await _started(
        language.start,
        # All that it talks to is on this machine; a proxy, if there is one, is not.
        env={**os.environ, **environment, "PORT": str(port), "NO_PROXY": HOST, "no_proxy": HOST},
        start_new_session=True,
    )
    try:
        await _until_listening(process, port)
        async with httpx.AsyncClient(
            base_url=f"http://{HOST}:{port}", trust_env=False, timeout=ANSWER_SECONDS
        ) as client:
            yield client
    finally:
        await _stop(process)


async def _run_to_its_end(command: Command) -> None:
    process = await _started(command, stdout=PIPE, stderr=STDOUT)
    try:
        async with asyncio.timeout(BUILD_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise ExampleFailed(f"`{' '.join(command)}` takes more than {BUILD_SECONDS:.0f} s") from None
    finally:
        await _stop(process)
    if process.returncode:
        raise ExampleFailed(f"`{' '.join(command)}` failed:\n{said.decode(errors='replace').rstrip()}")


async def _started(command: Command, **options: object) -> Process:
    try:
        return await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, cwd=CHECKOUT, **options)  # type: ignore[arg-type] # the stream and session options, as they are
    except FileNotFoundError:
        raise ExampleFailed(f"needs the program {command[0]!r}, which is not on this machine") from None


async def _until_listening(process: Process, port: int) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection(HOST, port)
                except OSError:
                    await asyncio.sleep(POLL_SECONDS)
                else:
                    writer.close()
                    return
    except TimeoutError:
        raise ExampleFailed(f"the example does not listen within {READY_SECONDS:.0f} s") from None
    raise ExampleFailed(f"the example ended with {process.returncode} before it listened")


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
