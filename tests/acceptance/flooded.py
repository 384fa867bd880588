"""A real `token-broker serve` under mutual TLS, floods that go to it, and a well-behaved caller who tells how it was."""

import asyncio
import json
import logging
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from broker.sandbox.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from broker.sandbox.secured import SERVICE, STRANGER, secure
from tests.acceptance.replicas import SETTINGS, Replica, replica
from tests.floods.kinds import BEGUN
from tests.integration.secured_broker import CallerAtTheDoor
from tests.integration.served_broker import INSTALL_ID, envoy_url, served_broker, settings_for
from tests.integration.served_envoy import APP, ServedEnvoy
from tests.processes import Finished, running

FLOOD_SECONDS: Final = 3.0
DOOR: Final = {"TOKEN_BROKER_INSECURE_SERVE_ANYBODY": "false"}

log: Final = logging.getLogger("flood")
log.setLevel(logging.INFO)


@dataclass(frozen=True)
class Witnessed:
    """One flood.

    Attributes:
        seen: what it did and what came back, by the flood's own count.
        waits_seconds: of one who asked again and again the while; each time there was an answer.
        grown_mib: the broker's resident memory at its peak, less what it was before.
        descriptors: how many the broker had open at the most.
    """

    seen: dict[str, int]
    waits_seconds: list[float]
    grown_mib: int
    descriptors: int

    @property
    def p99_seconds(self) -> float:
        """99 of 100 waits were shorter."""
        return sorted(self.waits_seconds)[math.ceil(len(self.waits_seconds) * 0.99) - 1]

    @property
    def report(self) -> dict[str, int]:
        """What is worth telling of it."""
        named = {name.replace(" ", "_"): count for name, count in self.seen.items()}
        waits = {"p99_ms": self.p99_seconds, "max_ms": max(self.waits_seconds)}
        ours = {name: round(seconds * 1000) for name, seconds in waits.items()}
        return (
            named
            | ours
            | {"calls": len(self.waits_seconds)}
            | {"grown_mib": self.grown_mib, "descriptors": self.descriptors}
        )


@dataclass(frozen=True)
class Flooded:
    """Attributes: caller: one who may have tokens. folder: as the sandbox fills it."""

    broker: Replica
    caller: CallerAtTheDoor
    folder: Path

    @property
    def memory_mib(self) -> int:
        """What the broker has resident."""
        status = self._proc("status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    @property
    def descriptors(self) -> int:
        """How many the broker has open."""
        return len(list(self._proc("fd").iterdir()))

    @property
    def grpc_address(self) -> str:
        """By the name that its certificate has."""
        return self.broker.grpc_address.replace("127.0.0.1", "localhost")

    async def get_token(self) -> None:
        """The caller's, on its connection."""
        await self.caller.get_token(INSTALL_ID)

    async def flood(
        self,
        name: str,
        *,
        seconds: float = FLOOD_SECONDS,
        address: str | None = None,
        ask: Callable[[], Awaitable[None]] | None = None,
    ) -> Witnessed:
        """Let a stranger flood the broker, at its gRPC port if not told otherwise, and measure who asks the while.

        By default that is the caller. What it raises ends the flood.
        """
        memory, descriptors, waits = [self.memory_mib], [self.descriptors], list[float]()
        async with self._flooding(name, seconds, address or self.grpc_address) as ended:
            while not ended.done():
                began = time.perf_counter()
                await (ask or self.get_token)()
                waits.append(time.perf_counter() - began)
                memory.append(self.memory_mib)
                descriptors.append(self.descriptors)
            finished = await ended
        assert finished.code == 0, finished.err
        seen: dict[str, int] = json.loads(finished.out.removeprefix(f"{BEGUN}\n"))
        witnessed = Witnessed(seen, waits, max(memory) - memory[0], max(descriptors))
        log.info("%s: %s", name, witnessed.report)
        return witnessed

    @asynccontextmanager
    async def another_caller(self) -> AsyncIterator[CallerAtTheDoor]:
        """The same service, on a connection of its own that is made now."""
        async with _caller(self.grpc_address, self.folder / SERVICE) as caller:
            yield caller

    @asynccontextmanager
    async def _flooding(
        self, name: str, seconds: float, address: str
    ) -> AsyncIterator[asyncio.Task[Finished]]:
        """From when the flood begins: calls before would make the waits look shorter than they are."""
        command = (sys.executable, "-m", "tests.floods", name, address, str(seconds))
        async with running(*command, "--certificates", self.folder / STRANGER) as process:
            await process.out.line(BEGUN)
            yield asyncio.create_task(process.end())

    def _proc(self, name: str) -> Path:
        return Path("/proc") / str(self.broker.process.pid) / name


@asynccontextmanager
async def flooded(envoy: ServedEnvoy, database: str, folder: Path) -> AsyncIterator[Flooded]:
    """Runs one, with a token in its memory."""
    async with served_broker(envoy, database) as front_desk:
        await front_desk.installed()
    environ = settings_for(database, envoy_url(envoy), apps=(APP,), **SETTINGS) | secure(folder) | DOOR
    async with (
        replica(environ, name="flooded") as broker,
        _caller(broker.grpc_address.replace("127.0.0.1", "localhost"), folder / SERVICE) as caller,
    ):
        await caller.get_token(INSTALL_ID)
        yield Flooded(broker, caller, folder)


@asynccontextmanager
async def _caller(address: str, certificates: Path) -> AsyncIterator[CallerAtTheDoor]:
    ca, key, certificate = (
        (certificates / file).read_bytes() for file in (CA_FILE, KEY_FILE, CERTIFICATE_FILE)
    )
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        yield CallerAtTheDoor(channel)
