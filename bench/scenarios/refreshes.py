"""Refreshes per second of one process against bare httpx posts to the same simulated Envoy."""

import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median

from bench.broker import NAME as BROKER
from bench.broker import Database, Served, database, postgres, serving
from bench.due import let_time_pass, transactions, until_generation
from bench.envoy import Envoy, EnvoyFailedError, simulated_envoy
from bench.machine import cpu_seconds
from bench.post_worker import Kind
from bench.processes import ready_line, running
from bench.report import table
from bench.rounds import Ratio
from bench.run import Run
from bench.seeding import install_ids

NAME = "refreshes"
SUMMARY = "refreshes per second of one process against bare httpx posts, and transactions for each"

AIM = 0.7  # of the floor
INSTALLS, QUICK_INSTALLS = 2_000, 300
AT_ONCE = 32  # as the broker's refreshes_in_flight is by default
# No budget holds the process back, and its scheduler looks at once.
SETTINGS = {"envoy_calls_per_second": "1000000", "sweep_seconds": "0.05"}
DUE = timedelta(hours=20)  # of 24: due, and not expired
LIMIT_SECONDS = 120.0
MILLISECONDS = 1000


@dataclass
class _Rounds:
    """One contestant's rounds. CPU seconds are of its own process, and of what it called."""

    per_second: list[float] = field(default_factory=list)
    cpu_ms_each: list[float] = field(default_factory=list)
    envoy_cpu_share: list[float] = field(default_factory=list)
    transactions_each: list[float] = field(default_factory=list)

    def facts(self) -> dict[str, object]:
        """For the report."""
        return {
            "per_second": round(median(self.per_second), 1),
            "rounds": [round(rate, 1) for rate in self.per_second],
            "cpu_ms_each": round(median(self.cpu_ms_each), 3),
            "envoy_cpu_share": round(median(self.envoy_cpu_share), 3),
        }


async def run(bench: Run) -> None:
    """The floors and the broker in turn. Envoy and Postgres share the other core."""
    count = QUICK_INSTALLS if bench.quick else INSTALLS
    ids = install_ids(count)
    found: dict[str, _Rounds] = {name: _Rounds() for name in (*Kind, BROKER)}
    async with AsyncExitStack() as stack:
        base = await database(await stack.enter_async_context(postgres(bench.cores.load)), "refreshes")
        envoy = await stack.enter_async_context(simulated_envoy(bench.cores.load))
        broker = await stack.enter_async_context(
            serving(base, core=bench.cores.server, envoy_token_url=envoy.token_url, **SETTINGS)
        )
        bench.progress(f"installing {count:,} times")
        await envoy.install(ids, broker.webhook_url)
        for number in range(1, bench.rounds + 1):
            for kind in Kind:
                await _post(kind, envoy, bench, found[kind])
            await _refresh(base, broker, envoy, ids, number, found[BROKER])
            rates = ", ".join(f"{name} {its.per_second[-1]:,.0f}/s" for name, its in found.items())
            bench.progress(f"round {number}/{bench.rounds}: {rates}")
    _report(bench, found)


async def _post(kind: Kind, envoy: Envoy, bench: Run, found: _Rounds) -> None:
    command = [
        *("python", "-m", "bench.post_worker", "--url", envoy.token_url, "--kind", kind),
        *("--chains", str(AT_ONCE), "--seconds", str(bench.seconds)),
    ]
    before = cpu_seconds(envoy.pid) or 0.0
    began = time.perf_counter()
    async with running(command, core=bench.cores.server) as process:
        said = json.loads(await ready_line(process))
    taken = time.perf_counter() - began
    found.per_second.append(said["calls"] / said["seconds"])
    found.cpu_ms_each.append(said["cpu_seconds"] / said["calls"] * MILLISECONDS)
    found.envoy_cpu_share.append(((cpu_seconds(envoy.pid) or 0.0) - before) / taken)


async def _refresh(
    base: Database, broker: Served, envoy: Envoy, ids: list[str], number: int, found: _Rounds
) -> None:
    wrote = await transactions(base)
    cpu, envoy_cpu = cpu_seconds(broker.pid) or 0.0, cpu_seconds(envoy.pid) or 0.0
    await let_time_pass(base, ids, DUE)
    began = time.perf_counter()
    try:
        taken = await until_generation(base, ids, 1 + number, LIMIT_SECONDS) - began
    except TimeoutError:
        raise EnvoyFailedError(f"not all of {len(ids)} were refreshed within {LIMIT_SECONDS:.0f} s") from None
    found.per_second.append(len(ids) / taken)
    found.cpu_ms_each.append(((cpu_seconds(broker.pid) or 0.0) - cpu) / len(ids) * MILLISECONDS)
    found.envoy_cpu_share.append(((cpu_seconds(envoy.pid) or 0.0) - envoy_cpu) / taken)
    # Less the two that were asking, and the one that let time pass.
    found.transactions_each.append((await transactions(base) - wrote - 2) / len(ids))


def _report(bench: Run, found: Mapping[str, _Rounds]) -> None:
    base = max(Kind, key=lambda kind: median(found[kind].per_second))
    ratios = {
        name: Ratio(
            [mine / floor for mine, floor in zip(its.per_second, found[base].per_second, strict=True)],
            [
                floor / mine
                for mine, floor in zip(its.cpu_ms_each, found[base].cpu_ms_each, strict=True)
                if mine
            ],
        )
        for name, its in found.items()
    }
    each = median(found[BROKER].transactions_each)
    facts: dict[str, object] = {
        "floor": base,
        "aim": AIM,
        "broker_to_floor": ratios[BROKER].facts(),
        "broker_to_a_connection_each": Ratio(
            [
                mine / floor
                for mine, floor in zip(found[BROKER].per_second, found[Kind.NEW].per_second, strict=True)
            ],
            [],
        ).facts(),
        "writing_transactions_each": round(each, 3),
        "contestants": {name: its.facts() for name, its in found.items()},
    }
    rows = [
        (
            name,
            f"{median(its.per_second):,.0f}",
            f"{median(its.cpu_ms_each):.2f}",
            f"{median(its.envoy_cpu_share):.2f}",
            ratios[name].line(),
        )
        for name, its in found.items()
    ]
    header = ("", "a second", "CPU ms each", "Envoy's share of a core", "to the floor")
    notes = [
        f"the broker to the floor ({base}): {ratios[BROKER].line()}; the aim is {AIM:.2f}",
        f"transactions that write, for each refresh: {each:.2f}; the aim is 2",
    ]
    bench.report.add(NAME, facts, [*table(header, rows), *notes])
