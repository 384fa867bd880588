"""The clients' own benchmark programs: how each is built and run, and what it prints.

A program takes `--target HOST:PORT --install ID --seconds N` and prints one JSON object, `Reading` below.
"""

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.processes import Process, running

CHECKOUT: Final = Path(__file__).parents[1]
BUILD_SECONDS = 900.0  # the first build fetches packages
RUN_SECONDS = 300.0
ENDED_WELL = 0

Command = tuple[str, ...]


class ClientFailedError(Exception):
    """A client's program could not be built, ended badly, or printed something else."""


@dataclass(frozen=True)
class Program:
    """A client's benchmark. Commands run in the root of the checkout; "python" stands for this interpreter."""

    build: tuple[Command, ...]
    run: Command


JAVA_CLASSES: Final = ":".join(
    f"clients/java/target/{part}" for part in ("test-classes", "classes", "dependency/*")
)
PROGRAMS: Final = {
    "python": Program((), ("python", "-m", "clients.python.bench")),
    "go": Program(
        (("go", "-C", "clients/go", "build", "-o", "../../build/clients/go-bench", "./bench"),),
        ("build/clients/go-bench",),
    ),
    "typescript": Program(
        (
            ("npm", "ci", "--silent", "--prefix", "clients/typescript"),
            ("npm", "run", "--silent", "programs", "--prefix", "clients/typescript"),
        ),
        ("node", "clients/typescript/out/bench/reads.js"),
    ),
    "java": Program(
        (("mvn", "-B", "-q", "-f", "clients/java/pom.xml", "process-test-classes"),),
        ("java", "-cp", JAVA_CLASSES, "tokenbroker.client.Benchmark"),
    ),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a program measured in one run. None: its language does not count that.

    Attributes:
        fresh_read_ns: one FRESH token from memory, on one thread; `yardstick_ns`: what the language does anyway.
        contended_16_ns: the same for each token of 16 callers at once of one install.
        calls_per_second: tokens by calls to the broker, one after another.
        others: what else it measured, by its own names.
    """

    language: str
    runtime: str
    fresh_read_ns: float
    yardstick: str
    yardstick_ns: float
    ratio: float
    aim: float
    allocations_per_read: float | None
    bytes_per_read: float | None
    contended_16_ns: float | None
    contended_yardstick_ns: float | None
    tokens_per_second: float
    calls_per_second: float
    others: Mapping[str, float]


NAMES: Final = frozenset(field.name for field in fields(Reading)) - {"others"}


def middle(readings: Sequence[Reading]) -> Reading:
    """The medians of each number over these rounds."""
    in_all = [name for name in readings[0].others if all(name in each.others for each in readings)]
    others = {name: median(each.others[name] for each in readings) for name in in_all}
    return Reading(
        **{name: _middle([getattr(each, name) for each in readings]) for name in NAMES}, others=others
    )


async def build(name: str) -> None:
    """Makes a program ready to run.

    Raises:
        ClientFailedError: a command is missing, fails, or takes too long.
    """
    for command in PROGRAMS[name].build:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=CHECKOUT, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
            )
        except FileNotFoundError:
            raise ClientFailedError(f"{name}: needs the program {command[0]!r}") from None
        said = await _output(process, BUILD_SECONDS, name)
        if process.returncode != ENDED_WELL:
            raise ClientFailedError(f"{name}: `{' '.join(command)}` failed:\n{said}")


async def measure(name: str, target: str, install_id: str, seconds: float) -> Reading:
    """Runs a program once.

    Raises:
        ClientFailedError: it ends badly, takes too long, or does not print what it should.
    """
    options = ("--target", target, "--install", install_id, "--seconds", str(seconds))
    async with running((*PROGRAMS[name].run, *options), core=None) as process:
        said = await _output(process, RUN_SECONDS, name)
        if process.returncode != ENDED_WELL:
            raise ClientFailedError(f"{name}: its program ended with {process.returncode}")
    try:
        facts = json.loads(said)
        others = {other: float(value) for other, value in facts.items() if other not in NAMES}
        return Reading(**{each: facts[each] for each in NAMES}, others=others)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ClientFailedError(f"{name}: its program printed something else ({error!r}): {said}") from error


async def _output(process: Process, seconds: float, name: str) -> str:
    """All that it prints, once it has ended."""
    try:
        async with asyncio.timeout(seconds):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ClientFailedError(f"{name}: not over within {seconds:.0f} s") from None
    return said.decode(errors="replace").strip()


def _middle(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, str):
        return first
    return None if None in values else median(values)
