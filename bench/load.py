"""Drives one server for some seconds from a process of its own, and says what it saw.

The measuring is in `bench.load_worker`; this is the plan that goes to it, the result that
comes back, and the judgement whether the server or the generator was the limit.
"""

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from json import dumps, loads
from pathlib import Path

from bench.machine import pinned
from bench.tls import IN_THE_CLEAR, Door

GET_TOKEN = "/tokenbroker.v1.TokenBroker/GetToken"  # noqa: S105 - a method's name
LIMIT_SERVER = "server"
BUSY_SHARE = 0.9  # of a core: above it, a process counts as the limit of a run
GRACE_SECONDS = 30.0  # start, connect and drain, beyond the time planned


@dataclass(frozen=True)
class Target:
    """A server that is up, and how to call it.

    `messages` is a file of requests as they stand on the wire (see `write_messages`), sent in turn.
    `reply_bytes` is the least that a good answer's message has.
    """

    port: int
    pid: int
    messages: Path
    reply_bytes: int
    path: str = GET_TOKEN
    door: Door = IN_THE_CLEAR
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Pace:
    """How a target is driven.

    Without `calls_per_second`, each connection keeps `in_flight` calls outstanding: that finds the
    rate. With it, calls arrive at random (Poisson) at that rate, and latency counts from the moment a call was
    due, not from when there was room to send it.
    """

    seconds: float
    warm_up_seconds: float
    connections: int = 8
    in_flight: int = 8
    calls_per_second: float | None = None


@dataclass(frozen=True)
class Load:
    """What one run saw. Shares are of one core; None where the system does not tell."""

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float
    server_cpu_seconds: float | None
    generator_cpu_seconds: float
    calls_in_all: int
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def calls_per_second(self) -> float:
        """Good answers in the measured time."""
        return self.calls / self.seconds

    @property
    def calls_per_cpu_second(self) -> float | None:
        """Good answers for each second of CPU that the server used: what noise from neighbours does not move."""
        return self.calls / self.server_cpu_seconds if self.server_cpu_seconds else None

    @property
    def server_share(self) -> float | None:
        """How much of a core the server used."""
        return None if self.server_cpu_seconds is None else self.server_cpu_seconds / self.seconds

    @property
    def generator_share(self) -> float:
        """How much of a core the generator used."""
        return self.generator_cpu_seconds / self.seconds

    def facts(self) -> dict[str, object]:
        """For the report."""
        return {
            "calls_per_second": round(self.calls_per_second, 1),
            "calls_per_server_cpu_second": _rounded(self.calls_per_cpu_second, 1),
            "p50_ms": round(self.p50_ms, 3),
            "p99_ms": round(self.p99_ms, 3),
            "server_cpu_share": _rounded(self.server_share, 3),
            "generator_cpu_share": round(self.generator_share, 3),
            "limit": self.limit,
            "errors": self.errors,
        }

    @property
    def limit(self) -> str:
        """What held the rate: `LIMIT_SERVER`, or why the rate is only a lower bound."""
        if self.server_share is None:
            return "unknown: no CPU times on this system"
        if self.server_share >= BUSY_SHARE:
            return LIMIT_SERVER
        if self.generator_share >= BUSY_SHARE:
            return "generator: the rate is a lower bound"
        return "neither was busy: others used its core, or the server waited; the rate is a lower bound"


class LoadFailedError(Exception):
    """The generator ended without a result."""


def write_messages(path: Path, messages: Iterable[bytes]) -> Path:
    """Writes serialised requests as gRPC frames them: a flag, the length, the message."""
    with path.open("wb") as file:
        file.writelines(b"\0" + len(message).to_bytes(4) + message for message in messages)
    return path


async def drive(target: Target, pace: Pace, core: int | None) -> Load:
    """Runs the generator on that core.

    Raises:
        LoadFailedError: it ended without a result (its own words are on stderr), or no call went well.
    """
    plan = dumps({"target": asdict(target), "pace": asdict(pace)}, default=str)
    with pinned(core):
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.load_worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
    try:
        async with asyncio.timeout(pace.warm_up_seconds + pace.seconds + GRACE_SECONDS):
            stdout, _ = await worker.communicate(plan.encode())
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    if worker.returncode != 0:
        raise LoadFailedError(f"the load generator ended with {worker.returncode}")
    load = Load(**loads(stdout))
    if not load.calls:
        raise LoadFailedError(f"no call was answered well: {load.errors or 'none was answered at all'}")
    return load


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
