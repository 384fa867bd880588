"""Several real `token-broker serve` processes on one database and one simulated Envoy.

What they log is logged by this process too, each line under its replica's name, so that pytest shows it beside the
test that failed.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from broker.sandbox.simulated_envoy import SimulatedApp
from tests.eventually import eventually
from tests.integration.served_broker import CALL_SECONDS, envoy_url, settings_for
from tests.integration.served_envoy import APP, ServedEnvoy
from tests.processes import TOKEN_BROKER, Finished, Running, environment
from tokenbroker.v1 import installs_pb2, installs_pb2_grpc, token_broker_pb2, token_broker_pb2_grpc

if TYPE_CHECKING:
    from tokenbroker.v1.installs_pb2_grpc import InstallsAsyncStub
    from tokenbroker.v1.token_broker_pb2_grpc import TokenBrokerAsyncStub

SERVE: Final = (TOKEN_BROKER, "serve")
SERVE_WITH_CRASH_POINTS: Final = (sys.executable, "-m", "tests.acceptance.serve_with_crash_points")
REPOSITORY: Final = Path(__file__).parents[2]
# Five replicas must not take every connection of the tests' Postgres.
SETTINGS: Final = {"LOG_FORMAT": "json", "DATABASE_CONNECTIONS": "12", "REFRESHES_IN_FLIGHT": "8"}
# In place of a scheduler's interval: longer than any test.
NEVER: Final = "3600"
# Where hints would be listened for, nobody is: every one is lost.
UNHEARD: Final = "postgresql://nobody@127.0.0.1:1/nothing"

log: Final = logging.getLogger("replica")
log.setLevel(logging.INFO)


class _Overheard(asyncio.StreamReader):
    """A process's output that is logged on its way."""

    def __init__(self, stream: asyncio.StreamReader, name: str) -> None:
        super().__init__()
        self._stream_of_process = stream
        self._name = name

    async def readline(self) -> bytes:
        line = await self._stream_of_process.readline()
        if line:
            log.info("%s %s", self._name, line.decode().rstrip())
        return line


@dataclass(frozen=True)
class Replica:
    """A process that serves, and its doors."""

    process: Running
    grpc_address: str
    http_address: str
    channel: grpc.aio.Channel

    @property
    def tokens(self) -> "TokenBrokerAsyncStub":
        """The service that users of tokens call."""
        return token_broker_pb2_grpc.TokenBrokerStub(self.channel)

    @property
    def installs(self) -> "InstallsAsyncStub":
        """The service that operators call."""
        return installs_pb2_grpc.InstallsStub(self.channel)

    @property
    def webhook_url(self) -> str:
        """Where Envoy is told to post its webhooks."""
        return f"http://{self.http_address}/envoy/webhooks"

    async def get_token(
        self, install_id: str, *, plugin_id: str = "", seconds: float = CALL_SECONDS
    ) -> token_broker_pb2.GetTokenResponse:
        """GetToken."""
        request = token_broker_pb2.GetTokenRequest(plugin_id=plugin_id, install_id=install_id)
        return await self.tokens.GetToken(request, timeout=seconds)

    async def refresh(self, install_id: str, *, plugin_id: str = "") -> installs_pb2.Install:
        """RefreshInstall."""
        request = installs_pb2.RefreshInstallRequest(install_id=install_id, plugin_id=plugin_id)
        return (await self.installs.RefreshInstall(request, timeout=CALL_SECONDS)).install

    async def delete(self, install_id: str) -> None:
        """DeleteInstall."""
        request = installs_pb2.DeleteInstallRequest(install_id=install_id)
        await self.installs.DeleteInstall(request, timeout=CALL_SECONDS)

    async def report_rejected(self, install_id: str, generation: int) -> bool:
        """ReportRejectedToken; whether this report took the token out of use."""
        request = token_broker_pb2.ReportRejectedTokenRequest(install_id=install_id, generation=generation)
        reply = await self.tokens.ReportRejectedToken(request, timeout=CALL_SECONDS)
        return reply.invalidated

    async def all_before_are_read(self, install_id: str) -> None:
        """Return when the process has read every call that was sent here before: it answers one sent behind them."""
        request = installs_pb2.GetInstallRequest(install_id=install_id)
        await self.installs.GetInstall(request, timeout=CALL_SECONDS)

    def kill(self) -> None:
        """SIGKILL: as by the kernel that is out of memory."""
        self.process.signal(signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP: as a machine that stands still."""
        self.process.signal(signal.SIGSTOP)

    async def stopped(self) -> None:
        """Return when it stands still."""

        async def has_stopped() -> bool:
            seen = os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOHANG)  # noqa: ASYNC222  # no hang
            return seen is not None

        await eventually(has_stopped)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: as an orchestrator asks to stop."""
        self.process.signal(signal.SIGTERM)

    async def ended(self) -> Finished:
        """How it ended, once it has."""
        return await self.process.end()

    async def logged(self, event: str) -> dict[str, Any]:
        """The process's first log line of that event, once it is there."""
        line: dict[str, Any] = json.loads(await self.process.err.line(f'"{event}"'))
        return line


@asynccontextmanager
async def replica(
    environ: Mapping[str, str], *, name: str, command: Sequence[str | Path] = SERVE
) -> AsyncIterator[Replica]:
    """Runs a process; returns when it is ready. It ends with the block at the latest."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(environ), cwd=REPOSITORY
    )
    assert process.stderr is not None
    process.stderr = _Overheard(process.stderr, name)
    served = Running(process)
    try:
        started = json.loads(await served.err.line('"broker.started"'))
        await served.err.line('"broker.ready"')
        async with grpc.aio.insecure_channel(started["grpc"]) as channel:
            yield Replica(served, started["grpc"], started["http"], channel)
    finally:
        await served.kill()


class Replicas:
    """Replicas by number; each can be ended, and another put in its place."""

    def __init__(self, stack: AsyncExitStack, environ: Mapping[str, str]) -> None:
        self._stack = stack
        self._environ = environ
        self._replicas: list[Replica] = []
        self._ended: list[Replica] = []

    @property
    def ever(self) -> list[Replica]:
        """All there ever were; those that run now are the last."""
        return [*self._ended, *self._replicas]

    def __len__(self) -> int:
        return len(self._replicas)

    def __getitem__(self, number: int) -> Replica:
        return self._replicas[number]

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._replicas)

    async def start(self, count: int) -> None:
        """Start `count` replicas more, all at once."""
        first = len(self._replicas)
        numbers = range(first, first + count)
        self._replicas += await asyncio.gather(*(self._started(number, {}) for number in numbers))

    async def restart(self, number: int, *, same_address: bool = False) -> Replica:
        """Put a new process in the place of one that has ended or soon will."""
        await self[number].ended()
        address = self[number].grpc_address
        variables = {"TOKEN_BROKER_GRPC_ADDRESS": address} if same_address else {}
        self._ended.append(self[number])
        self._replicas[number] = await self._started(number, variables)
        return self._replicas[number]

    @asynccontextmanager
    async def one_more(self, **variables: str) -> AsyncIterator[Replica]:
        """Runs a replica that is not counted, with crash points: see serve_with_crash_points.py for `variables`."""
        environ = {**self._environ, **variables}
        async with replica(environ, name="victim", command=SERVE_WITH_CRASH_POINTS) as started:
            yield started

    async def _started(self, number: int, variables: Mapping[str, str]) -> Replica:
        environ = {**self._environ, **variables}
        return await self._stack.enter_async_context(replica(environ, name=f"replica-{number}"))


@asynccontextmanager
async def replicas(
    database: str, envoy: ServedEnvoy, count: int = 5, apps: Sequence[SimulatedApp] = (APP,), **settings: str
) -> AsyncIterator[Replicas]:
    """Runs `count` replicas on free ports. `settings` are the broker's, without their prefix."""
    environ = settings_for(database, envoy_url(envoy), apps=apps, **(SETTINGS | settings))
    async with AsyncExitStack() as stack:
        running = Replicas(stack, environ)
        await running.start(count)
        yield running
