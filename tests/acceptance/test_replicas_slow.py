"""Envoy is slow, and 200 callers wait at two replicas. The scale is a tenth of the settings' defaults."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.replicas import Replica
from tests.acceptance.scene import (
    MINTED,
    PAST_DUE,
    PAST_EXPIRY,
    REFRESHED,
    Call,
    Scene,
    load,
    scene,
)
from tests.eventually import eventually
from tokenbroker.v1.token_broker_pb2 import GetTokenResponse

pytestmark = pytest.mark.asyncio(loop_scope="module")

TENTH: Final = {
    "CALL_SECONDS": "3",
    "CLAIM_MARGIN_SECONDS": "0.5",
    "CLAIM_SECONDS": "4.5",
    "SWEEP_SECONDS": "0.2",
}
CALLERS_OF_EACH: Final = 100
STALE_CALLERS: Final = 5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(postgres: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[Scene]:
    """Two replicas whose schedulers look for what is due all the time."""
    async with scene(postgres, migrated_template, 2, **TENTH) as set_up:
        yield set_up


async def test_f48_slow_answer_within_the_deadline_serves_everybody_by_one_presentation(both: Scene) -> None:
    """As of 12 and of 25 seconds: a claim that is shorter than a slow call would be taken over, and the token lost."""
    installs = [await both.installed(rotation="strict") for _ in range(2)]
    for install_id, seconds in zip(installs, (1.2, 2.5), strict=True):
        await both.envoy.behave(install_id, latency_seconds=seconds)
    await both.time_passes(PAST_EXPIRY, *installs)
    callers = (both.ask(install_id, callers=CALLERS_OF_EACH) for install_id in installs)
    assert await asyncio.gather(*callers) == [2, 2]
    for install_id in installs:
        assert await both.calls(install_id) == [REFRESHED]
    await both.nothing_presented_wrongly(*installs)


async def test_f48_past_the_deadline_of_an_expired_token_its_callers_get_a_minted_one(both: Scene) -> None:
    """Nobody knows whether Envoy took the refresh token, so it is presented no more. Callers come again as told."""
    install_id = await both.installed(rotation="family_revoked")
    await both.envoy.behave(install_id, held="after_processing", remaining=1)
    await both.time_passes(PAST_EXPIRY, install_id)
    replies = await asyncio.gather(
        *(_patiently(replica, install_id) for replica in both.replicas for _ in range(CALLERS_OF_EACH))
    )
    assert {reply.generation for reply in replies} == {2}
    await both.lives(replies[0])
    await _released(both, install_id, [REFRESHED, MINTED])


async def test_f48_past_the_deadline_of_a_valid_token_nobody_gets_an_error(both: Scene) -> None:
    """The old token is served until the new one is there."""
    install_id = await both.installed(rotation="strict")
    await both.envoy.behave(install_id, held="after_processing", remaining=1)
    await both.time_passes(PAST_DUE, install_id)
    async with load(list(both.replicas) * STALE_CALLERS, [install_id]):
        assert await both.ask(install_id, callers=CALLERS_OF_EACH) == 1
        await both.stored(2, install_id)
    await _released(both, install_id, [REFRESHED, MINTED])


async def _patiently(replica: Replica, install_id: str) -> GetTokenResponse:
    """What a caller gets who asks again as long as the answer is UNAVAILABLE."""
    replies: list[GetTokenResponse] = []

    async def is_served() -> bool:
        try:
            replies.append(await replica.get_token(install_id))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        return bool(replies)

    await eventually(is_served)
    return replies[0]


async def _released(both: Scene, install_id: str, calls: list[Call]) -> None:
    """The held request goes on, and nobody is there for its answer. These were all calls, each rightly made."""
    await both.envoy.release()
    await both.envoy.ledger(install_id=install_id, await_requests=len(calls) + 1, until="answered")
    assert await both.calls(install_id) == calls
    await both.nothing_presented_wrongly(install_id)
