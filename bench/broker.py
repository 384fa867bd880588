"""A real broker as a contestant: a Postgres of its own, and `token-broker serve` as a process."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc.aio
import psycopg
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from psycopg import sql

from bench.load import LoadFailedError, Target
from bench.machine import pinned
from bench.processes import READY_SECONDS, NotReadyError, Process, running
from bench.rounds import Contestant
from bench.tls import IN_THE_CLEAR, Door
from broker import offline
from broker.config import PREFIX
from broker.domain.secret import Secret
from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tokenbroker.v1 import token_broker_pb2_grpc
from tokenbroker.v1.token_broker_pb2 import BatchGetTokensRequest, GetTokenRequest

NAME = "broker"
HOST = "127.0.0.1"
PLUGIN_ID = "4242"
CLIENT_ID, CLIENT_SECRET = "bench", "make-believe-secret"
SERVE = ("python", "-m", "broker", "serve")  # what `token-broker serve` runs
NOBODY_LISTENS = "http://127.0.0.1:9/"  # where every token is fresh, Envoy is never called
POLL_SECONDS = 0.002
POSTGRES_SETTINGS = {"autovacuum": "off"}  # it would choose a contestant to slow down

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
BATCH = 1000  # the most that BatchGetTokens takes
CALL_SECONDS = 30.0
LIFETIME_VARIES_BYTES = (
    8  # Duration.nanos is left out when it is 0, and up to 6 bytes otherwise; seconds up to 3
)


@dataclass(frozen=True)
class Database:
    """A migrated database, and the keys of what is sealed in it."""

    url: str
    keyset: Secret


@dataclass(frozen=True)
class Served:
    """A broker that says that it serves."""

    pid: int
    port: int
    webhook_url: str
    door: Door = IN_THE_CLEAR

    def contestant(
        self,
        name: str,
        messages: Path,
        reply_bytes: int,
        prepare: Callable[[], None] | None = None,
        count: Callable[[], Awaitable[int]] | None = None,
    ) -> Contestant:
        """It as a contestant, whose answers have `reply_bytes`, give or take the lifetime's digits."""
        target = Target(self.port, self.pid, messages, reply_bytes - LIFETIME_VARIES_BYTES, door=self.door)
        return Contestant(name, target, count, prepare)

    async def reply_bytes(self, install_id: str) -> int:
        """The size of its answer to GetToken, by a real client."""
        async with self.door.channel(_address(self.port)) as channel:
            stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
            reply = await stub.GetToken(
                request(install_id), timeout=CALL_SECONDS, metadata=self.door.metadata
            )
        return reply.ByteSize()

    async def read(self, install_ids: Sequence[str]) -> None:
        """Has it hand out these installs' tokens once, by BatchGetTokens.

        Raises:
            LoadFailedError: it did not hand out one of them.
        """
        async with self.door.channel(_address(self.port)) as channel:
            stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
            for start in range(0, len(install_ids), BATCH):
                wanted = [request(install_id) for install_id in install_ids[start : start + BATCH]]
                reply = await stub.BatchGetTokens(
                    BatchGetTokensRequest(requests=wanted),
                    timeout=CALL_SECONDS,
                    metadata=self.door.metadata,
                )
                if not all(result.HasField("token") for result in reply.results):
                    raise LoadFailedError("the broker did not hand out a token")


def request(install_id: str) -> GetTokenRequest:
    """What asks for that install's token."""
    return GetTokenRequest(plugin_id=PLUGIN_ID, install_id=install_id)


@asynccontextmanager
async def postgres(core: int | None) -> AsyncIterator[EmbeddedPostgres]:
    """A Postgres server on that core, with its default memory, gone afterwards."""
    server = EmbeddedPostgres(settings=POSTGRES_SETTINGS)
    await asyncio.to_thread(_start, server, core)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def database(server: EmbeddedPostgres, name: str) -> Database:
    """A new database of that name with the broker's schema."""
    return await asyncio.to_thread(_create, server, name)


@asynccontextmanager
async def serving(
    base: Database,
    door: Door = IN_THE_CLEAR,
    /,
    *,
    core: int | None,
    command: Sequence[str] = SERVE,
    **settings: str,
) -> AsyncIterator[Served]:
    """`token-broker serve` on that core, ready. `settings` are its own, by their names without the prefix.

    Raises:
        NotReadyError: it ended, or does not serve in time.
    """
    port, http_port = free_port(), free_port()
    settings = {"http_address": f"{HOST}:{http_port}", **settings}
    async with running(command, core=core, environment=environment(base, port, settings)) as process:
        await until_serving(process, port, door)
        yield Served(process.pid, port, f"http://{HOST}:{http_port}/envoy/webhooks/{PLUGIN_ID}", door)


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def environment(base: Database, port: int, settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would change a broker, and what one needs to serve `base`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "OTEL_"))}
    own = {
        "database_url": base.url,
        "keyset": base.keyset.reveal(),
        "envoy_plugin_id": PLUGIN_ID,
        "envoy_client_id": CLIENT_ID,
        "envoy_client_secret": CLIENT_SECRET,
        "envoy_token_url": NOBODY_LISTENS,
        "grpc_address": f"{HOST}:{port}",
        "http_address": f"{HOST}:0",
        "insecure_serve_anybody": "true",
        "lame_duck_seconds": "0",
        "log_level": "warning",
        **settings,
    }
    return inherited | {f"{PREFIX}{name.upper()}": value for name, value in own.items()}


async def until_serving(process: Process, port: int, door: Door = IN_THE_CLEAR) -> None:
    """Returns as soon as grpc.health.v1 says SERVING.

    Raises:
        NotReadyError: it ended, or does not serve in time.
    """
    try:
        async with asyncio.timeout(READY_SECONDS):
            await _until_listening(process, port)
            async with door.channel(_address(port)) as channel:
                check: grpc.aio.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse]
                check = channel.unary_unary(
                    HEALTH_CHECK, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
                )
                # A handshake with a server that is still starting may be broken off: try again.
                ask = partial(check, HealthCheckRequest(), wait_for_ready=door.tls is not None)
                while (await ask()).status != HealthCheckResponse.SERVING:  # noqa: ASYNC110 - a push comes no sooner
                    await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise NotReadyError(f"the broker does not serve within {READY_SECONDS:.0f} s") from None
    except grpc.RpcError as error:
        raise NotReadyError(f"the broker's health: {error}") from error


def _address(port: int) -> str:
    return f"{HOST}:{port}"


async def _until_listening(process: Process, port: int) -> None:
    """A bare connection tells sooner than a channel, which waits longer and longer between its attempts."""
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(POLL_SECONDS)
        else:
            writer.close()
            return
    raise NotReadyError("the broker ended before it was ready")


def _start(server: EmbeddedPostgres, core: int | None) -> None:
    with pinned(core):
        server.start()


def _create(server: EmbeddedPostgres, name: str) -> Database:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = server.dsn(name)
    offline.migrate(url)
    return Database(url, offline.keysets.generate_keyset())
