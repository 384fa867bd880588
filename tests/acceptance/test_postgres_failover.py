"""F30: the database fails over to a standby that lacks the newest commits. Real streaming replication, promoted."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

import grpc
import grpc.aio
import pytest

from broker import offline
from tests.acceptance.replicas import NEVER, Replica
from tests.acceptance.scene import MINTED, PAST_EXPIRY, REFRESHED, Call, Scene, scene_in
from tests.acceptance.streaming_replication import Replicated, replicated
from tests.eventually import eventually

REFUSED: Final[Call] = ("refresh_token", "invalid_grant")


@pytest.fixture
def pair() -> Iterator[Replicated]:
    """A primary and a standby with the broker's schema."""
    with replicated() as running:
        offline.migrate(running.url)
        yield running


@pytest.fixture
async def two(pair: Replicated) -> AsyncIterator[Scene]:
    """Two replicas that sweep nothing, and look at the database each second."""
    async with scene_in(pair.url, 2, SWEEP_SECONDS=NEVER, CACHE_STALENESS_SECONDS="1") as set_up:
        yield set_up


@pytest.mark.parametrize("rotation", ["strict", "family_revoked"])
async def test_f30_replica_that_knows_the_forgotten_pair_does_not_present_its_refresh_token_again(
    pair: Replicated, two: Scene, rotation: str
) -> None:
    """It serves the pair that the database has forgotten while it lives, and mints the next one."""
    knowing = two.replicas[0]
    install_id = await _refreshed_and_forgotten(pair, two, knowing, rotation)

    async def has_the_next() -> bool:
        await _is_served(knowing, install_id)
        return (await knowing.get_token(install_id)).generation == 3

    await eventually(has_the_next)
    await _is_served(two.replicas[1], install_id)
    assert await two.ask(install_id) == 3
    assert await two.calls(install_id) == [REFRESHED, MINTED]
    await two.nothing_presented_wrongly(install_id)


@pytest.mark.parametrize("rotation", ["strict", "family_revoked"])
async def test_f30_replica_that_knows_nothing_presents_it_once_and_mints(
    pair: Replicated, two: Scene, rotation: str
) -> None:
    """Nobody could tell it that the token is spent. Envoy's refusal ends in a mint within the same attempt."""
    knowing, other = two.replicas
    install_id = await _refreshed_and_forgotten(pair, two, knowing, rotation)
    knowing.kill()
    await _is_served(other, install_id)
    assert await two.ask(install_id, of=[other]) == 2
    assert await two.calls(install_id) == [REFRESHED, REFUSED, MINTED]


async def _refreshed_and_forgotten(pair: Replicated, two: Scene, by: Replica, rotation: str) -> str:
    """An install whose second pair only `by` knows: the database that it was stored in is gone."""
    install_id = await two.installed(rotation=rotation)
    await two.time_passes(PAST_EXPIRY, install_id)
    await pair.caught_up()
    pair.forget_from_now_on()
    assert await two.ask(install_id, of=[by]) == 2
    await pair.fail_over()
    assert two.row(install_id)["generation"] == 1
    return install_id


async def _is_served(replica: Replica, install_id: str) -> None:
    """Return when it hands out a token. Until it has found the new primary it says UNAVAILABLE."""

    async def is_served() -> bool:
        try:
            await replica.get_token(install_id)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    await eventually(is_served)
