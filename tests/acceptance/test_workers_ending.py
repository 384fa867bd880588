"""How several workers end: with their supervisor, in whatever way it ends."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import grpc.aio
import pytest

from tests.acceptance.replicas import NEVER
from tests.acceptance.worker_processes import (
    SERVE_IMPATIENTLY,
    Workers,
    is_alive,
    serving,
)
from tests.integration.served_broker import CALL_SECONDS, INSTALL_ID, rows_of, served_broker
from tests.integration.served_envoy import ServedEnvoy
from tokenbroker.v1 import token_broker_pb2, token_broker_pb2_grpc

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux deals out a port's connections")

PAST_EXPIRY: Final = timedelta(hours=25)


@asynccontextmanager
async def a_call_that_envoy_holds(
    envoy: ServedEnvoy, database: str, **settings: str
) -> AsyncIterator[tuple[Workers, "asyncio.Task[token_broker_pb2.GetTokenResponse]"]]:
    """Workers of which one waits for Envoy, on a caller's behalf."""
    async with served_broker(envoy, database, SWEEP_SECONDS=NEVER) as helper:
        await helper.installed()
        helper.age(INSTALL_ID, PAST_EXPIRY)
    await envoy.behave(held="before_processing")
    async with (
        serving(envoy, database, SWEEP_SECONDS=NEVER, **settings) as workers,
        grpc.aio.insecure_channel(workers.grpc_address) as channel,
    ):
        stub = token_broker_pb2_grpc.TokenBrokerStub(channel)

        async def get_token() -> token_broker_pb2.GetTokenResponse:
            request = token_broker_pb2.GetTokenRequest(install_id=INSTALL_ID)
            return await stub.GetToken(request, timeout=CALL_SECONDS)

        call = asyncio.create_task(get_token())
        await envoy.ledger(await_requests=2)
        yield workers, call
    await envoy.release()


def orchestrator(workers: Workers) -> None:
    """It knows one process."""
    workers.process.signal(signal.SIGTERM)


def terminal(workers: Workers) -> None:
    """Ctrl-C is for all processes of a terminal's command, and would be for workers."""
    os.killpg(workers.process.pid, signal.SIGINT)


@pytest.mark.parametrize("ask", [orchestrator, terminal])
async def test_f37_all_workers_drain(
    envoy: ServedEnvoy, database: str, ask: Callable[[Workers], None]
) -> None:
    """The pair is stored, the caller answered, and only then all are gone."""
    async with a_call_that_envoy_holds(envoy, database) as (workers, call):
        ask(workers)
        for index in (0, 1):
            await workers.event(f'broker.draining", "worker": {index},')
        await envoy.release()
        assert (await call).generation == 2
        ended = await workers.process.end()
    assert ended.code == 0
    assert ended.err.count('"broker.stopped"') == 2
    assert [(row["generation"], row["in_doubt"]) for row in rows_of(database)] == [(2, False)]


async def test_workers_that_nobody_supervises_any_more_drain(envoy: ServedEnvoy, database: str) -> None:
    """A supervisor that is killed can tell nobody. Its workers would serve on, with nobody to stop them."""
    async with a_call_that_envoy_holds(envoy, database) as (workers, call):
        pids = workers.pids().values()
        workers.process.signal(signal.SIGKILL)
        for index in (0, 1):
            await workers.event(f'broker.draining", "worker": {index},')
        await envoy.release()
        assert (await call).generation == 2
        ended = await workers.process.end()
    assert ended.err.count('"broker.stopped"') == 2
    assert not any(map(is_alive, pids))


async def test_second_signal_ends_all_at_once(envoy: ServedEnvoy, database: str) -> None:
    """An operator who has waited long enough."""
    async with a_call_that_envoy_holds(envoy, database) as (workers, call):
        pids = workers.pids().values()
        workers.process.signal(signal.SIGINT)
        await workers.event("broker.draining")
        workers.process.signal(signal.SIGINT)
        ended = await workers.process.end()
        assert (ended.code, "broker.stopped" in ended.err) == (1, False)
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert not any(map(is_alive, pids))


async def test_worker_that_does_not_end_is_ended(envoy: ServedEnvoy, database: str) -> None:
    """One that hangs would hold up the whole pod's end; the status says that it was not in peace."""
    settings = {"DRAIN_SECONDS": "0.5", "LAME_DUCK_SECONDS": "0"}
    async with serving(envoy, database, SERVE_IMPATIENTLY, **settings) as workers:
        os.kill(workers.pids()[1], signal.SIGSTOP)
        workers.process.signal(signal.SIGTERM)
        ended = await workers.process.end()
    assert ended.code == 1
    assert '"workers.killed"' in ended.err
