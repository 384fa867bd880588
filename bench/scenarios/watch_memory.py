"""What a stream of WatchTokens costs a broker in memory, and while nothing happens."""

import asyncio
from collections.abc import Mapping

from bench.broker import Served, database, postgres, serving
from bench.machine import cpu_seconds, resident_bytes
from bench.processes import NotReadyError
from bench.report import table
from bench.run import Run
from bench.seeding import install_ids, seed
from bench.watchers import watching

NAME = "watch-memory"
SUMMARY = "memory of a broker with 10,000 streams of WatchTokens, each for an install of its own"

STREAMS, QUICK_STREAMS = 10_000, 1_000
SETTLED_SECONDS = 2.0
IDLE_SECONDS, QUICK_IDLE_SECONDS = 30.0, 2.0  # what heartbeats cost shows over one interval of theirs
# The installs' tokens are cached before: what they cost is cache-memory's.
SETTINGS = {"cache_staleness_seconds": "3600", "sweep_seconds": "3600"}
BYTES_PER_MIB = 1024**2
BYTES_PER_KIB = 1024


async def run(bench: Run) -> None:
    """Resident memory before, with, and after the streams; and what they cost of a core while nothing happens."""
    count = QUICK_STREAMS if bench.quick else STREAMS
    idle_seconds = QUICK_IDLE_SECONDS if bench.quick else IDLE_SECONDS
    ids = install_ids(count)
    async with postgres(bench.cores.load) as server:
        base = await database(server, "watch_memory")
        await seed(base, count, bench)
        async with serving(base, core=bench.cores.server, **SETTINGS) as broker:
            await broker.read(ids)
            resident = {"tokens cached": _resident_bytes(broker)}
            async with watching(broker, ids):
                bench.progress(f"{count:,} streams are open")
                await asyncio.sleep(SETTLED_SECONDS)
                resident["streams open"] = _resident_bytes(broker)
                idle_share = await _core_share(broker, idle_seconds)
                resident["a while later"] = _resident_bytes(broker)
            await asyncio.sleep(SETTLED_SECONDS)
            resident["streams ended"] = _resident_bytes(broker)
            async with watching(broker, ids):
                await asyncio.sleep(SETTLED_SECONDS)
                resident["open once more"] = _resident_bytes(broker)
    _report(bench, count, resident, idle_share)


async def _core_share(broker: Served, seconds: float) -> float | None:
    """What the broker uses of a core meanwhile; None where the system does not tell."""
    before = cpu_seconds(broker.pid)
    await asyncio.sleep(seconds)
    after = cpu_seconds(broker.pid)
    return None if before is None or after is None else (after - before) / seconds


def _resident_bytes(broker: Served) -> int:
    resident = resident_bytes(broker.pid)
    if resident is None:
        raise NotReadyError("this system does not tell a process's memory")
    return resident


def _report(bench: Run, count: int, resident: Mapping[str, int], idle_share: float | None) -> None:
    kib = (resident["streams open"] - resident["tokens cached"]) / count / BYTES_PER_KIB
    facts: dict[str, object] = {
        "streams": count,
        "kib_per_stream": round(kib, 1),
        "resident_mib": {
            step.replace(" ", "_"): round(its / BYTES_PER_MIB, 1) for step, its in resident.items()
        },
        "idle_core_share": None if idle_share is None else round(idle_share, 3),
    }
    rows = [(step, f"{its / BYTES_PER_MIB:,.1f}") for step, its in resident.items()]
    notes = [f"{kib:,.1f} KiB a stream, of {count:,}"]
    if idle_share is not None:
        notes.append(f"while nothing happens, heartbeats and all else take {idle_share:.1%} of a core")
    bench.report.add(NAME, facts, [*table(("", "resident MiB"), rows), *notes])
