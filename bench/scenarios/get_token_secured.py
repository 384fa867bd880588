"""GetToken with everything on (callers known, policy, record, sealing) against the floor that speaks TLS too."""

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.broker import NAME as BROKER
from bench.broker import Database, Served, database, postgres, request, serving
from bench.floor import Kind
from bench.floors import floor
from bench.load import Pace, write_messages
from bench.report import table
from bench.rounds import Contestant, Ratio, Series, compete, fastest, ratio
from bench.run import Run
from bench.secured import Trail, by_bearer_token, by_certificate
from bench.seeding import install_ids, seed
from bench.tls import IN_THE_CLEAR, Door

NAME = "get-token-secured"
SUMMARY = "GetToken FRESH with mutual TLS or bearer tokens, policy and record, against bare grpcio with TLS"

AIM = 0.8  # of the floor under mutual TLS
PACED_SHARE = 0.25  # of that floor's rate: far enough below what every contestant can do
WARM_UP_SHARE = 0.2  # of the seconds measured, before each measurement

MUTUAL_TLS, BEARER_TOKEN, CLEAR = "mutual TLS", "bearer token", "in the clear"
FSYNC = f"{BROKER}, fsync"
# Plain aio was never the fastest in get-token-fresh, and there are three floors here.
KINDS = (Kind.AIO_UVLOOP, Kind.SYNC)


@dataclass(frozen=True)
class _Way:
    """One way to call: bare servers and brokers behind the same kind of door, called alike."""

    name: str
    contestants: list[Contestant]

    def called(self, which: str) -> str:
        """The contestant's name."""
        return f"{self.name}: {which}"

    def brokers(self) -> Iterator[str]:
        """Their contestants' names."""
        floors = {self.called(kind) for kind in KINDS}
        return (contestant.name for contestant in self.contestants if contestant.name not in floors)

    def floor(self, rates: Mapping[str, Series]) -> Series:
        """The fastest of the bare servers."""
        return fastest([rates[self.called(kind)] for kind in KINDS])


@dataclass(frozen=True)
class _Found:
    reply_bytes: int
    ways: list[_Way]
    rates: Mapping[str, Series]
    latencies: Mapping[str, Series]
    paced: Pace


async def run(bench: Run) -> None:
    """Rates at saturation first, then latencies at one rate for all."""
    async with AsyncExitStack() as stack:
        stage = await _Stage.set_up(bench, stack)
        ways = [await stage.mutual_tls(), await stage.bearer_token()]
        if not bench.quick:
            ways.append(await stage.clear())
        contestants = [contestant for way in ways for contestant in way.contestants]
        full = Pace(seconds=bench.seconds, warm_up_seconds=WARM_UP_SHARE * bench.seconds)
        if not bench.quick:
            bench.progress("a round to warm up, not counted")
            await compete(contestants, full, bench, rounds=1)
        rates = await compete(contestants, full, bench, rounds=1 if bench.quick else bench.rounds)
        paced = replace(full, calls_per_second=PACED_SHARE * ways[0].floor(rates).rate())
        bench.progress(f"latencies at {paced.calls_per_second:,.0f} calls/s")
        latencies = await compete(contestants, paced, bench, rounds=max(bench.rounds // 2, 1))
    _report(bench, _Found(stage.reply_bytes, ways, rates, latencies, paced))


@dataclass
class _Stage:
    """What all contestants share."""

    bench: Run
    stack: AsyncExitStack
    base: Database
    install_id: str
    messages: Path
    reply_bytes: int = 0

    @classmethod
    async def set_up(cls, bench: Run, stack: AsyncExitStack) -> "_Stage":
        """A database with one install."""
        bench.progress("starting Postgres and the brokers")
        [install_id] = install_ids(1)
        base = await database(await stack.enter_async_context(postgres(bench.cores.load)), "secured")
        await seed(base, 1, bench)
        wanted = [request(install_id).SerializeToString()]
        messages = write_messages(bench.scratch / "get_token_secured.bin", wanted)
        return cls(bench, stack, base, install_id, messages)

    async def mutual_tls(self) -> _Way:
        """Callers are known by their certificates."""
        door, settings = by_certificate(self.bench.scratch / "secured")
        brokers = {BROKER: settings, FSYNC: settings | {"audit_durability": "fsync"}}
        return await self._way(MUTUAL_TLS, door, brokers)

    async def bearer_token(self) -> _Way:
        """Callers show no certificate, and are known by their tokens."""
        door, settings = by_bearer_token(self.bench.scratch / "secured")
        return await self._way(BEARER_TOKEN, door, {BROKER: settings})

    async def clear(self) -> _Way:
        """Anybody is served, and nothing goes on record: what TLS and the rest cost is the difference."""
        return await self._way(CLEAR, IN_THE_CLEAR, {BROKER: {}})

    async def _way(self, name: str, door: Door, brokers: Mapping[str, dict[str, str]]) -> _Way:
        way = _Way(name, [])
        for which, settings in brokers.items():
            way.contestants.append(await self._broker(way.called(which), door, settings))
        for kind in KINDS:
            bare = floor(
                kind,
                name=way.called(kind),
                messages=self.messages,
                reply_bytes=self.reply_bytes,
                core=self.bench.cores.server,
                door=door,
            )
            way.contestants.append(await self.stack.enter_async_context(bare))
        return way

    async def _broker(self, name: str, door: Door, settings: dict[str, str]) -> Contestant:
        """One with a record of its own, if it keeps any: what is on it must be what was handed out."""
        trail = None
        if "audit_log" in settings:
            path = self.bench.scratch / f"{name}.jsonl"
            settings, trail = settings | {"audit_log": str(path)}, Trail(path)
        served: Served = await self.stack.enter_async_context(
            serving(self.base, door, core=self.bench.cores.server, **settings)
        )
        self.reply_bytes = await served.reply_bytes(self.install_id)
        return served.contestant(
            name, self.messages, self.reply_bytes, count=trail.count if trail is not None else None
        )


def _report(bench: Run, found: _Found) -> None:
    mutual_tls = found.ways[0]
    everything_on = ratio(found.rates[mutual_tls.called(BROKER)], mutual_tls.floor(found.rates))
    facts: dict[str, object] = {
        "aim": AIM,
        "everything_on_to_tls_floor": everything_on.facts(),
        "reply_bytes": found.reply_bytes,
        "ways": {way.name: _way_facts(way, found.rates) for way in found.ways},
        "at_saturation": {name: series.facts() for name, series in found.rates.items()},
        "paced": {
            "calls_per_second": round(found.paced.calls_per_second or 0.0, 1),
            "contestants": {name: series.latency_facts() for name, series in found.latencies.items()},
        },
    }
    floor_name = mutual_tls.floor(found.rates).name
    notes = [f"everything on to the floor ({floor_name}): {everything_on.line()}; the aim is {AIM:.2f}"]
    notes += [
        f"{name} to {way.called(Kind.AIO_UVLOOP)}: {_to_event_loop(way, name, found.rates).line()}"
        for way in found.ways
        for name in way.brokers()
    ]
    notes.append(
        f"paced: {found.paced.calls_per_second:,.0f} calls/s, {PACED_SHARE:.0%} of the floor's under mutual TLS; "
        f"answers of {found.reply_bytes} bytes"
    )
    notes += [warning for series in found.rates.values() for warning in series.warnings()]
    header = ("", "calls/s", "p50 ms", "p99 ms", "paced p50", "paced p99", "to its floor")
    rows = [row for way in found.ways for row in _rows(way, found)]
    bench.report.add(NAME, facts, [*table(header, rows), *notes])


def _to_event_loop(way: _Way, broker: str, rates: Mapping[str, Series]) -> Ratio:
    return ratio(rates[broker], rates[way.called(Kind.AIO_UVLOOP)])


def _way_facts(way: _Way, rates: Mapping[str, Series]) -> dict[str, object]:
    base = way.floor(rates)
    return {
        "floor": base.name,
        "ratios_to_floor": {
            contestant.name: ratio(rates[contestant.name], base).facts() for contestant in way.contestants
        },
        "brokers_to_aio_uvloop": {name: _to_event_loop(way, name, rates).facts() for name in way.brokers()},
    }


def _rows(way: _Way, found: _Found) -> Iterator[tuple[str, ...]]:
    base = way.floor(found.rates)
    for contestant in way.contestants:
        series = found.rates[contestant.name]
        yield (
            contestant.name,
            f"{series.rate():,.0f}",
            *series.latency_cells(),
            *found.latencies[contestant.name].latency_cells(),
            ratio(series, base).line(),
        )
