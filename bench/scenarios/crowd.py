"""10,000 callers at once on one expired install over five replicas: one call to Envoy, and who waits longest?"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from statistics import median

import grpc.aio

from bench.broker import HOST, Database, Served, database, postgres, request, serving
from bench.due import let_time_pass
from bench.envoy import Envoy, EnvoyFailedError, simulated_envoy
from bench.load import LoadFailedError
from bench.run import Run
from bench.seeding import install_ids
from tokenbroker.v1 import token_broker_pb2_grpc

NAME = "crowd"
SUMMARY = "10,000 callers at once on one expired install over five replicas: the slowest of them"

REPLICAS = 5
CALLERS, QUICK_CALLERS = 10_000, 1_000
CHANNELS_EACH = 2
ENVOY_SECONDS = 1.0  # the provider's own latency: longer than it takes to send all the calls
EXPIRED = timedelta(hours=25)
# Each looks for what is due only when asked: all that is measured is due to the callers.
SETTINGS = {"sweep_seconds": "3600", "database_connections": "12", "refreshes_in_flight": "8"}
CALL_SECONDS = 60.0


async def run(bench: Run) -> None:
    """For each round an install of its own: first when its token has expired, then when it is FRESH in each replica."""
    callers = QUICK_CALLERS if bench.quick else CALLERS
    expired, fresh, calls = [], [], []
    async with AsyncExitStack() as stack:
        base = await database(await stack.enter_async_context(postgres(None)), "crowd")
        envoy = await stack.enter_async_context(simulated_envoy(None))
        replicas = [
            await stack.enter_async_context(
                serving(base, core=None, envoy_token_url=envoy.token_url, **SETTINGS)
            )
            for _ in range(REPLICAS + 1)
        ]
        told = (
            replicas.pop()
        )  # Of the installs: it remembers the tokens as they were before they had expired.
        channels = await stack.enter_async_context(_channels(replicas))
        for install_id in install_ids(bench.rounds):
            await _expire(install_id, base, envoy, told)
            before = await envoy.requests(install_id)
            expired.append(await _slowest(channels, install_id, callers, generation=2))
            calls.append(await envoy.requests(install_id) - before)
            fresh.append(await _slowest(channels, install_id, callers, generation=2))
            bench.progress(
                f"slowest: {expired[-1]:.2f} s expired, {fresh[-1]:.2f} s FRESH; {calls[-1]} call to Envoy"
            )
    if set(calls) != {1}:
        raise EnvoyFailedError(f"one call to Envoy for each expiry was promised, there were {calls}")
    margins = [slow - ENVOY_SECONDS for slow in expired]
    facts: dict[str, object] = {
        "callers": callers,
        "replicas": REPLICAS,
        "envoy_seconds": ENVOY_SECONDS,
        "calls_to_envoy": calls,
        "slowest_expired_seconds": [round(each, 3) for each in expired],
        "slowest_fresh_seconds": [round(each, 3) for each in fresh],
        "margin_seconds": round(median(margins), 3),
    }
    lines = [
        f"{callers:,} callers, {REPLICAS} replicas, Envoy takes {ENVOY_SECONDS:.1f} s: one call to Envoy each time",
        f"slowest caller: {median(expired):.2f} s, which is Envoy's latency and {median(margins):.2f} s more",
        f"the same crowd on the FRESH token, all sent and answered: {median(fresh):.2f} s",
    ]
    bench.report.add(NAME, facts, lines)


@asynccontextmanager
async def _channels(replicas: Sequence[Served]) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Connections of their own, as of several client processes."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(f"{HOST}:{replica.port}", options=options)
            )
            for replica in replicas
            for _ in range(CHANNELS_EACH)
        ]


async def _expire(install_id: str, base: Database, envoy: Envoy, told: Served) -> None:
    await envoy.install([install_id], told.webhook_url)
    await envoy.behave(install_id, latency_seconds=ENVOY_SECONDS, rotation="strict")
    await let_time_pass(base, [install_id], EXPIRED)


async def _slowest(
    channels: Sequence[grpc.aio.Channel], install_id: str, callers: int, *, generation: int
) -> float:
    """Seconds from the first call's sending to the last one's answer.

    Raises:
        LoadFailedError: one got another generation.
    """
    began = time.perf_counter()
    calls = []
    for channel in channels:
        stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
        calls += [
            stub.GetToken(request(install_id), timeout=CALL_SECONDS) for _ in range(callers // len(channels))
        ]
    replies = await asyncio.gather(*calls)
    taken = time.perf_counter() - began
    if {reply.generation for reply in replies} != {generation}:
        raise LoadFailedError("a caller got another generation")
    return taken
