"""F14: the name of Envoy's host is not resolved, and no error comes either."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
import pytest

from tests.acceptance.scene import PAST_EXPIRY
from tests.integration.refusals import refusal_of
from tests.integration.served_broker import served_broker
from tests.integration.served_envoy import ServedEnvoy

HOST: Final = "stalled.test"
# A call here may take a second; and what the event loop of a busy machine may be late.
SOON_SECONDS: Final = 5.0
VALID: Final = "1000000"
# More than the threads that asyncio resolves names with.
EXPIRED: Final = [str(1_000_001 + number) for number in range(40)]


@contextmanager
def resolver_that_stalls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It answers no question for that host as long as the block runs: the event loop's end waits for its threads."""
    over = threading.Event()
    resolve = socket.getaddrinfo

    def stalling(host: Any, *args: Any, **named: Any) -> Any:
        if host in {HOST, HOST.encode()}:
            over.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "over")
        return resolve(host, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", stalling)
    try:
        yield
    finally:
        over.set()


async def test_f14_stalled_resolver_costs_its_callers_a_bounded_wait_and_others_nothing(
    simulated_envoy: ServedEnvoy, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, so the intents are taken back. A valid token is served all the while."""
    async with served_broker(simulated_envoy, database, SWEEP_SECONDS="3600") as well:
        for install_id in (VALID, *EXPIRED):
            await well.installed(install_id)
            if install_id != VALID:
                well.age(install_id, PAST_EXPIRY)
    stalled_broker = served_broker(
        simulated_envoy,
        database,
        ENVOY_TOKEN_URL=f"https://{HOST}/oauth2/token",
        CALL_SECONDS="1",
        CLAIM_MARGIN_SECONDS="0.5",
        CLAIM_SECONDS="1.5",
    )
    with resolver_that_stalls(monkeypatch):
        async with stalled_broker as stalled:
            assert (await stalled.get_token(VALID)).generation == 1
            began = time.monotonic()
            waiting = [asyncio.create_task(refusal_of(stalled.get_token(each))) for each in EXPIRED]
            while not all(each.done() for each in waiting):
                assert (await stalled.get_token(VALID)).generation == 1
            assert time.monotonic() - began < SOON_SECONDS
            assert {(await each).code for each in waiting} == {grpc.StatusCode.UNAVAILABLE}
            assert {row["in_doubt"] for row in stalled.rows()} == {False}
