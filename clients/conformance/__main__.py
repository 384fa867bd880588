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
from clients.conformance.table import ADAPTERS, AdapterEntry, Scenario, read_adapters, read_scenarios
from clients.conformance.world import running_world

REPOSITORY: Final = Path(__file__).parents[2]
BUILD_SECONDS: Final = 900
# Clients that are played beside each other: mostly they wait.
AT_ONCE: Final = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every client passed every scenario, 1 if one did not, 2 if there is no such scenario or client."""
    options = _parser().parse_args(arguments)
    scenarios, adapters = read_scenarios(), read_adapters(options.adapters)
    strangers = {*options.scenario} - {each.name for each in scenarios}
    strangers |= {*options.client} - {each.client for each in adapters}
    if strangers:
        print(f"no such scenario or client: {', '.join(sorted(strangers))}", file=sys.stderr)
        return 2
    scenarios = [each for each in scenarios if not options.scenario or each.name in options.scenario]
    adapters = [each for each in adapters if not options.client or each.client in options.client]
    made = _made(adapters)
    failed = len(adapters) - len(made) + asyncio.run(_play_all(made, scenarios, verbose=options.verbose))
    ending = f"{failed} failed" if failed else "all passed"
    print(f"conformance: {len(scenarios)} scenarios, {len(adapters)} clients, {ending}")
    return 1 if failed else 0


def _made(adapters: Sequence[AdapterEntry]) -> list[AdapterEntry]:
    """Those whose build succeeds; a build that several share is done once."""
    codes = {"": 0}
    for adapter in adapters:
        if adapter.build not in codes:
            codes[adapter.build] = subprocess.run(
                ["/bin/sh", "-ec", adapter.build], cwd=REPOSITORY, check=False, timeout=BUILD_SECONDS
            ).returncode
        if codes[adapter.build]:
            print(f"FAILED {adapter.client}: its build ended with {codes[adapter.build]}", flush=True)
    return [adapter for adapter in adapters if codes[adapter.build] == 0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clients.conformance", description=__doc__)
    parser.add_argument("--client", action="append", default=[], help="only this client; may be given again")
    parser.add_argument(
        "--scenario", action="append", default=[], help="only this scenario; may be given again"
    )
    parser.add_argument("--adapters", type=Path, default=ADAPTERS, help="another list of clients; YAML")
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
