"""Replicas that don't hear of each other, and replicas whose clocks disagree."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Final

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.replicas import NEVER, UNHEARD, Replica, replicas
from tests.acceptance.scene import PAST_EXPIRY, REFRESHED, Scene, scene
from tests.acceptance.serve_with_crash_points import CLOCK_MENDED, CLOCK_SECONDS
from tests.eventually import eventually
from tests.integration.served_broker import CALL_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="module")

STALENESS_SECONDS: Final = 1.0
# What a call and a look at the database may take on a busy machine.
SLACK_SECONDS: Final = 0.5
FIVE_MINUTES: Final = 300
DAY_SECONDS: Final = 86_400


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deaf(postgres: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[Scene]:
    """Three replicas to which every hint is lost."""
    settings = {
        "SWEEP_SECONDS": NEVER,
        "DATABASE_DIRECT_URL": UNHEARD,
        "CACHE_STALENESS_SECONDS": str(STALENESS_SECONDS),
    }
    async with scene(postgres, migrated_template, 3, **settings) as set_up:
        yield set_up


async def test_f36_without_a_hint_a_deletion_reaches_the_others_within_the_staleness(deaf: Scene) -> None:
    """Somebody has deleted the install for a reason: nobody may get its token from a memory for long."""
    install_id = await deaf.installed()
    assert await deaf.ask(install_id) == 1
    deleter, asked_all_the_while, asked_once = deaf.replicas
    await deleter.delete(install_id)
    seconds = await _seconds_until_not_found(asked_all_the_while, install_id)
    assert seconds < STALENESS_SECONDS + SLACK_SECONDS
    # Nobody has asked the third one, which could have made it look: its first answer is right all the same.
    await asyncio.sleep(STALENESS_SECONDS - seconds)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await asked_once.get_token(install_id)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_f36_without_a_hint_a_new_generation_reaches_the_other_replica_within_the_staleness(
    deaf: Scene,
) -> None:
    """The old token may have been revoked by the one that came after it."""
    install_id = await deaf.installed()
    assert await deaf.ask(install_id) == 1
    await deaf.replicas[0].refresh(install_id)
    seconds = await _seconds_until_generation(deaf.replicas[1], install_id, 2)
    assert seconds < STALENESS_SECONDS + SLACK_SECONDS
    assert await deaf.calls(install_id) == [REFRESHED]


async def test_hint_brings_a_change_to_the_other_replica_long_before_the_staleness(deaf: Scene) -> None:
    """What the tests above take away is there otherwise."""
    install_id = await deaf.installed()
    async with replicas(
        deaf.database, deaf.envoy, 2, SWEEP_SECONDS=NEVER, CACHE_STALENESS_SECONDS=NEVER
    ) as hearing:
        assert await deaf.ask(install_id, of=list(hearing)) == 1
        await hearing[0].refresh(install_id)
        assert await _seconds_until_generation(hearing[1], install_id, 2) < CALL_SECONDS
        await hearing[0].delete(install_id)
        assert await _seconds_until_not_found(hearing[1], install_id) < CALL_SECONDS


@pytest.mark.parametrize("holder_is_ahead", [True, False])
async def test_f39_replicas_whose_clocks_are_ten_minutes_apart_agree_on_claims_and_lifetimes(
    deaf: Scene, *, holder_is_ahead: bool
) -> None:
    """A claim is longer than no such difference, and still nobody takes it over; and no token lives longer for it."""
    install_id = await deaf.installed(rotation="strict")
    async with (
        deaf.replicas.one_more(**{CLOCK_SECONDS: str(FIVE_MINUTES)}) as ahead,
        deaf.replicas.one_more(**{CLOCK_SECONDS: str(-FIVE_MINUTES)}) as behind,
    ):
        holder, other = (ahead, behind) if holder_is_ahead else (behind, ahead)
        await deaf.envoy.behave(install_id, held="after_processing", remaining=1)
        await deaf.time_passes(PAST_EXPIRY, install_id)
        held = asyncio.create_task(deaf.ask(install_id, of=[holder]))
        await deaf.envoy.ledger(install_id=install_id, await_requests=2, until="processed")
        waiting = asyncio.create_task(deaf.ask(install_id, of=[other, deaf.replicas[0]]))
        for replica in (other, deaf.replicas[0]):
            await replica.all_before_are_read(install_id)
        await deaf.envoy.release()
        assert (await held, await waiting) == (2, 2)
        await _same_lifetime(deaf, install_id, [ahead, behind, deaf.replicas[1]])
        for replica in (ahead, behind):
            replica.process.signal(signal.SIGUSR1)
            await replica.process.err.line(CLOCK_MENDED)
        await _same_lifetime(deaf, install_id, [ahead, behind])
    assert await deaf.calls(install_id) == [REFRESHED]
    await deaf.nothing_presented_wrongly(install_id)


async def _same_lifetime(deaf: Scene, install_id: str, of: list[Replica]) -> None:
    """All say that the token lives as long as it does, save for the seconds that this test takes."""
    replies = [await replica.get_token(install_id) for replica in of]
    seconds = [reply.expires_in.ToTimedelta().total_seconds() for reply in replies]
    assert DAY_SECONDS - CALL_SECONDS < min(seconds) <= max(seconds) <= DAY_SECONDS
    assert max(seconds) - min(seconds) < CALL_SECONDS
    await deaf.lives(replies[0])


async def _seconds_until_not_found(replica: Replica, install_id: str) -> float:
    """How long from now until a caller who asks there again and again is told that there is no such install."""
    begun_at = asyncio.get_running_loop().time()

    async def is_not_found() -> bool:
        try:
            await replica.get_token(install_id)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return True
        return False

    await eventually(is_not_found)
    return asyncio.get_running_loop().time() - begun_at


async def _seconds_until_generation(replica: Replica, install_id: str, generation: int) -> float:
    """How long from now until a caller who asks there again and again gets that generation."""
    begun_at = asyncio.get_running_loop().time()

    async def is_there() -> bool:
        return (await replica.get_token(install_id)).generation == generation

    await eventually(is_there)
    return asyncio.get_running_loop().time() - begun_at
