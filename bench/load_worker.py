"""The load generator's own process: a plan in on stdin, a result out on stdout, both JSON."""

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import uvloop

from bench.caller import Caller, Tally
from bench.http2 import GRPC_PREFIX_BYTES, ClientConnection
from bench.load import Load, Pace, Target
from bench.machine import cpu_seconds
from bench.tls import Door, Tls

DRAIN_SECONDS = 10.0
OPEN_LOOP_ROOM = (
    100  # calls outstanding on a connection: the concurrent streams that a server must be able to take
)
SEED = 1  # the same arrivals in each run


async def measure(target: Target, pace: Pace) -> Load:
    """Connects, warms up, measures, and waits for the answers still out."""
    tally = Tally(target.reply_bytes)
    callers = await _connect(target, pace, tally)
    async with asyncio.TaskGroup() as tasks:
        arrivals = None
        if pace.calls_per_second is not None:
            arrivals = tasks.create_task(_arrive(callers, pace.calls_per_second))
        await asyncio.sleep(pace.warm_up_seconds)
        tally.recording = True
        began, own_began, server_began = time.perf_counter(), time.process_time(), cpu_seconds(target.pid)
        await asyncio.sleep(pace.seconds)
        tally.recording = False
        ended, own_ended, server_ended = time.perf_counter(), time.process_time(), cpu_seconds(target.pid)
        if arrivals is not None:
            arrivals.cancel()
    await _settle(callers, tally)
    return Load(
        calls=len(tally.latencies),
        seconds=ended - began,
        p50_ms=_percentile_ms(tally.latencies, 50),
        p99_ms=_percentile_ms(tally.latencies, 99),
        server_cpu_seconds=None
        if server_began is None or server_ended is None
        else server_ended - server_began,
        generator_cpu_seconds=own_ended - own_began,
        calls_in_all=tally.calls_in_all,
        errors=dict(tally.errors),
    )


async def _connect(target: Target, pace: Pace, tally: Tally) -> list[Caller]:
    messages = cycle(_read_messages(target.messages))
    closed_loop = pace.calls_per_second is None
    context = target.door.tls.client_context() if target.door.tls else None
    callers = []
    for _ in range(pace.connections):
        connection = ClientConnection(
            scheme="https" if context else "http",
            authority=f"{target.host}:{target.port}",
            path=target.path,
            metadata=[(name, value) for name, value in target.door.metadata],
        )
        caller = Caller(
            connection,
            messages,
            tally,
            room=pace.in_flight if closed_loop else OPEN_LOOP_ROOM,
            closed_loop=closed_loop,
        )
        await asyncio.get_running_loop().create_connection(
            partial(_same, caller), target.host, target.port, ssl=context
        )
        callers.append(caller)
    return callers


def _same(caller: Caller) -> Caller:
    return caller


async def _arrive(callers: list[Caller], calls_per_second: float) -> None:
    """Calls at random moments. Spins, since a timer's millisecond would be added to each latency."""
    gaps = random.Random(SEED)  # noqa: S311 - arrivals, not secrets
    due = time.perf_counter()
    for caller in cycle(callers):
        due += gaps.expovariate(calls_per_second)
        while time.perf_counter() < due:  # noqa: ASYNC110 - no event tells the time of day as finely
            await asyncio.sleep(0)
        caller.call(due)


async def _settle(callers: list[Caller], tally: Tally) -> None:
    for caller in callers:
        caller.stop()
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            for caller in callers:
                await caller.settled.wait()
    except TimeoutError:
        tally.errors["no answer"] += sum(caller.outstanding for caller in callers)
    for caller in callers:
        caller.close()


def _read_messages(path: Path) -> Iterator[bytes]:
    """The gRPC frames that `bench.load.write_messages` wrote."""
    raw = path.read_bytes()
    position = 0
    while position < len(raw):
        end = position + GRPC_PREFIX_BYTES + int.from_bytes(raw[position + 1 : position + GRPC_PREFIX_BYTES])
        yield raw[position:end]
        position = end


def _percentile_ms(latencies: list[float], percent: int) -> float:
    """Nearest rank, in milliseconds; 0 where nothing was answered."""
    if not latencies:
        return 0.0
    ordered = sorted(latencies)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] * 1000


def main() -> None:
    """Reads the plan, runs it, writes the result."""
    plan = json.load(sys.stdin)
    target = _target(plan["target"])
    gc.disable()  # a few seconds' garbage is small; a collection would show up as the server's latency
    load = uvloop.run(measure(target, Pace(**plan["pace"])))
    json.dump(asdict(load), sys.stdout)


def _target(planned: dict[str, Any]) -> Target:
    """As `bench.load.drive` wrote it."""
    tls = planned["door"]["tls"]
    door = Door(Tls(Path(tls["folder"]), tls["mutual"]) if tls else None, planned["door"]["metadata"])
    return Target(**planned | {"messages": Path(planned["messages"]), "door": door})


if __name__ == "__main__":
    main()
