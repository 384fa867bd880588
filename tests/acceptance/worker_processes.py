"""`token-broker serve --workers N` as real processes: the supervisor, its workers, and who asks them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc.aio
import httpx
import psycopg

from tests.acceptance.service_config import SERVICE_CONFIG
from tests.eventually import eventually
from tests.integration.health_calls import SERVING, health
from tests.integration.served_broker import CALL_SECONDS, envoy_url, settings_for
from tests.integration.served_envoy import APP, ServedEnvoy
from tests.processes import TOKEN_BROKER, Running, running
from tokenbroker.v1 import token_broker_pb2, token_broker_pb2_grpc

# Workers must not take every connection of the tests' Postgres.
SETTINGS: Final = {"LOG_FORMAT": "json", "DATABASE_CONNECTIONS": "8", "REFRESHES_IN_FLIGHT": "8"}
COUNT: Final = 2
SERVE: Final = (TOKEN_BROKER, "serve", "--workers", str(COUNT))
# The same, with hardly any patience for workers that do not end.
SERVE_IMPATIENTLY: Final = (
    sys.executable,
    "-c",
    f"""
import os, sys
from datetime import timedelta
from broker import workers
workers.CLOSING = timedelta(seconds=1)
sys.exit(workers.supervise({COUNT}, dict(os.environ)))
""",
)
PROC: Final = Path("/proc")
# A channel has one connection, which is one worker's. So many are all of one worker's about once in 500 times, where
# that matters not.
CHANNELS: Final = 10
CHANNEL_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
)


def environment_for(envoy: ServedEnvoy, database: str, **settings: str) -> dict[str, str]:
    """What `serve` needs."""
    environ = settings_for(database, envoy_url(envoy), apps=(APP,), **(SETTINGS | settings))
    if "KEYSET_FILE" in settings:
        del environ["TOKEN_BROKER_KEYSET"]
    return environ


@dataclass(frozen=True)
class Workers:
    """A supervisor, and the doors of its workers."""

    process: Running
    grpc_address: str
    http: str
    _ever: set[int] = field(default_factory=set)

    @property
    def webhook_url(self) -> str:
        """Where Envoy is told to post its webhooks."""
        return f"{self.http}/envoy/webhooks"

    def pids(self) -> dict[int, int]:
        """The pid of each worker that there is now, by its index."""
        children = (PROC / f"{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = {index: int(pid) for pid in children if (index := _index(pid)) is not None}
        self._ever.update(found.values())
        return found

    def kill_all(self) -> None:
        """SIGKILL all that were seen, and the supervisor first, which would put others in their place."""
        if is_alive(self.process.pid):
            self.pids()
            self.process.signal(signal.SIGKILL)
        for pid in self._ever:
            if _index(str(pid)) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def kill(self, index: int) -> int:
        """SIGKILL one; returns the pid of the process that takes its place, which may not listen yet."""
        before = self.pids()[index]
        os.kill(before, signal.SIGKILL)

        async def is_replaced() -> bool:
            return self.pids().get(index, before) != before

        await eventually(is_replaced)
        return self.pids()[index]

    async def listens(self, pid: int) -> None:
        """Return when that worker does."""
        await self.process.err.line(f'"pid": {pid},')

    async def event(self, name: str) -> dict[str, Any]:
        """The first log line of that event, once it is there; `name` may go on with what stands behind it."""
        closed = name if name.endswith((",", '"')) else f'{name}"'
        line: dict[str, Any] = json.loads(await self.process.err.line(f'"{closed}'))
        return line


def _index(pid: str) -> int | None:
    """Which worker a process is; None while it is none yet, or no more."""
    with suppress(FileNotFoundError):
        arguments = (PROC / pid / "cmdline").read_bytes().split(b"\0")
        if b"--worker" in arguments:
            return int(arguments[arguments.index(b"--worker") + 1])
    return None


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        state = (PROC / str(pid) / "stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


@asynccontextmanager
async def starting(
    envoy: ServedEnvoy, database: str, /, command: Sequence[str | Path] = SERVE, **settings: str
) -> AsyncIterator[Workers]:
    """Workers of which the first listens. All end with the block at the latest."""
    async with running(*command, env=environment_for(envoy, database, **settings)) as process:
        started = json.loads(await process.err.line('"broker.started"'))
        workers = Workers(process, started["grpc"], f"http://{started['http']}")
        try:
            yield workers
        finally:
            workers.kill_all()


@asynccontextmanager
async def serving(
    envoy: ServedEnvoy, database: str, /, command: Sequence[str | Path] = SERVE, **settings: str
) -> AsyncIterator[Workers]:
    """Two workers that serve."""
    async with starting(envoy, database, command, **settings) as workers:

        async def both_are_there() -> bool:
            return len(workers.pids()) == COUNT

        await eventually(both_are_there)
        for pid in workers.pids().values():
            await workers.listens(pid)
        yield workers


@asynccontextmanager
async def channels(address: str) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Several, each with a connection of its own."""
    opened = [grpc.aio.insecure_channel(f"ipv4:{address}", options=CHANNEL_OPTIONS) for _ in range(CHANNELS)]
    try:
        yield opened
    finally:
        for channel in opened:
            await channel.close()


@dataclass
class Seen:
    """What callers and probes saw.

    Attributes:
        failed: calls that did, after gRPC's own retries.
        answered: probes that got an answer, by what asked.
        not_ready: what else than "ready" they were told.
        broken: connections that ended without an answer.
    """

    tokens: int = 0
    failed: list[str] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=lambda: {"http": 0, "grpc": 0})
    not_ready: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    async def call(self, channel: grpc.aio.Channel, install_id: str) -> None:
        """Ask for a token."""
        request = token_broker_pb2.GetTokenRequest(install_id=install_id)
        try:
            await token_broker_pb2_grpc.TokenBrokerStub(channel).GetToken(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            self.failed.append(f"{error.code().name}: {error.details()}")
        else:
            self.tokens += 1

    async def probe_http(self, workers: Workers) -> None:
        """Ask /readyz by a connection of its own, as an orchestrator does."""
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{workers.http}/readyz")
        except httpx.TransportError as error:
            self.broken.append(repr(error))
            return
        self.answered["http"] += 1
        if answer.status_code != httpx.codes.OK:
            self.not_ready.append(answer.text)

    async def probe_grpc(self, workers: Workers) -> None:
        """Ask grpc.health.v1 in the same way."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(workers.grpc_address, options=options) as channel:
            try:
                status = await health(channel)
            except grpc.aio.AioRpcError as error:
                self.broken.append(f"{error.code().name}: {error.details()}")
                return
        self.answered["grpc"] += 1
        if status != SERVING:
            self.not_ready.append(f"grpc.health.v1: {status}")


@asynccontextmanager
async def asked_all_the_time(workers: Workers, install_id: str) -> AsyncIterator[Seen]:
    """Callers on many connections, and both kinds of probes, one after the other for as long as the block runs."""
    seen, over = Seen(), asyncio.Event()

    async def call_on(channel: grpc.aio.Channel) -> None:
        while not over.is_set():
            await seen.call(channel, install_id)

    async def probe_on() -> None:
        while not over.is_set():
            await asyncio.gather(seen.probe_http(workers), seen.probe_grpc(workers))

    async with channels(workers.grpc_address) as opened, asyncio.TaskGroup() as asking:
        for channel in opened:
            asking.create_task(call_on(channel))
        asking.create_task(probe_on())
        try:
            yield seen
        finally:
            over.set()


class AbsentDatabase:
    """A database whose socket can be taken away, from who connects anew."""

    def __init__(self, database: str, folder: Path) -> None:
        parts = psycopg.conninfo.conninfo_to_dict(database)
        self._real, self._sockets = str(parts["host"]), folder / "sockets"
        self.url = (
            f"postgresql://{parts['user']}@/{parts['dbname']}?host={self._sockets}&port={parts['port']}"
        )

    def comes(self) -> None:
        """From now on it can be reached."""
        self._sockets.symlink_to(self._real)

    def goes(self) -> None:
        """From now on it can't."""
        self._sockets.unlink()
