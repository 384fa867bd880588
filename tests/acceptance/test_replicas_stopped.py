"""Replicas that stand still past the end of their claim and then go on, and replicas that are asked to end."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Final

import grpc.aio
import pytest
import pytest_asyncio

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.replicas import NEVER, Replica
from tests.acceptance.scene import A_MINUTE, MINTED, PAST_DUE, PAST_EXPIRY, REFRESHED, Scene, scene
from tests.acceptance.serve_with_crash_points import SIGNAL, SIGNAL_AT
from tests.eventually import eventually
from tokenbroker.v1.token_broker_pb2 import GetTokenResponse

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT_CLAIM: Final = {
    "TOKEN_BROKER_CALL_SECONDS": "1",
    "TOKEN_BROKER_CLAIM_MARGIN_SECONDS": "0.5",
    "TOKEN_BROKER_CLAIM_SECONDS": "1.5",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def others(postgres: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[Scene]:
    """Two replicas beside the one that stops. They sweep nothing, so that it is that one which takes the claim."""
    async with scene(postgres, migrated_template, 2, SWEEP_SECONDS=NEVER) as set_up:
        yield set_up


@pytest.mark.parametrize("rotation", ["strict", "family_revoked"])
async def test_f21_pair_that_a_stopped_replica_brings_too_late_gives_way_to_the_later_one(
    others: Scene, rotation: str
) -> None:
    """The fence decides; and since two pairs are about, one mint more makes sure that the stored one lives."""
    install_id = await others.installed(rotation=rotation)
    async with others.replicas.one_more() as sleeper:
        call = await _stopped_with_the_answer_on_its_way(others, install_id, sleeper)
        assert await others.ask(install_id) == 2
        sleeper.resume()
        await others.lives(await call)
        await others.stored(3, install_id)
        assert await others.ask(install_id, of=[sleeper]) == 3
    assert await others.calls(install_id) == [REFRESHED, MINTED, MINTED]
    await others.nothing_presented_wrongly(install_id)


async def test_f21_pair_that_a_stopped_replica_brings_is_kept_while_a_later_attempt_still_runs(
    others: Scene,
) -> None:
    """It may be the only live one. Which of the two Envoy issued last nobody knows: one mint more settles it.

    Meanwhile callers may see any of the pairs. All live.
    """
    install_id = await others.installed(rotation="strict")
    async with others.replicas.one_more() as sleeper:
        call = await _stopped_with_the_answer_on_its_way(others, install_id, sleeper)
        await others.envoy.behave(install_id, held="before_processing", remaining=1)
        later = asyncio.create_task(_token(others.replicas[0], install_id))
        await others.envoy.ledger(install_id=install_id, await_requests=3)
        sleeper.resume()
        early = await call
        assert early.generation == 2
        await others.lives(early)
        await others.envoy.release()
        await others.lives(await later)

        async def is_settled() -> bool:
            await others.lives(await _token(others.replicas[0], install_id))
            return (others.row(install_id)["generation"], others.row(install_id)["in_doubt"]) == (4, False)

        await eventually(is_settled)
        assert await others.calls(install_id) == [REFRESHED, MINTED, MINTED]
    await others.nothing_presented_wrongly(install_id)


async def test_f21_replica_stopped_past_its_claims_end_before_it_sent_sends_no_more(others: Scene) -> None:
    """By its own steady clock the claim has run out; and its callers get the token that came meanwhile."""
    install_id = await others.installed(rotation="strict")
    at = {SIGNAL_AT: "claim:after", SIGNAL: signal.SIGSTOP.name}
    async with others.replicas.one_more(**at, **SHORT_CLAIM) as sleeper:
        await others.time_passes(PAST_EXPIRY, install_id)
        call = asyncio.create_task(_token(sleeper, install_id))
        await sleeper.stopped()
        # A real wait for the real end of the claim, by those who wait for a token.
        assert await others.ask(install_id) == 2
        sleeper.resume()
        await others.lives(await call)
    assert await others.calls(install_id) == [MINTED]
    await others.nothing_presented_wrongly(install_id)


async def test_f37_asked_to_end_during_a_refresh_it_stores_the_pair_and_answers_everybody(
    others: Scene,
) -> None:
    """Its own callers and those who wait at other replicas; one call to Envoy, and exit code 0."""
    install_id = await others.installed(rotation="strict")
    async with others.replicas.one_more() as ending:
        await others.envoy.behave(install_id, held="after_processing", remaining=1)
        await others.time_passes(PAST_EXPIRY, install_id)
        call = asyncio.create_task(_token(ending, install_id))
        await others.envoy.ledger(install_id=install_id, await_requests=2, until="processed")
        waiting = asyncio.create_task(others.ask(install_id))
        ending.terminate()
        await ending.logged("broker.draining")
        await others.envoy.release()
        assert (await call).generation == 2
        assert (await ending.ended()).code == 0
    assert await waiting == 2
    assert (others.row(install_id)["generation"], others.row(install_id)["in_doubt"]) == (2, False)
    assert await others.calls(install_id) == [REFRESHED]


async def test_f37_asked_to_end_during_a_refresh_that_nobody_waits_for_it_stores_the_pair(
    others: Scene,
) -> None:
    """The token is valid still, so no call holds the process up; the pair would be lost with it."""
    install_id = await others.installed(rotation="strict")
    async with others.replicas.one_more() as ending:
        await others.envoy.behave(install_id, held="after_processing", remaining=1)
        await others.time_passes(PAST_DUE, install_id)
        assert (await ending.get_token(install_id)).generation == 1
        await others.envoy.ledger(install_id=install_id, await_requests=2, until="processed")
        ending.terminate()
        await ending.logged("broker.draining")
        await others.envoy.release()
        assert (await ending.ended()).code == 0
    assert (others.row(install_id)["generation"], others.row(install_id)["in_doubt"]) == (2, False)
    assert await others.calls(install_id) == [REFRESHED]


async def test_f37_asked_twice_it_ends_at_once_and_the_others_mint(others: Scene) -> None:
    """An operator who will not wait loses a call, and no install."""
    install_id = await others.installed(rotation="strict")
    async with others.replicas.one_more() as ending:
        await others.envoy.behave(install_id, held="after_processing", remaining=1)
        await others.time_passes(PAST_EXPIRY, install_id)
        call = asyncio.create_task(_token(ending, install_id))
        await others.envoy.ledger(install_id=install_id, await_requests=2, until="processed")
        ending.terminate()
        await ending.logged("broker.draining")
        ending.terminate()
        assert (await ending.ended()).code == 1
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    await others.envoy.release()
    await others.time_passes(A_MINUTE, install_id)
    assert await others.ask(install_id) == 2
    assert await others.calls(install_id) == [REFRESHED, MINTED]
    await others.nothing_presented_wrongly(install_id)


async def _stopped_with_the_answer_on_its_way(
    others: Scene, install_id: str, sleeper: Replica
) -> "asyncio.Task[GetTokenResponse]":
    """The sleeper refreshes, and stands still when Envoy answers; then its claim ends. Returns its caller's call."""
    await others.envoy.behave(install_id, held="after_processing", remaining=1)
    await others.time_passes(PAST_EXPIRY, install_id)
    call = asyncio.create_task(_token(sleeper, install_id))
    await others.envoy.ledger(install_id=install_id, await_requests=2, until="processed")
    sleeper.stop()
    await sleeper.stopped()
    await others.envoy.release()
    await others.envoy.ledger(install_id=install_id, await_requests=2, until="answered")
    await others.time_passes(A_MINUTE, install_id)
    return call


async def _token(replica: Replica, install_id: str) -> GetTokenResponse:
    return await replica.get_token(install_id)
