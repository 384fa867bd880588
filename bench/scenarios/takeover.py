"""A replica is killed while it holds claims: how long after their ends has another replica mended the installs?"""

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from statistics import median
from typing import Final

import grpc.aio
import psycopg

from bench.broker import CALL_SECONDS, HOST, Database, Served, database, postgres, request, serving
from bench.due import let_time_pass, until_generation
from bench.envoy import Envoy, simulated_envoy
from bench.report import table
from bench.run import Run
from bench.seeding import install_ids
from tokenbroker.v1 import token_broker_pb2_grpc

NAME = "takeover"
SUMMARY = "a replica is killed while it holds claims: from their ends until another has fetched the tokens"

# The shortest that fit together: what is reported is the time beyond a claim's end, which they don't change.
SETTINGS = {"call_seconds": "1", "claim_margin_seconds": "0.5", "claim_seconds": "1.5"}
NEVER = "3600"
EXPIRED = timedelta(hours=25)
LIMIT_SECONDS = 30.0
MILLISECONDS = 1000
WAITED_FOR, SWEPT = "a caller waits", "by the scheduler alone"

# How long ago, for each of the installs; less than nothing before it has ended.
_SINCE_END: Final = """
SELECT extract(epoch FROM clock_timestamp() - claim_expires_at)::float8 FROM token_broker.installs
WHERE install_id = %(install_id)s
"""


async def run(bench: Run) -> None:
    """Each round with a victim of its own. The survivor sweeps as it does by default."""
    found: dict[str, list[float]] = {WAITED_FOR: [], SWEPT: []}
    async with AsyncExitStack() as stack:
        base = await database(await stack.enter_async_context(postgres(None)), "takeover")
        envoy = await stack.enter_async_context(simulated_envoy(None))
        settings = {"envoy_token_url": envoy.token_url, **SETTINGS}
        # Remembers the tokens as they were before they had expired, so it is not asked for them.
        told = await stack.enter_async_context(serving(base, core=None, sweep_seconds=NEVER, **settings))
        survivor = await stack.enter_async_context(serving(base, core=None, **settings))
        ids = install_ids(len(found) * bench.rounds)
        await envoy.install(ids, told.webhook_url)
        for number in range(bench.rounds):
            pair = ids[2 * number : 2 * number + 2]
            async with serving(base, core=None, sweep_seconds=NEVER, **settings) as victim:
                ends_at = await _killed(pair, base, envoy, victim)
            mended = await asyncio.gather(*_mended(pair, base, survivor, ends_at))
            for kind, beyond in zip(found, mended, strict=True):
                found[kind].append(beyond * MILLISECONDS)
            await envoy.release()
            bench.progress(f"round {number + 1}/{bench.rounds}")
    facts: dict[str, object] = {
        kind: {"median_ms": round(median(its)), "rounds_ms": [round(each) for each in its]}
        for kind, its in found.items()
    }
    rows = [(kind, f"{median(its):,.0f}", f"{max(its):,.0f}") for kind, its in found.items()]
    bench.report.add(NAME, facts, table(("beyond the claim's end", "median ms", "longest ms"), rows))


async def _killed(pair: list[str], base: Database, envoy: Envoy, victim: Served) -> dict[str, float]:
    """Kills the victim while Envoy works on both. When the claims end: by the event loop's clock."""
    loop = asyncio.get_running_loop()
    for install_id in pair:
        await envoy.behave(install_id, held="before_processing", remaining=1)
    await let_time_pass(base, pair, EXPIRED)
    asking = [asyncio.create_task(_ask(victim, install_id)) for install_id in pair]
    for install_id in pair:
        await envoy.requests(install_id, await_requests=2)
    os.kill(victim.pid, signal.SIGKILL)
    await asyncio.gather(*asking, return_exceptions=True)
    return {each: loop.time() - await asyncio.to_thread(_since_end, base, each) for each in pair}


def _mended(
    pair: list[str], base: Database, survivor: Served, ends_at: dict[str, float]
) -> list[Coroutine[None, None, float]]:
    """Seconds from each claim's end until its caller has the token; and until it stands there, asked for by nobody."""
    loop = asyncio.get_running_loop()
    waited_for, swept = pair

    async def by_caller() -> float:
        await _ask(survivor, waited_for)
        return loop.time() - ends_at[waited_for]

    async def by_scheduler() -> float:
        await until_generation(base, [swept], 2, LIMIT_SECONDS)
        return loop.time() - ends_at[swept]

    return [by_caller(), by_scheduler()]


async def _ask(broker: Served, install_id: str) -> None:
    async with grpc.aio.insecure_channel(f"{HOST}:{broker.port}") as channel:
        await token_broker_pb2_grpc.TokenBrokerStub(channel).GetToken(
            request(install_id), timeout=CALL_SECONDS
        )


def _since_end(base: Database, install_id: str) -> float:
    with psycopg.connect(base.url) as connection:
        [(seconds,)] = connection.execute(_SINCE_END, {"install_id": install_id}).fetchall()
    return float(seconds)
