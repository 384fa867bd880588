"""Envoy answers 429: every replica holds its calls, valid tokens are served all the while."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio
import psycopg
import pytest

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.replicas import NEVER, UNHEARD, Replica
from tests.acceptance.scene import PAST_DUE, PAST_EXPIRY, REFRESHED, Call, Scene, load, scene
from tests.eventually import eventually
from tests.integration.refusals import Refusal, read_refusal
from tests.integration.served_envoy import APP

REPLICAS: Final = 3
EXPIRED_INSTALLS: Final = 6
RETRY_AFTER_SECONDS: Final = 2
SOON_SECONDS: Final = 5
LIMITED: Final[Call] = ("refresh_token", "not_processed")

_IS_HELD: Final = """
SELECT open_until > clock_timestamp() FROM token_broker.provider_health WHERE plugin_id = %(plugin_id)s
"""


@pytest.fixture
async def three(postgres: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[Scene]:
    """Three replicas that sweep, with calls enough a second."""
    async with scene(
        postgres, migrated_template, REPLICAS, SWEEP_SECONDS="0.1", ENVOY_CALLS_PER_SECOND="200"
    ) as set_up:
        yield set_up


async def test_f09_retry_after_holds_every_replicas_calls_and_then_all_are_served(three: Scene) -> None:
    """One replica has been told. Schedulers and callers of three hold, for as long as Envoy asked for."""
    behaviour = {"status": 429, "retry_after_seconds": RETRY_AFTER_SECONDS}
    valid, *expired = await _limited(three, behaviour)
    rounds = 0
    async with load(three.replicas, [valid]):
        while True:
            waits = [await _told_to_wait(replica, each) for replica in three.replicas for each in expired]
            calls = await _calls(three, [valid, *expired])
            if not await _held(three):
                break  # Perhaps some of this came later.
            assert calls == [LIMITED]
            assert 0 < min(waits) <= max(waits) <= RETRY_AFTER_SECONDS
            rounds += 1
        await three.stored(2, valid, *expired)
    assert rounds > 0
    for install_id in expired:
        assert await three.ask(install_id) == 2
    # Nothing was spent by the refusal: the same refresh tokens bought the new pairs.
    assert Counter(await _calls(three, [valid, *expired])) == {LIMITED: 1, REFRESHED: 1 + EXPIRED_INSTALLS}
    await three.nothing_presented_wrongly(*expired)


async def test_f09_without_retry_after_every_replica_holds_too(three: Scene) -> None:
    """For a time of their own choice, which they share."""
    valid, *expired = await _limited(three, {"status": 429})
    async with load(three.replicas, [valid]):
        rounds = 0
        while True:
            waits = [await _told_to_wait(replica, each) for replica in three.replicas for each in expired]
            calls = await _calls(three, [valid, *expired])
            if not await _held(three):
                break
            assert calls == [LIMITED]
            assert min(waits) > 0
            rounds += 1
    assert rounds > 0


async def test_f09_replica_turned_away_during_anothers_probe_calls_again_soon_after_it_succeeded(
    postgres: EmbeddedPostgres, migrated_template: str
) -> None:
    """What stands in the database meanwhile it hands out at once. It hears no hint, and has no scheduler."""
    settings = {"SWEEP_SECONDS": NEVER, "DATABASE_DIRECT_URL": UNHEARD}
    async with scene(postgres, migrated_template, 2, **settings) as two:
        prober, other = two.replicas
        probed, waiting = [await two.installed(rotation="strict") for _ in range(2)]
        await two.envoy.behave(probed, remaining=1, status=429, retry_after_seconds=1)
        await two.time_passes(PAST_EXPIRY, probed, waiting)
        for replica in (prober, other):
            assert await _told_to_wait(replica, probed) > 0
        await eventually(lambda: _free(two))
        await two.envoy.behave(probed, remaining=1, held="after_processing")
        probe = asyncio.create_task(two.ask(probed, of=[prober]))
        await two.envoy.ledger(install_id=probed, await_requests=3, until="processed")
        for install_id in (probed, waiting):
            assert await _told_to_wait(other, install_id) > 0
        await two.envoy.release()
        assert await probe == 2
        assert await two.ask(probed, of=[other]) == 2

        async def is_served() -> bool:
            return await _told_to_wait(other, waiting) == 0

        await eventually(is_served, SOON_SECONDS)
        assert await two.calls(probed) == [LIMITED, REFRESHED]
        await two.nothing_presented_wrongly(probed, waiting)


async def _limited(three: Scene, behaviour: dict[str, Any]) -> list[str]:
    """Installs, for the second of which Envoy has just answered so. The first has a valid token still."""
    installs = [await three.installed() for _ in range(1 + EXPIRED_INSTALLS)]
    valid, first, *others = installs
    await three.envoy.behave(first, remaining=1, **behaviour)
    await three.time_passes(PAST_EXPIRY, first)
    await eventually(lambda: _known_to_all(three, first))
    await three.time_passes(PAST_EXPIRY, *others)
    await three.time_passes(PAST_DUE, valid)
    return installs


async def _known_to_all(three: Scene, limited: str) -> bool:
    """Whether each replica has heard that calls are held; till then it may spend what it has leased."""
    told = [await _refused(replica, limited) for replica in three.replicas]
    return all(refusal is not None and "is not being called" in refusal.message for refusal in told)


async def _held(three: Scene) -> bool:
    async with await psycopg.AsyncConnection.connect(three.database) as connection:
        row = await (await connection.execute(_IS_HELD, {"plugin_id": APP.plugin_id})).fetchone()
    return bool(row and row[0])


async def _free(two: Scene) -> bool:
    return not await _held(two)


async def _calls(three: Scene, installs: list[str]) -> list[Call]:
    """What Envoy has been asked for these installs since their first pairs."""
    return [call for install_id in installs for call in await three.calls(install_id)]


async def _told_to_wait(replica: Replica, install_id: str) -> float:
    """How many seconds a caller is told to wait, who gets no token; 0 if there is one."""
    refusal = await _refused(replica, install_id)
    return refusal.retry_after.total_seconds() if refusal is not None and refusal.retry_after else 0.0


async def _refused(replica: Replica, install_id: str) -> Refusal | None:
    """How a caller is told to wait; None if there is a token."""
    try:
        await replica.get_token(install_id)
    except grpc.aio.AioRpcError as error:
        refusal = read_refusal(error)
        if refusal.code is not grpc.StatusCode.UNAVAILABLE or refusal.retry_after is None:
            raise
        return refusal
    return None
