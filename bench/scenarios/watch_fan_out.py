"""From a new generation in the store to the last of 1,000 watching clients, when another replica has fetched it."""

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import NamedTuple

import grpc.aio

from bench.broker import CALL_SECONDS, HOST, PLUGIN_ID, Served, database, postgres, serving
from bench.envoy import simulated_envoy
from bench.report import table
from bench.run import Run
from bench.seeding import install_ids
from bench.watchers import Watchers, watching
from tokenbroker.v1 import installs_pb2_grpc
from tokenbroker.v1.installs_pb2 import RefreshInstallRequest

NAME = "watch-fan-out"
SUMMARY = "from a new generation in the store to the last of 1,000 watching clients, across replicas"

WATCHERS, QUICK_WATCHERS = 1_000, 100
MILLISECONDS = 1000
NANOSECONDS_PER_SECOND = 10**9
# Each looks for what is due only when asked: the only refreshes are the operator's.
SETTINGS = {"sweep_seconds": "3600"}


class Round(NamedTuple):
    """How long after each moment the first and the last client were told, in milliseconds.

    `store` is the moment that the store gave the new generation, in the transaction that wrote it; `answer` the one when
    the operator had the answer to RefreshInstall. A negative time is one before that.
    """

    store_to_first: float
    store_to_last: float
    answer_to_last: float


async def run(bench: Run) -> None:
    """All watch one install at one replica; the operator has the other one refresh it, round after round."""
    count = QUICK_WATCHERS if bench.quick else WATCHERS
    [install_id] = install_ids(1)
    async with AsyncExitStack() as stack:
        base = await database(await stack.enter_async_context(postgres(bench.cores.load)), "fan_out")
        envoy = await stack.enter_async_context(simulated_envoy(bench.cores.load))
        settings = {"envoy_token_url": envoy.token_url, **SETTINGS}
        watched = await stack.enter_async_context(serving(base, core=bench.cores.server, **settings))
        operated = await stack.enter_async_context(serving(base, core=bench.cores.load, **settings))
        await envoy.install([install_id], operated.webhook_url)
        watchers = await stack.enter_async_context(watching(watched, [install_id] * count))
        bench.progress(f"{count:,} clients watch install {install_id}")
        rounds = [await _refresh(operated, install_id, watchers, bench) for _ in range(bench.rounds)]
    _report(bench, count, rounds)


async def _refresh(operated: Served, install_id: str, watchers: Watchers, bench: Run) -> Round:
    request = RefreshInstallRequest(plugin_id=PLUGIN_ID, install_id=install_id)
    async with grpc.aio.insecure_channel(f"{HOST}:{operated.port}") as channel:
        reply = await installs_pb2_grpc.InstallsStub(channel).RefreshInstall(request, timeout=CALL_SECONDS)
    answered_at = time.time()
    stored_at = reply.install.update_time.ToNanoseconds() / NANOSECONDS_PER_SECOND
    told = await watchers.told(reply.install.generation)
    seen = Round(
        *(MILLISECONDS * each for each in (told[0] - stored_at, told[-1] - stored_at, told[-1] - answered_at))
    )
    bench.progress(
        f"generation {reply.install.generation}: the last was told {seen.store_to_last:,.0f} ms after the store"
    )
    return seen


def _report(bench: Run, count: int, rounds: Sequence[Round]) -> None:
    series = {name: [getattr(each, name) for each in rounds] for name in Round._fields}
    facts: dict[str, object] = {
        "watchers": count,
        **{
            f"{name}_ms": {"median": round(median(its), 1), "by_round": [round(each, 1) for each in its]}
            for name, its in series.items()
        },
    }
    rows = [
        (name.replace("_", " "), f"{median(its):,.0f}", f"{min(its):,.0f}", f"{max(its):,.0f}")
        for name, its in series.items()
    ]
    note = f"{count:,} clients on one replica, in one process of Python; the other replica fetched the token"
    bench.report.add(NAME, facts, [*table(("", "median ms", "least", "most"), rows), note])
