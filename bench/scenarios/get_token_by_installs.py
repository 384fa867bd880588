"""GetToken with few and with many installs in the database, from memory and from the database: is it flat?"""

import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.broker import Database, database, postgres, request, serving
from bench.load import Pace, write_messages
from bench.postgres_statistics import index_reads, table_bytes
from bench.report import table
from bench.rounds import Contestant, MiscountError, Series, compete, ratio
from bench.run import Run
from bench.seeding import install_ids, seed

NAME = "get-token-by-installs"
SUMMARY = "GetToken with 1,000 and with 1,000,000 installs in the database, cached and not"

FEW, MANY, QUICK_MANY = 1_000, 1_000_000, 10_000
WORKING_SET = 1_000  # installs asked for where all fit the cache
ASKED_IN_A_RUN = 20_000  # installs asked for where none does: more than one run can ask
WARM_UP_SHARE = 0.2  # of the seconds measured, before each measurement
SEED = 1
# Cached means no look at the database, not even the one that bounds staleness.
CACHED = {"cache_staleness_seconds": "3600"}
# Far fewer than the installs asked for in turn, so that each has left before it is asked for again.
NOT_CACHED = {"cache_entries": "10"}
LEAST_READS_A_CALL = 0.99  # below it, "not cached" was cached
BYTES_PER_MIB = 1024**2


@dataclass(frozen=True)
class _Size:
    """A database of that many installs, and its two brokers' names."""

    installs: int
    base: Database

    @property
    def cached(self) -> str:
        return f"cached, {self.installs:,} installs"

    @property
    def not_cached(self) -> str:
        return f"not cached, {self.installs:,} installs"


async def run(bench: Run) -> None:
    """All four contestants in turn, on one Postgres server."""
    async with postgres(bench.cores.load) as server:
        sizes = []
        for count in (FEW, QUICK_MANY if bench.quick else MANY):
            sizes.append(_Size(count, await database(server, f"installs_{count}")))
            await seed(sizes[-1].base, count, bench)
        async with AsyncExitStack() as stack:
            contestants = [
                contestant for size in sizes for contestant in await _contestants(size, bench, stack)
            ]
            pace = Pace(seconds=bench.seconds, warm_up_seconds=WARM_UP_SHARE * bench.seconds)
            series = await compete(contestants, pace, bench, rounds=bench.rounds)
        database_facts = {size.not_cached: await _database_facts(size, series) for size in sizes}
    _report(bench, sizes, series, database_facts)


async def _contestants(size: _Size, bench: Run, stack: AsyncExitStack) -> list[Contestant]:
    ids = install_ids(size.installs)
    core = bench.cores.server
    cached = await stack.enter_async_context(serving(size.base, core=core, **CACHED))
    not_cached = await stack.enter_async_context(serving(size.base, core=core, **NOT_CACHED))
    chance = random.Random(SEED)  # noqa: S311 - which installs are asked for is no secret
    working_set = chance.sample(ids, WORKING_SET)
    bench.progress(f"warming a cache with {WORKING_SET:,} of {size.installs:,} installs")
    await cached.read(working_set)
    reply_bytes = await cached.reply_bytes(working_set[0])
    hot = _write(bench.scratch / f"hot_{size.installs}.bin", working_set)
    cold = bench.scratch / f"cold_{size.installs}.bin"
    return [
        cached.contestant(size.cached, hot, reply_bytes),
        not_cached.contestant(
            size.not_cached, cold, reply_bytes, prepare=partial(_shuffle, cold, ids, chance)
        ),
    ]


def _shuffle(path: Path, ids: Sequence[str], chance: random.Random) -> None:
    """Other installs for each run, so that Postgres does not know them from the last one."""
    _write(path, chance.sample(ids, min(len(ids), ASKED_IN_A_RUN)))


def _write(path: Path, ids: Sequence[str]) -> Path:
    return write_messages(path, (request(install_id).SerializeToString() for install_id in ids))


async def _database_facts(size: _Size, series: Mapping[str, Series]) -> dict[str, object]:
    """What the brokers read there, once they have ended. All but the warm-up is due to the calls not cached.

    Raises:
        MiscountError: fewer reads than calls.
    """
    calls = sum(load.calls_in_all for load in series[size.not_cached].loads)
    reads = await index_reads(size.base) - WORKING_SET
    if reads < LEAST_READS_A_CALL * calls:
        raise MiscountError(f"{size.not_cached}: {reads} reads for {calls} calls")
    return {
        "reads_per_call": round(reads / calls, 3),
        "table_mib": await table_bytes(size.base) // BYTES_PER_MIB,
    }


def _report(
    bench: Run, sizes: Sequence[_Size], series: Mapping[str, Series], database_facts: Mapping[str, object]
) -> None:
    few, many = sizes
    growth = {
        "cached": ratio(series[many.cached], series[few.cached]),
        "not_cached": ratio(series[many.not_cached], series[few.not_cached]),
    }
    facts: dict[str, object] = {
        "installs": [size.installs for size in sizes],
        "ratios_many_to_few": {name: found.facts() for name, found in growth.items()},
        "at_saturation": {name: its.facts() for name, its in series.items()},
        "database": database_facts,
    }
    rows = [(name, f"{its.rate():,.0f}", *its.latency_cells()) for name, its in series.items()]
    notes = [
        f"{many.installs:,} to {few.installs:,} installs, {name.replace('_', ' ')}: {found.line()}; flat is 1"
        for name, found in growth.items()
    ]
    notes += [warning for its in series.values() for warning in its.warnings()]
    bench.report.add(NAME, facts, [*table(("", "calls/s", "p50 ms", "p99 ms"), rows), *notes])
