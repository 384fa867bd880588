"""How late one process's event loop is: idle, under GetToken, and while it refreshes."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from statistics import median

from bench.broker import (
    HOST,
    PLUGIN_ID,
    Database,
    Served,
    database,
    environment,
    free_port,
    postgres,
    request,
    until_serving,
)
from bench.broker import NAME as BROKER
from bench.due import let_time_pass, until_generation
from bench.envoy import simulated_envoy
from bench.load import Pace, drive, write_messages
from bench.processes import Process, ready_line, running
from bench.report import table
from bench.run import Run
from bench.seeding import install_ids

NAME = "event-loop-lag"
SUMMARY = "how late one process's event loop is: idle, under GetToken, and while it refreshes"

COMMAND = ("python", "-m", "bench.serve_with_lag")
INSTALLS, QUICK_INSTALLS = 1_000, 100
PACED_SHARE = 0.5  # of its own rate at saturation
DUE = timedelta(hours=20)  # of 24: due, and not expired
LIMIT_SECONDS = 60.0
SETTINGS = {"envoy_calls_per_second": "1000000", "sweep_seconds": "0.05"}
LOADS = IDLE, PACED, SATURATED, REFRESHING = (
    "idle",
    "GetToken at half its rate",
    "GetToken at saturation",
    "refreshing",
)
FIGURES = ("p50_ms", "p99_ms", "max_ms")


async def run(bench: Run) -> None:
    """The loads in turn, round after round, on one process."""
    ids = install_ids(QUICK_INSTALLS if bench.quick else INSTALLS)
    found: dict[str, list[dict[str, float]]] = {load: [] for load in LOADS}
    async with AsyncExitStack() as stack:
        base = await database(await stack.enter_async_context(postgres(bench.cores.load)), "lag")
        envoy = await stack.enter_async_context(simulated_envoy(bench.cores.load))
        port, http_port = free_port(), free_port()
        settings = {"http_address": f"{HOST}:{http_port}", "envoy_token_url": envoy.token_url, **SETTINGS}
        process = await stack.enter_async_context(
            running(COMMAND, core=bench.cores.server, environment=environment(base, port, settings))
        )
        await until_serving(process, port)
        broker = Served(process.pid, port, f"http://{HOST}:{http_port}/envoy/webhooks/{PLUGIN_ID}")
        await envoy.install(ids, broker.webhook_url)
        for number in range(1, bench.rounds + 1):
            await _lag(process)
            await asyncio.sleep(bench.seconds)
            found[IDLE].append(await _lag(process))
            await _get_tokens(process, broker, ids[0], bench, found)
            await _refresh(base, ids, 1 + number)
            found[REFRESHING].append(await _lag(process))
            bench.progress(f"round {number}/{bench.rounds}")
    facts: dict[str, object] = {
        load: {figure: median(each[figure] for each in its) for figure in FIGURES}
        for load, its in found.items()
    }
    rows = [
        (load, *(f"{median(each[figure] for each in its):.2f}" for figure in FIGURES))
        for load, its in found.items()
    ]
    bench.report.add(NAME, facts, table(("", "p50 ms", "p99 ms", "max ms"), rows))


async def _get_tokens(
    process: Process, broker: Served, install_id: str, bench: Run, found: dict[str, list[dict[str, float]]]
) -> None:
    messages = write_messages(bench.scratch / "lag.bin", [request(install_id).SerializeToString()])
    target = broker.contestant(BROKER, messages, await broker.reply_bytes(install_id)).target
    full = Pace(seconds=bench.seconds, warm_up_seconds=0)
    load = await drive(target, full, bench.cores.load)
    found[SATURATED].append(await _lag(process))
    await drive(target, replace(full, calls_per_second=PACED_SHARE * load.calls_per_second), bench.cores.load)
    found[PACED].append(await _lag(process))


async def _refresh(base: Database, ids: list[str], generation: int) -> None:
    await let_time_pass(base, ids, DUE)
    await until_generation(base, ids, generation, LIMIT_SECONDS)


async def _lag(process: Process) -> dict[str, float]:
    """What the process has seen since it was last asked."""
    process.send_signal(signal.SIGUSR1)
    lag: dict[str, float] = json.loads(await ready_line(process))
    return lag
