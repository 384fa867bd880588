"""`python -m clients.python.bench --target HOST:PORT --install ID [--seconds N]`: prints one JSON object.

Yardstick and client take turns, run by run; medians are told. A loop's own cost is in both.
"""

import argparse
import asyncio
import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Final

from tokenbroker.client import AsyncClient, Client, Credentials

AIM: Final = 10
RUNS: Final = 7
THREADS: Final = 16
# Of the time that there is, by what it is for.
ALONE, AWAITED, CONTENDED, CALLED = 0.35, 0.25, 0.25, 0.15
PROBE: Final = 20_000
NANOS: Final = 1e9

Loop = Callable[[int], None]
Timed = Callable[[int], int]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--install", required=True)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    with Client(options.target, credentials=Credentials.insecure()) as client:
        token = client.token(options.install)
        known = {options.install: token}
        reads, looks = _reads(client, options.install), _looks(known, options.install)
        alone = _by_turns(options.seconds * ALONE, _alone(reads), _alone(looks))
        contended = _by_turns(options.seconds * CONTENDED, _by_threads(reads), _by_threads(looks))
        called = _calls(client, options.install, options.seconds * CALLED)
    awaited = asyncio.run(_awaited(options.target, options.install, options.seconds * AWAITED))
    report = {
        "language": "python",
        "runtime": f"{platform.python_implementation()} {platform.python_version()}",
        "fresh_read_ns": alone[0],
        "yardstick": "dict read",
        "yardstick_ns": alone[1],
        "ratio": alone[0] / alone[1],
        "aim": AIM,
        "allocations_per_read": None,
        "bytes_per_read": None,
        "contended_16_ns": contended[0],
        "contended_yardstick_ns": contended[1],
        "awaited_read_ns": awaited[0],
        "awaited_yardstick_ns": awaited[1],
        "tokens_per_second": NANOS / alone[0],
        "calls_per_second": called,
    }
    sys.stdout.write(json.dumps(report) + "\n")


def _reads(client: Client, install: str) -> Loop:
    def loop(times: int) -> None:
        token = client.token
        for _ in range(times):
            token(install)

    return loop


def _looks(known: Mapping[str, object], install: str) -> Loop:
    def loop(times: int) -> None:
        for _ in range(times):
            known[install]

    return loop


def _alone(loop: Loop) -> Timed:
    """Nanoseconds that so many turns take."""

    def timed(times: int) -> int:
        begun = time.perf_counter_ns()
        loop(times)
        return time.perf_counter_ns() - begun

    return timed


def _by_threads(loop: Loop) -> Timed:
    """The same for all threads together, each its share of the turns; their start does not count."""

    def timed(times: int) -> int:
        start = threading.Barrier(THREADS + 1)

        def share() -> None:
            start.wait()
            loop(times // THREADS)

        threads = [threading.Thread(target=share) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        start.wait()
        begun = time.perf_counter_ns()
        for thread in threads:
            thread.join()
        return time.perf_counter_ns() - begun

    return timed


def _by_turns(seconds: float, *sides: Timed) -> list[float]:
    """Nanoseconds a turn of each side, in the order given."""
    share = seconds / RUNS / len(sides) * NANOS
    times = [max(PROBE, round(share / side(PROBE) * PROBE)) for side in sides]
    return _medians(
        [[side(each) / each for side, each in zip(sides, times, strict=True)] for _ in range(RUNS)]
    )


def _medians(runs: Iterable[Iterable[float]]) -> list[float]:
    return [median(each) for each in zip(*runs, strict=True)]


def _calls(client: Client, install: str, seconds: float) -> float:
    """Tokens a second by calls to the broker, one after another: memory is emptied before each."""
    calls, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds or not calls:
        client._entries.clear()  # noqa: SLF001 - callers have no reason to
        client.token(install)
        calls += 1
    return calls / (time.perf_counter() - begun)


async def _awaited(target: str, install: str, seconds: float) -> list[float]:
    """Nanoseconds of `await client.token(…)`, and of awaiting a look into a dict."""
    async with AsyncClient(target, credentials=Credentials.insecure()) as client:
        known: dict[str, object] = {install: await client.token(install)}

        async def read(times: int) -> float:
            begun, token = time.perf_counter_ns(), client.token
            for _ in range(times):
                await token(install)
            return (time.perf_counter_ns() - begun) / times

        async def look_up(name: str) -> object:
            return known[name]

        async def look(times: int) -> float:
            begun = time.perf_counter_ns()
            for _ in range(times):
                await look_up(install)
            return (time.perf_counter_ns() - begun) / times

        share = seconds / RUNS / 2 * NANOS
        reads, looks = round(share / await read(PROBE)), round(share / await look(PROBE))
        return _medians([[await read(reads), await look(looks)] for _ in range(RUNS)])


if __name__ == "__main__":
    main()
