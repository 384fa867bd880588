"""The command line: `python -m tests.simulation --seeds 500`."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.run import Story, simulate

HISTORY_LINES = 200


def main() -> int:
    """0 if no run broke a promise, else 1."""
    arguments = _arguments()
    seeds = (
        [arguments.seed]
        if arguments.seed is not None
        else range(arguments.first, arguments.first + arguments.seeds)
    )
    started, broken, calls = time.monotonic(), 0, 0
    met: Counter[str] = Counter()
    for seed in seeds:
        world = simulate(seed)
        met.update(Story.of(seed).faults)
        calls += len(world.calls_at)
        if arguments.seed is not None:
            print("\n".join(world.history))
        if world.broken:
            broken += 1
            _tell(seed, world.broken, world.history)
    print(
        f"{len(seeds)} runs, {calls} calls to the simulated Envoy, {broken} broke a promise; "
        f"{time.monotonic() - started:.0f} s"
    )
    print("faults met: " + ", ".join(f"{name} {count}" for name, count in sorted(met.items())))
    return 1 if broken else 0


def _tell(seed: int, promises: list[str], history: list[str]) -> None:
    print(f"\n{Story.of(seed)}")
    print("\n".join(history[-HISTORY_LINES:]))
    for promise in promises:
        print(f"  BROKEN {promise}")
    print(f"again, with its whole history: python -m tests.simulation --seed {seed}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first (default %(default)s)")
    parser.add_argument("--seed", type=int, help="only this one, with its history")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
