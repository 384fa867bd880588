"""The clients' benchmark: `make bench-clients`, or `python -m bench.clients`.

What a token from memory costs in each language, and what watching costs the broker. How to read it: README.md.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import grpc
import httpx
import psycopg

from bench import client_reads
from bench.client_programs import PROGRAMS, ClientFailedError
from bench.envoy import EnvoyFailedError
from bench.load import LoadFailedError
from bench.machine import cores, facts
from bench.processes import NotReadyError
from bench.report import Report
from bench.run import Run
from bench.scenarios import watch_fan_out, watch_memory
from broker.sandbox.embedded_postgres import EmbeddedPostgresError

ROUNDS, SECONDS = 5, 2.0
QUICK_ROUNDS, QUICK_SECONDS = 1, 0.5
FAILURES = (
    ClientFailedError,
    LoadFailedError,
    NotReadyError,
    EmbeddedPostgresError,
    EnvoyFailedError,
    httpx.HTTPError,
    psycopg.Error,
    grpc.RpcError,
    OSError,
)

Part = Callable[[Run], Awaitable[None]]


def main() -> int:
    """0 when every part gave its figures, 1 when one did not."""
    arguments = _arguments()
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    seconds = QUICK_SECONDS if arguments.quick else SECONDS
    options = {"quick": arguments.quick, "rounds": rounds, "seconds": seconds}
    report = Report(arguments.json, machine=facts(), options=options)
    parts: dict[str, Part] = {
        client_reads.NAME: partial(client_reads.run, names=arguments.client or list(PROGRAMS)),
        watch_fan_out.NAME: watch_fan_out.run,
        watch_memory.NAME: watch_memory.run,
    }
    with tempfile.TemporaryDirectory(prefix="token-broker-bench-") as scratch:
        run = Run(rounds, seconds, arguments.quick, cores(), Path(scratch), report)
        asyncio.run(_measure({name: parts[name] for name in arguments.only or parts}, run))
    print(f"\nwritten to {arguments.json}")
    return 1 if report.failed else 0


async def _measure(parts: dict[str, Part], run: Run) -> None:
    for name, part in parts.items():
        run.progress(name)
        try:
            await part(run)
        except FAILURES as error:
            run.report.fail(name, str(error))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.clients",
        description="The clients, beside their languages' yardsticks, and watching.",
    )
    names = (client_reads.NAME, watch_fan_out.NAME, watch_memory.NAME)
    parser.add_argument("--only", action="append", choices=names, help="run this part (repeatable)")
    parser.add_argument(
        "--client", action="append", choices=list(PROGRAMS), help="measure this client's memory (repeatable)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="short, with few watchers: shows that it works, not for quoting"
    )
    parser.add_argument("--rounds", type=int, help=f"rounds of all (default {ROUNDS})")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("build/bench-clients.json"),
        metavar="PATH",
        help="default %(default)s",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
