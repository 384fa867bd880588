"""`token-broker serve` that sends itself a signal at a step of the refresh protocol, or whose wall clock is wrong.

The broker knows nothing of this: here its store and its client of Envoy are replaced by ones that do the same, and
count the steps. Its scheduler finds nothing due, so that the steps are those of a caller's attempt. Run as
`python -m tests.acceptance.serve_with_crash_points`. Beside the broker's own it reads:

    TEST_SIGNAL_AT       a step: VERB:MOMENT, or VERB:MOMENT@N for the Nth time that it is reached.
                         claim, keep, resolve: before, uncommitted (all written, the transaction open), after.
                         send: before, after_answer.
    TEST_SIGNAL          what is sent there: SIGKILL, which is the default, or SIGSTOP.
    TEST_CLOCK_SECONDS   by how much the wall clock is ahead. SIGUSR1 mends it, by a step.
"""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Final
from unittest.mock import patch

import uvloop

from broker import app, serving
from broker.adapters.envoy.client import EnvoyClient
from broker.adapters.postgres.connections import Connection, Connections
from broker.adapters.postgres.store import PostgresInstallStore
from broker.domain.apps import EnvoyApp
from broker.domain.claims import BackingOff, Claim, ClaimHeld, ClaimTerms, Resolution
from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding, IssuedTokens
from broker.domain.secret import Secret
from broker.service.scheduler import Scheduler

SIGNAL_AT: Final = "TEST_SIGNAL_AT"
SIGNAL: Final = "TEST_SIGNAL"
CLOCK_SECONDS: Final = "TEST_CLOCK_SECONDS"
CLOCK_MENDED: Final = "the wall clock is right again"

# The verb whose transaction is open.
_verb: ContextVar[str] = ContextVar("verb", default="")


class _Step:
    """The step at which this process sends itself a signal."""

    def __init__(self, text: str, number: signal.Signals) -> None:
        self._name, _, times = text.partition("@")
        self._left = int(times or 1)
        self._number = number

    def reached(self, name: str) -> None:
        """`name` is reached. Returns if it is not the one, or when the process goes on."""
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._number)


_step: Final = _Step(
    os.environ.pop(SIGNAL_AT, ""), signal.Signals[os.environ.pop(SIGNAL, signal.SIGKILL.name)]
)


@contextmanager
def _within(verb: str) -> Iterator[None]:
    token = _verb.set(verb)
    _step.reached(f"{verb}:before")
    try:
        yield
    finally:
        _verb.reset(token)


class _Connections(Connections):
    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with super().transaction() as connection:
            yield connection
            _step.reached(f"{_verb.get()}:uncommitted")


class _Store(PostgresInstallStore):
    async def claim(
        self, key: InstallKey, terms: ClaimTerms, *, skip_locked: bool = False
    ) -> Claim | Holding | ClaimHeld | BackingOff:
        with _within("claim"):
            answer = await super().claim(key, terms, skip_locked=skip_locked)
        if isinstance(answer, Claim):
            _step.reached("claim:after")
        return answer

    async def keep(self, claim: Claim, issued: IssuedTokens) -> Holding:
        with _within("keep"):
            holding = await super().keep(claim, issued)
        _step.reached("keep:after")
        return holding

    async def resolve(self, claim: Claim, resolution: Resolution) -> Holding:
        with _within("resolve"):
            holding = await super().resolve(claim, resolution)
        _step.reached("resolve:after")
        return holding


class _Endpoint(EnvoyClient):
    async def refresh(self, app: EnvoyApp, refresh_token: Secret, deadline: datetime) -> IssuedTokens:
        _step.reached("send:before")
        issued = await super().refresh(app, refresh_token, deadline)
        _step.reached("send:after_answer")
        return issued

    async def mint(self, app: EnvoyApp, install_id: str, deadline: datetime) -> IssuedTokens:
        _step.reached("send:before")
        issued = await super().mint(app, install_id, deadline)
        _step.reached("send:after_answer")
        return issued


async def _nothing_due(_: Scheduler) -> int:
    return 0


class _WallClock:
    """`time.time` of a machine whose clock is wrong until it is mended."""

    def __init__(self, seconds_ahead: float) -> None:
        self._true_time = time.time
        self._seconds_ahead = seconds_ahead

    def __call__(self) -> float:
        return self._true_time() + self._seconds_ahead

    def mend(self, *_: object) -> None:
        """A step, as of a time server's first answer."""
        self._seconds_ahead = 0.0
        sys.stderr.write(f"{CLOCK_MENDED}\n")
        sys.stderr.flush()


def main() -> None:
    """Serve as `token-broker serve` does."""
    clock = _WallClock(float(os.environ.pop(CLOCK_SECONDS, "0")))
    signal.signal(signal.SIGUSR1, clock.mend)
    with (
        patch.object(time, "time", clock),
        patch.object(Scheduler, "sweep", _nothing_due),
        patch.multiple(app, Connections=_Connections, PostgresInstallStore=_Store, EnvoyClient=_Endpoint),
    ):
        uvloop.run(serving.serve(app.read_settings(os.environ)))


if __name__ == "__main__":
    main()
