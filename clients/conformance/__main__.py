"""Plays the table with the clients: `python -m clients.conformance [--client NAME …] [--scenario NAME …]`."""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from clients.conformance.adapter import Adapter
from clients.conformance.play import play
from clients.conformance.table import AdapterEntry, Scenario, read_adapters, read_scenarios
from clients.conformance.world import running_world

REPOSITORY: Final = Path(__file__).parents[2]
BUILD_SECONDS: Final = 900
# Clients that are played beside each other: mostly they wait.
AT_ONCE: Final = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every client passed every scenario."""
    options = _parser().parse_args(arguments)
    scenarios = [s for s in read_scenarios() if not options.scenario or s.name in options.scenario]
    adapters = [a for a in read_adapters() if not options.client or a.client in options.client]
    if not scenarios or not adapters:
        print("no such scenario or client", file=sys.stderr)
        return 2
    for build in dict.fromkeys(adapter.build for adapter in adapters if adapter.build):
        subprocess.run(["/bin/sh", "-ec", build], cwd=REPOSITORY, check=True, timeout=BUILD_SECONDS)
    failed = asyncio.run(_play_all(adapters, scenarios, verbose=options.verbose))
    ending = f"{failed} failed" if failed else "all passed"
    print(f"conformance: {len(scenarios)} scenarios, {len(adapters)} clients, {ending}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clients.conformance", description=__doc__)
    parser.add_argument("--client", action="append", help="only this client; may be given again")
    parser.add_argument("--scenario", action="append", help="only this scenario; may be given again")
    parser.add_argument("--verbose", action="store_true", help="a line for each scenario")
    return parser


async def _play_all(adapters: Sequence[AdapterEntry], scenarios: Sequence[Scenario], *, verbose: bool) -> int:
    structlog.configure(processors=[_say_nothing])
    room = asyncio.Semaphore(AT_ONCE)

    async def play_in_turn(adapter: AdapterEntry) -> int:
        async with room:
            return await _play_client(adapter, scenarios, verbose=verbose)

    return sum(await asyncio.gather(*(play_in_turn(adapter) for adapter in adapters)))


def _say_nothing(_logger: object, _method: str, _event: object) -> str:
    """The broker's log: what fails here is told by the scenario."""
    raise structlog.DropEvent


async def _play_client(entry: AdapterEntry, scenarios: Sequence[Scenario], *, verbose: bool) -> int:
    began, failed = time.monotonic(), 0
    async with running_world() as world:
        adapter = await Adapter.started(entry.run, REPOSITORY)
        for scenario in scenarios:
            problem = await play(scenario, adapter, world)
            if problem is not None:
                failed += 1
                print(f"FAILED {entry.client}: {scenario.name} ({scenario.why})\n    {problem}", flush=True)
                for line in adapter.said:
                    print(f"    | {line}")
                adapter.said.clear()
                await adapter.stop()
                adapter = await Adapter.started(entry.run, REPOSITORY)
            elif verbose:
                print(f"passed {entry.client}: {scenario.name}", flush=True)
        await adapter.stop()
    seconds = time.monotonic() - began
    print(f"{entry.client}: {len(scenarios) - failed} of {len(scenarios)} in {seconds:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
