"""Contestants measured in turn, round after round, so that a noisy machine is noisy to all of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.load import LIMIT_SERVER, Load, Pace, Target, drive
from bench.machine import cpu_seconds
from bench.run import Run


@dataclass(frozen=True)
class Contestant:
    """A server that is up. `count` tells how many calls it has answered by its own reckoning.

    `prepare` is called before each of its runs.
    """

    name: str
    target: Target
    count: Callable[[], Awaitable[int]] | None = None
    prepare: Callable[[], None] | None = None


class MiscountError(Exception):
    """The generator and the server do not agree on how many calls were answered."""


@dataclass(frozen=True)
class Series:
    """One contestant's runs, one a round."""

    name: str
    loads: list[Load] = field(default_factory=list)
    waiting_shares: list[float] = field(
        default_factory=list
    )  # what the other contestants used meanwhile, of a core

    def rate(self) -> float:
        """The median of calls per second."""
        return median(load.calls_per_second for load in self.loads)

    def facts(self) -> dict[str, object]:
        """For the report: medians, and every round."""
        return {
            "calls_per_second": round(self.rate(), 1),
            **self.latency_facts(),
            "lower_bound": self._lower_bound(),
            "waiting_contestants_cpu_share": round(max(self.waiting_shares, default=0.0), 3),
            "rounds": [load.facts() for load in self.loads],
        }

    def latency_facts(self) -> dict[str, object]:
        """Only what a paced series tells: its rate was given, and no server was to be busy."""
        p50, p99 = self._latencies_ms()
        return {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "errors": self._errors()}

    def latency_cells(self) -> tuple[str, str]:
        """p50 and p99 in milliseconds, for people."""
        p50, p99 = self._latencies_ms()
        return f"{p50:.2f}", f"{p99:.2f}"

    def warnings(self) -> list[str]:
        """What a reader must know before quoting the rate."""
        found = []
        if self._lower_bound():
            reasons = sorted({load.limit for load in self.loads if load.limit != LIMIT_SERVER})
            found.append(f"{self.name}: {'; '.join(reasons)}")
        if errors := self._errors():
            found.append(f"{self.name}: {errors} calls failed")
        return found

    def _latencies_ms(self) -> tuple[float, float]:
        return median(load.p50_ms for load in self.loads), median(load.p99_ms for load in self.loads)

    def _errors(self) -> int:
        return sum(sum(load.errors.values()) for load in self.loads)

    def _lower_bound(self) -> bool:
        return any(load.limit != LIMIT_SERVER for load in self.loads)


@dataclass(frozen=True)
class Ratio:
    """How one contestant did against another, round by round."""

    by_round: list[float]
    by_cpu: list[float]  # calls for each second of the server's CPU; empty where that is unknown

    def facts(self) -> dict[str, object]:
        """For the report."""
        return {
            "median": round(median(self.by_round), 3),
            "by_round": [round(ratio, 3) for ratio in self.by_round],
            "median_per_cpu_second": round(median(self.by_cpu), 3) if self.by_cpu else None,
        }

    def line(self) -> str:
        """For people."""
        low, high = min(self.by_round), max(self.by_round)
        return f"{median(self.by_round):.2f} (rounds {low:.2f} to {high:.2f})"


async def compete(
    contestants: Sequence[Contestant], pace: Pace, run: Run, *, rounds: int
) -> dict[str, Series]:
    """Each contestant in turn, `rounds` times. Each round begins with another one: who comes after whom may matter.

    Raises:
        MiscountError: a server counted other than the generator did.
        LoadFailedError: a run gave nothing.
    """
    series = {contestant.name: Series(contestant.name) for contestant in contestants}
    for number in range(1, rounds + 1):
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            waiting = [other.target.pid for other in contestants if other is not contestant]
            waited_before = _cpu_seconds(waiting)
            load = await _drive_counted(contestant, pace, run)
            own = series[contestant.name]
            own.loads.append(load)
            own.waiting_shares.append(
                (_cpu_seconds(waiting) - waited_before) / (pace.warm_up_seconds + load.seconds)
            )
            run.progress(f"round {number}/{rounds} {contestant.name}: {load.calls_per_second:,.0f} calls/s")
    return series


def fastest(series: Sequence[Series]) -> Series:
    """The one with the highest median rate."""
    return max(series, key=Series.rate)


def ratio(subject: Series, base: Series) -> Ratio:
    """Subject to base, each round against the same round."""
    pairs = list(zip(subject.loads, base.loads, strict=True))
    by_cpu = [
        mine.calls_per_cpu_second / its.calls_per_cpu_second
        for mine, its in pairs
        if mine.calls_per_cpu_second and its.calls_per_cpu_second
    ]
    return Ratio([mine.calls_per_second / its.calls_per_second for mine, its in pairs], by_cpu)


async def _drive_counted(contestant: Contestant, pace: Pace, run: Run) -> Load:
    if contestant.prepare:
        contestant.prepare()
    before = await contestant.count() if contestant.count else 0
    load = await drive(contestant.target, pace, run.cores.load)
    if contestant.count:
        counted = await contestant.count() - before
        seen = load.calls_in_all + sum(load.errors.values())
        if counted != seen:
            raise MiscountError(f"{contestant.name} answered {counted} calls, the generator saw {seen}")
    return load


def _cpu_seconds(pids: Sequence[int]) -> float:
    return sum(cpu_seconds(pid) or 0.0 for pid in pids)
