"""What a token from a client's memory costs, beside what its language does anyway, and beside a call to the broker."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict

from bench.broker import HOST, Served, database, postgres, serving
from bench.client_programs import ClientFailedError, Reading, build, measure, middle
from bench.report import table
from bench.run import Run
from bench.seeding import install_ids, seed

NAME = "client-reads"
SUMMARY = "nanoseconds per FRESH token of each client's memory, beside its language's yardstick"

# Programs take all cores: 16 callers on one core would not contend. The broker is idle but for their calls.
ANY_CORE = None
HEADER = (
    "",
    "FRESH ns",
    "yardstick",
    "ratio",
    "rounds",
    "aim",
    "allocs",
    "bytes",
    "16 callers",
    "yardstick",
    "tokens/s",
    "calls/s",
)


async def run(bench: Run, names: Sequence[str]) -> None:
    """Each client's program in turn, round after round, against one broker.

    Raises:
        ClientFailedError: of one that gave no figures; those of the others are reported before.
    """
    failures: dict[str, str] = {}
    readings = await _built(names, failures, bench)
    async with _broker(bench) as served:
        for number in range(1, bench.rounds + 1):
            for name in list(readings):
                try:
                    seen = await measure(name, f"{HOST}:{served.port}", install_ids(1)[0], bench.seconds)
                except ClientFailedError as error:
                    failures[name] = str(error)
                    del readings[name]
                    continue
                readings[name].append(seen)
                bench.progress(
                    f"round {number}/{bench.rounds} {name}: {seen.fresh_read_ns:,.0f} ns, ratio {seen.ratio:.2f}"
                )
    _report(bench, readings)
    if failures:
        raise ClientFailedError("; ".join(failures.values()))


async def _built(names: Sequence[str], failures: dict[str, str], bench: Run) -> dict[str, list[Reading]]:
    """An empty list for each client whose program can be made."""
    readings: dict[str, list[Reading]] = {}
    for name in names:
        bench.progress(f"making the program of {name}")
        try:
            await build(name)
        except ClientFailedError as error:
            failures[name] = str(error)
        else:
            readings[name] = []
    return readings


@asynccontextmanager
async def _broker(bench: Run) -> AsyncIterator[Served]:
    """One with one install, whose token is fresh for hours."""
    async with postgres(ANY_CORE) as server:
        base = await database(server, "clients")
        await seed(base, 1, bench)
        async with serving(base, core=ANY_CORE) as served:
            yield served


def _report(bench: Run, readings: Mapping[str, Sequence[Reading]]) -> None:
    facts: dict[str, object] = {
        name: {**asdict(middle(its)), "ratio_by_round": [round(each.ratio, 2) for each in its]}
        for name, its in readings.items()
    }
    rows = [_row(name, its) for name, its in readings.items()]
    note = (
        "ns a token; 16 callers share one install, each its own thread or task; calls are one after another"
    )
    bench.report.add(NAME, facts, [*table(HEADER, rows), note, *map(_remark, readings, readings.values())])


def _remark(name: str, readings: Sequence[Reading]) -> str:
    seen = middle(readings)
    others = "".join(f"; {other.replace('_', ' ')} {value:,.1f}" for other, value in seen.others.items())
    return f"{name}: {seen.runtime}; the yardstick is {seen.yardstick}{others}"


def _row(name: str, readings: Sequence[Reading]) -> tuple[str, ...]:
    seen, ratios = middle(readings), [each.ratio for each in readings]
    aim = f"{seen.aim:g} {'kept' if seen.ratio <= seen.aim else 'MISSED'}"
    return (
        name,
        _cell(seen.fresh_read_ns),
        _cell(seen.yardstick_ns),
        f"{seen.ratio:.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        aim,
        *(
            _cell(each)
            for each in (
                seen.allocations_per_read,
                seen.bytes_per_read,
                seen.contended_16_ns,
                seen.contended_yardstick_ns,
            )
        ),
        f"{seen.tokens_per_second:,.0f}",
        f"{seen.calls_per_second:,.0f}",
    )


def _cell(number: float | None) -> str:
    return "not counted" if number is None else f"{number:,.1f}"
