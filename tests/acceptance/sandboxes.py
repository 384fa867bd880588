"""Sandboxes under test: `token-broker sandbox run` as a real process, and what it leaves behind."""

import asyncio
import os
import re
import select
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.processes import DEADLINE_SECONDS, TOKEN_BROKER, Running, running

ANY_PORTS: Final = ("--ports", "auto")


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that is up. `envoy` is "" with the real one."""

    process: Running
    grpc: str
    http: str
    envoy: str


@asynccontextmanager
async def sandbox(
    temporary: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Sandbox]:
    """Runs a sandbox; returns when it says that it stays up."""
    options = (*ANY_PORTS, *arguments)
    async with running(
        TOKEN_BROKER, "sandbox", "run", *options, env={"TMPDIR": str(temporary), **(env or {})}
    ) as process:
        await process.out.line("It stays up until Ctrl-C")
        envoy = await process.out.line("  envoy  ")
        broker = await process.out.line("  broker  ")
        yield Sandbox(
            process,
            grpc=_first(r"gRPC at (\S+),", broker),
            http=_first(r"HTTP at (\S+)", broker),
            envoy=_first(r"simulated Envoy at (\S+)", envoy),
        )


def left_in(temporary: Path) -> list[str]:
    """What stands in the folder."""
    return [path.name for path in temporary.iterdir()]


def _first(pattern: str, line: str) -> str:
    found = re.search(pattern, line)
    return found[1] if found else ""


class Postgres:
    """The server of a sandbox and the supervisor above it, watched through Linux' pidfd."""

    def __init__(self, temporary: Path) -> None:
        lock = next(temporary.glob("*/.s.PGSQL.*.lock"))
        server = int(lock.read_text().split()[0])
        after_the_name = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2]
        supervisor = int(after_the_name.split()[1])
        self._descriptors = [os.pidfd_open(pid) for pid in (server, supervisor)]

    async def ended(self) -> bool:
        """Whether both have ended, now or soon."""
        return all([await asyncio.to_thread(_ends, each, DEADLINE_SECONDS) for each in self._descriptors])

    def has_ended(self) -> bool:
        """Whether both have ended by now."""
        return all(_ends(each, 0) for each in self._descriptors)

    def close(self) -> None:
        """Stop watching."""
        for descriptor in self._descriptors:
            os.close(descriptor)


def _ends(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])
