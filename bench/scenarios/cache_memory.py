"""What cached tokens cost a broker in memory."""

from collections.abc import Mapping, Sequence

from bench.broker import BATCH, Served, database, postgres, serving
from bench.machine import resident_bytes
from bench.processes import NotReadyError
from bench.report import table
from bench.run import Run
from bench.seeding import install_ids, seed

NAME = "cache-memory"
SUMMARY = "memory for each 100,000 cached tokens"

TOKENS, QUICK_TOKENS = 100_000, 10_000
PER_TOKENS = 100_000
SETTINGS = {"cache_entries": str(2 * TOKENS), "cache_staleness_seconds": "3600"}
PROGRESS_TOKENS = 20_000
BYTES_PER_MIB = 1024**2


async def run(bench: Run) -> None:
    """Resident memory before and after as many tokens were read for the first time.

    Two controls: the same number of answers for few installs before, and for the same installs again after.
    What those add is the calls' and not the cache's.
    """
    count = QUICK_TOKENS if bench.quick else TOKENS
    ids = install_ids(BATCH + count)
    few, many = ids[:BATCH], ids[BATCH:]
    async with postgres(bench.cores.load) as server:
        base = await database(server, "memory")
        await seed(base, len(ids), bench)
        async with serving(base, core=bench.cores.server, **SETTINGS) as broker:
            resident = {
                "at_start": _resident_bytes(broker),
                "few_cached": await _after_reading(few * (count // BATCH), broker, bench),
                "many_cached": await _after_reading(many, broker, bench),
                "many_read_again": await _after_reading(many, broker, bench),
            }
    _report(bench, count, resident)


async def _after_reading(ids: Sequence[str], broker: Served, bench: Run) -> int:
    for start in range(0, len(ids), PROGRESS_TOKENS):
        part = ids[start : start + PROGRESS_TOKENS]
        await broker.read(part)
        bench.progress(f"{start + len(part):,} of {len(ids):,} tokens read")
    return _resident_bytes(broker)


def _resident_bytes(broker: Served) -> int:
    resident = resident_bytes(broker.pid)
    if resident is None:
        raise NotReadyError("this system does not tell a process's memory")
    return resident


def _report(bench: Run, count: int, resident: Mapping[str, int]) -> None:
    cost = (resident["many_cached"] - resident["few_cached"]) / count
    control = (resident["many_read_again"] - resident["many_cached"]) / count
    mib = cost * PER_TOKENS / BYTES_PER_MIB
    facts: dict[str, object] = {
        "tokens": count,
        f"mib_per_{PER_TOKENS}_tokens": round(mib, 1),
        "bytes_per_token": round(cost),
        "control_bytes_per_token": round(control),
        "resident_mib": {step: round(size / BYTES_PER_MIB, 1) for step, size in resident.items()},
    }
    rows = [(step.replace("_", " "), f"{size / BYTES_PER_MIB:,.1f}") for step, size in resident.items()]
    note = f"{mib:,.0f} MiB for each {PER_TOKENS:,} cached tokens, {cost:,.0f} bytes a token"
    control_note = f"control: reading the same tokens again adds {control:,.0f} bytes a token"
    bench.report.add(NAME, facts, [*table(("", "resident MiB"), rows), note, control_note])
