"""Real processes of the command line, whose output is read as it comes, and none of which outlives its test."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOKEN_BROKER: Final = Path(sys.executable).parent / "token-broker"
DEADLINE_SECONDS: Final = 60
# Set by a `make test` that these tests run under; a make of theirs must not take them for its own.
_MAKES_OWN: Final = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")


@dataclass(frozen=True)
class Finished:
    """A process that has ended."""

    code: int
    out: str
    err: str


class Printed:
    """What a process prints to one stream."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._lines: list[str] = []
        self._ended = False
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read(stream))

    async def line(self, containing: str) -> str:
        """The first line with `containing` in it, once it has been printed.

        Raises:
            EOFError: the stream has ended without it.
        """
        async with asyncio.timeout(DEADLINE_SECONDS), self._news:
            while True:
                found = next((line for line in self._lines if containing in line), None)
                if found is not None:
                    return found
                if self._ended:
                    raise EOFError(f"never printed: {containing!r}; but:\n{''.join(self._lines)}")
                await self._news.wait()

    async def all(self) -> str:
        """Everything, once the stream has ended."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._reading
        return "".join(self._lines)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            async with self._news:
                self._lines.append(line.decode())
                self._news.notify_all()
        async with self._news:
            self._ended = True
            self._news.notify_all()


class Running:
    """A process under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self.pid = process.pid
        self.out = Printed(process.stdout)
        self.err = Printed(process.stderr)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def end(self) -> Finished:
        """How it ended, once it has."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            code = await self._process.wait()
        return Finished(code, await self.out.all(), await self.err.all())

    async def kill(self) -> None:
        """End it by force, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self.end()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of a broker's, and with `variables`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TOKEN_BROKER_") and name not in _MAKES_OWN
    }
    kept = {name: os.environ[name] for name in ("TOKEN_BROKER_POSTGRES_BIN",) if name in os.environ}
    return {**inherited, **kept, **variables}


@asynccontextmanager
async def running(
    *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[Running]:
    """Starts a process, which ends with the block at the latest."""
    process = Running(
        await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=environment(env or {}),
            cwd=cwd,
            start_new_session=True,
        )
    )
    try:
        yield process
    finally:
        await process.kill()


async def run(
    *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Finished:
    """Runs a process to its end."""
    async with running(*command, env=env, cwd=cwd) as process:
        return await process.end()


async def token_broker(*arguments: str, env: Mapping[str, str] | None = None) -> Finished:
    """Runs `token-broker` to its end."""
    return await run(TOKEN_BROKER, *arguments, env=env)
