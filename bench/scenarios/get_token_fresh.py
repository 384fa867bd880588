"""GetToken of a FRESH cached token against the floor: the fastest bare grpcio server of the same run."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from bench.broker import NAME as BROKER
from bench.broker import database, postgres, request, serving
from bench.floor import Kind
from bench.floors import BARE, floor
from bench.load import Pace, write_messages
from bench.report import table
from bench.rounds import Contestant, Series, compete, fastest, ratio
from bench.run import Run
from bench.seeding import install_ids, seed

NAME = "get-token-fresh"
SUMMARY = "GetToken FRESH against the fastest bare grpcio server: calls per second, p50, p99"

AIM = 0.8  # of the floor
PACED_SHARE = 0.5  # of the floor's rate: where latency is the server's own, and not its queue's
WARM_UP_SHARE = 0.2  # of the seconds measured, before each measurement


@dataclass(frozen=True)
class _Found:
    reply_bytes: int
    base: Series  # the floor
    rates: Mapping[str, Series]
    latencies: Mapping[str, Series]


async def run(bench: Run) -> None:
    """Rates at saturation first, then latencies at one rate for all."""
    async with AsyncExitStack() as stack:
        reply_bytes, contestants = await _contestants(bench, stack)
        full = Pace(seconds=bench.seconds, warm_up_seconds=WARM_UP_SHARE * bench.seconds)
        bench.progress("a round to warm up, not counted")
        await compete(contestants, full, bench, rounds=1)
        rates = await compete(contestants, full, bench, rounds=bench.rounds)
        base = fastest([rates[kind] for kind in BARE])
        paced = replace(full, calls_per_second=PACED_SHARE * base.rate())
        bench.progress(f"latencies at {paced.calls_per_second:,.0f} calls/s")
        latencies = await compete(contestants, paced, bench, rounds=max(bench.rounds // 2, 1))
    _report(bench, _Found(reply_bytes, base, rates, latencies))


async def _contestants(bench: Run, stack: AsyncExitStack) -> tuple[int, list[Contestant]]:
    """The broker, as it is set by default, with one install; and the floors, answering as much as it does."""
    bench.progress("starting Postgres and the broker")
    [install_id] = install_ids(1)
    base = await database(await stack.enter_async_context(postgres(bench.cores.load)), "fresh")
    await seed(base, 1, bench)
    broker = await stack.enter_async_context(serving(base, core=bench.cores.server))
    reply_bytes = await broker.reply_bytes(install_id)
    messages = write_messages(
        bench.scratch / "get_token_fresh.bin", [request(install_id).SerializeToString()]
    )
    floors = [
        await stack.enter_async_context(
            floor(kind, messages=messages, reply_bytes=reply_bytes, core=bench.cores.server)
        )
        for kind in Kind
    ]
    return reply_bytes, [*floors, broker.contestant(BROKER, messages, reply_bytes)]


def _report(bench: Run, found: _Found) -> None:
    ratios = {name: ratio(series, found.base) for name, series in found.rates.items()}
    to_event_loop = ratio(found.rates[BROKER], found.rates[Kind.AIO_UVLOOP])
    paced_rate = PACED_SHARE * found.base.rate()
    facts: dict[str, object] = {
        "floor": found.base.name,
        "aim": AIM,
        "broker_to_floor": ratios[BROKER].facts(),
        "broker_to_aio_uvloop": to_event_loop.facts(),
        "reply_bytes": found.reply_bytes,
        "ratios_to_floor": {name: ratios[name].facts() for name in ratios},
        "at_saturation": {name: series.facts() for name, series in found.rates.items()},
        "paced": {
            "calls_per_second": round(paced_rate, 1),
            "contestants": {name: series.latency_facts() for name, series in found.latencies.items()},
        },
    }
    rows = [
        (
            name,
            f"{series.rate():,.0f}",
            *series.latency_cells(),
            *found.latencies[name].latency_cells(),
            ratios[name].line(),
        )
        for name, series in found.rates.items()
    ]
    header = ("", "calls/s", "p50 ms", "p99 ms", "paced p50", "paced p99", "to the floor")
    notes = [
        f"the broker to the floor ({found.base.name}): {ratios[BROKER].line()}; the aim is {AIM:.2f}",
        f"the broker to {Kind.AIO_UVLOOP}, the bare server on the same event loop: {to_event_loop.line()}",
        f"paced: {paced_rate:,.0f} calls/s, {PACED_SHARE:.0%} of the floor's; answers of {found.reply_bytes} bytes",
    ]
    notes += [warning for series in found.rates.values() for warning in series.warnings()]
    bench.report.add(NAME, facts, [*table(header, rows), *notes])
