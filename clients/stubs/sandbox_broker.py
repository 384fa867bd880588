"""A broker for the smoke tests: `token-broker sandbox run`, as a newcomer starts it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Final

START_SECONDS: Final = 60
STOP_SECONDS: Final = 30
_COMMAND: Final = (sys.executable, "-m", "broker", "sandbox", "run", "--ports", "auto", "--json")


class SandboxFailedError(Exception):
    """The sandbox did not come up. Its own words tell why."""


@dataclass(frozen=True)
class SandboxBroker:
    """A broker that is up, and the token of the install that it has.

    Attributes:
        target: gRPC's name of it.
        expires_in_seconds: when it started.
    """

    target: str
    install: str
    token_type: str
    generation: int
    expires_in_seconds: int


@contextmanager
def sandbox_broker(log: Path) -> Iterator[SandboxBroker]:
    """A broker with one install, until the end of the block. What it says besides goes to `log`.

    Raises:
        SandboxFailedError: it did not start in time.
    """
    # Settings of whoever runs this could lead it to the real Envoy.
    env = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_BROKER_")}
    with (
        log.open("w", encoding="utf-8") as said,
        subprocess.Popen(  # noqa: S603 - the project's own command
            _COMMAND, stdout=subprocess.PIPE, stderr=said, text=True, env=env
        ) as process,
    ):
        try:
            yield _once_up(process, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _once_up(process: subprocess.Popen[str], log: Path) -> SandboxBroker:
    too_late = Timer(START_SECONDS, process.terminate)
    too_late.start()
    try:
        line = process.stdout.readline() if process.stdout else ""
    finally:
        too_late.cancel()
    if not line:
        raise SandboxFailedError(log.read_text(encoding="utf-8"))
    seen = json.loads(line)
    return SandboxBroker(
        target=seen["grpc"],
        install=seen["install_id"],
        token_type=seen["token_type"],
        generation=seen["generation"],
        expires_in_seconds=seen["expires_in"],
    )
