"""The command line: `python -m bench`."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc
import httpx
import psycopg

from bench.envoy import EnvoyFailedError
from bench.load import LoadFailedError
from bench.machine import cores, facts
from bench.processes import NotReadyError
from bench.report import Report
from bench.rounds import MiscountError
from bench.run import Run
from bench.scenarios import ALL, Scenario
from broker.sandbox.embedded_postgres import EmbeddedPostgresError

ROUNDS, SECONDS = 5, 2.5
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.7
FAILURES = (
    LoadFailedError,
    MiscountError,
    NotReadyError,
    EmbeddedPostgresError,
    EnvoyFailedError,
    httpx.HTTPError,
    psycopg.Error,
    grpc.RpcError,
    OSError,
)


def main() -> int:
    """0 when every scenario gave its figures, 1 when one did not."""
    arguments = _arguments()
    if arguments.list:
        print("\n".join(f"{scenario.NAME}: {scenario.SUMMARY}" for scenario in ALL))
        return 0
    chosen = [scenario for scenario in ALL if not arguments.only or scenario.NAME in arguments.only]
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else SECONDS)
    options = {"quick": arguments.quick, "rounds": rounds, "seconds": seconds}
    report = Report(arguments.output, machine=facts(), options=options)
    with tempfile.TemporaryDirectory(prefix="token-broker-bench-") as scratch:
        run = Run(rounds, seconds, arguments.quick, cores(), Path(scratch), report)
        if run.cores.server is None:
            run.progress("not pinned: server and load generator share the cores, so the ratios are rough")
        asyncio.run(_measure(chosen, run))
    print(f"\nwritten to {arguments.output}")
    return 1 if report.failed else 0


async def _measure(scenarios: Sequence[Scenario], run: Run) -> None:
    for scenario in scenarios:
        run.progress(f"{scenario.NAME}: {scenario.SUMMARY}")
        try:
            await scenario.run(run)
        except FAILURES as error:
            run.report.fail(scenario.NAME, str(error))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Ratios measured side by side in one run."
    )
    names = [scenario.NAME for scenario in ALL]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help="run this one (repeatable)"
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument(
        "--quick", action="store_true", help="short rounds: shows that it works, not for quoting"
    )
    parser.add_argument("--rounds", type=int, help=f"rounds of all contestants (default {ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"measured in each round (default {SECONDS})")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="default %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
