"""GetToken of a FRESH cached token by two workers, against one process: what more processes give on this machine."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from bench.broker import POLL_SECONDS, Database, Served, database, postgres, request, serving
from bench.load import Pace, write_messages
from bench.machine import PROC, resident_bytes
from bench.processes import READY_SECONDS, NotReadyError
from bench.report import table
from bench.rounds import Contestant, Series, compete, ratio
from bench.run import Run
from bench.seeding import install_ids, seed

NAME = "workers"
SUMMARY = "GetToken FRESH by `serve --workers 2` against one process: calls per second, memory"

ONE, TWO = "one process", "two workers"
COUNTS = {ONE: 1, TWO: 2}
# The kernel deals out connections, not calls: of so many, hardly ever has one worker more than two thirds.
CONNECTIONS = 64
IN_FLIGHT = 2
WARM_UP_SHARE = 0.2  # of the seconds measured, before each measurement
# Two processes need two cores; the generator and Postgres take what they need of the same.
ANY_CORE = None
BYTES_PER_MIB = 1024**2
SOCKETS = (PROC / "net/tcp", PROC / "net/tcp6")
LISTENING = "0A"  # a socket's state there (proc(5))


async def run(bench: Run) -> None:
    """Both serve one database; the one that is not asked is idle."""
    if sys.platform != "linux":
        bench.report.add(NAME, {}, ["several workers need Linux"])
        return
    [install_id] = install_ids(1)
    async with AsyncExitStack() as stack:
        bench.progress("starting Postgres, one broker, and two workers")
        base = await database(await stack.enter_async_context(postgres(ANY_CORE)), "workers")
        await seed(base, 1, bench)
        served = {
            name: await stack.enter_async_context(_serving(base, count)) for name, count in COUNTS.items()
        }
        reply_bytes = await served[ONE].reply_bytes(install_id)
        messages = write_messages(bench.scratch / "workers.bin", [request(install_id).SerializeToString()])
        contestants = [each.contestant(name, messages, reply_bytes) for name, each in served.items()]
        series = await _rates(contestants, bench)
        memory = {name: _resident_mib(each.pid) for name, each in served.items()}
    _report(bench, series, memory)


@asynccontextmanager
async def _serving(base: Database, count: int) -> AsyncIterator[Served]:
    """Who connects before all listen, is not dealt to all."""
    async with serving(base, core=ANY_CORE, workers=str(count)) as served:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while _listeners(served.port) < count:  # noqa: ASYNC110 - the kernel tells no sooner
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise NotReadyError(f"not all of {count} workers listen") from None
        yield served


def _listeners(port: int) -> int:
    """How many sockets listen at the port. gRPC's are IPv6 ones, for an IPv4 address too."""
    lines = [line for sockets in SOCKETS for line in sockets.read_text().splitlines()[1:]]
    return sum(
        state == LISTENING and local.endswith(f":{port:04X}")
        for _, local, _, state, *_ in map(str.split, lines)
    )


async def _rates(contestants: list[Contestant], bench: Run) -> dict[str, Series]:
    pace = Pace(
        seconds=bench.seconds,
        warm_up_seconds=WARM_UP_SHARE * bench.seconds,
        connections=CONNECTIONS,
        in_flight=IN_FLIGHT,
    )
    bench.progress("a round to warm up, not counted")
    await compete(contestants, pace, bench, rounds=1)
    return await compete(contestants, pace, bench, rounds=bench.rounds)


def _resident_mib(pid: int) -> float:
    """Of the process and its workers; pages that they share count for each."""
    children = (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
    return sum(resident_bytes(each) or 0 for each in (pid, *map(int, children))) / BYTES_PER_MIB


def _report(bench: Run, series: Mapping[str, Series], memory: Mapping[str, float]) -> None:
    two_to_one = ratio(series[TWO], series[ONE])
    cores = len(os.sched_getaffinity(0))
    facts: dict[str, object] = {
        "cores": cores,
        "connections": CONNECTIONS,
        "two_workers_to_one_process": two_to_one.facts(),
        "resident_mib": {name: round(its, 1) for name, its in memory.items()},
        "at_saturation": {name: its.facts() for name, its in series.items()},
    }
    rows = [
        (name, f"{its.rate():,.0f}", *its.latency_cells(), f"{memory[name]:,.0f}")
        for name, its in series.items()
    ]
    notes = [
        f"two workers to one process: {two_to_one.line()}, on {cores} cores that the generator needs too",
        f"{CONNECTIONS} connections; the memory is resident, and that of workers includes their supervisor's",
    ]
    bench.report.add(NAME, facts, [*table(("", "calls/s", "p50 ms", "p99 ms", "MiB"), rows), *notes])
