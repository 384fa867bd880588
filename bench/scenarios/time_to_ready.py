"""From the start of `token-broker serve` until its health says SERVING; and what its imports alone take."""

import time
from collections.abc import Mapping, Sequence
from statistics import median

from bench.broker import SERVE, Database, database, environment, free_port, postgres, until_serving
from bench.processes import running
from bench.report import table
from bench.run import Run

NAME = "time-to-ready"
SUMMARY = "from `token-broker serve` to SERVING, the database being up and migrated"

STARTS_A_ROUND = 2
BROKER, IMPORTS, PYTHON = "serve", "imports", "python"
SAID = {BROKER: "token-broker serve", IMPORTS: "its libraries' imports alone", PYTHON: "an empty Python"}
IMPORTED = (
    "grpc.aio",
    "psycopg_pool",
    "httpx",
    "starlette.applications",
    "uvicorn",
    "pydantic",
    "tink.aead",
    "typer",
)
FLOORS = {IMPORTS: f"import {', '.join(IMPORTED)}", PYTHON: "pass"}
MILLISECONDS = 1000


async def run(bench: Run) -> None:
    """Each in turn, once uncounted: the first start reads files that later ones find in memory."""
    async with postgres(bench.cores.load) as server:
        base = await database(server, "ready")
        bench.progress("a start of each to warm up, not counted")
        await _start_each(base, bench)
        seconds: dict[str, list[float]] = {name: [] for name in (BROKER, *FLOORS)}
        starts = STARTS_A_ROUND * bench.rounds
        for number in range(1, starts + 1):
            for name, taken in (await _start_each(base, bench)).items():
                seconds[name].append(taken)
            bench.progress(f"start {number}/{starts}: {seconds[BROKER][-1] * MILLISECONDS:,.0f} ms")
    _report(bench, seconds)


async def _start_each(base: Database, bench: Run) -> dict[str, float]:
    return {BROKER: await _broker(base, bench)} | {
        name: await _python(code, bench) for name, code in FLOORS.items()
    }


async def _broker(base: Database, bench: Run) -> float:
    port = free_port()
    began = time.perf_counter()
    async with running(SERVE, core=bench.cores.server, environment=environment(base, port, {})) as process:
        await until_serving(process, port)
        return time.perf_counter() - began


async def _python(code: str, bench: Run) -> float:
    began = time.perf_counter()
    async with running(("python", "-c", code), core=bench.cores.server) as process:
        await process.wait()
        return time.perf_counter() - began


def _report(bench: Run, seconds: Mapping[str, Sequence[float]]) -> None:
    facts: dict[str, object] = {
        "ratio_to_imports": round(median(seconds[BROKER]) / median(seconds[IMPORTS]), 2),
        "imported": IMPORTED,
    } | {
        name: {
            "median_ms": round(median(taken) * MILLISECONDS, 1),
            "lowest_ms": round(min(taken) * MILLISECONDS, 1),
            "highest_ms": round(max(taken) * MILLISECONDS, 1),
            "starts": len(taken),
        }
        for name, taken in seconds.items()
    }
    rows = [
        (SAID[name], *(f"{pick(taken) * MILLISECONDS:,.0f}" for pick in (median, min, max)))
        for name, taken in seconds.items()
    ]
    bench.report.add(NAME, facts, table(("", "median ms", "lowest", "highest"), rows))
