"""Replicas killed at every step of the refresh protocol: the others' callers get a live token, and none is spent twice.

No replica sweeps here, so that it is the victim that takes the claim.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc.aio
import pytest
import pytest_asyncio

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.replicas import NEVER, Replica
from tests.acceptance.scene import A_MINUTE, MINTED, PAST_EXPIRY, REFRESHED, Call, Scene, scene
from tests.acceptance.serve_with_crash_points import SIGNAL_AT
from tokenbroker.v1.token_broker_pb2 import GetTokenResponse

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROTATIONS: Final = ("strict", "family_revoked", "grace", "none")
THE_STRICT: Final = ("strict", "family_revoked")
FAILED: Final[Call] = ("refresh_token", "not_processed")
REFUSED: Final[Call] = ("refresh_token", "invalid_grant")


@dataclass(frozen=True)
class Death:
    """Where the victim is killed, and all that Envoy is asked from then on, by the victim and by those after it.

    Attributes:
        first_answer: how Envoy behaves for one request before that.
    """

    step: str
    calls: tuple[Call, ...]
    first_answer: dict[str, Any] = field(default_factory=dict)
    rotations: tuple[str, ...] = THE_STRICT


_FAILURE: Final = {"status": 500}
_REFUSAL: Final = {"refuse": "grant"}
DEATHS: Final = (
    # Nothing had been sent, and nothing had been written that says so.
    Death("claim:before", (REFRESHED,)),
    Death("claim:uncommitted", (REFRESHED,)),
    # The intent stands: nobody knows whether anything was sent.
    Death("claim:after", (MINTED,)),
    Death("send:before", (MINTED,)),
    # Envoy has rotated, and the pair is lost.
    Death("send:after_answer", (REFRESHED, MINTED), rotations=ROTATIONS),
    Death("keep:before", (REFRESHED, MINTED)),
    Death("keep:uncommitted", (REFRESHED, MINTED)),
    # The pair is stored: the others take it.
    Death("keep:after", (REFRESHED,), rotations=ROTATIONS),
    # Envoy failed, so that the outcome is unknown, whether that was written or not.
    Death("resolve:before", (FAILED, MINTED), _FAILURE),
    Death("resolve:uncommitted", (FAILED, MINTED), _FAILURE),
    Death("resolve:after", (FAILED, MINTED), _FAILURE, rotations=ROTATIONS),
    # Envoy refused the refresh token, and the attempt was about to mint, or had.
    Death("send:before@2", (REFUSED, MINTED), _REFUSAL),
    Death("send:after_answer@1", (REFUSED, MINTED, MINTED), _REFUSAL),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def survivors(postgres: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[Scene]:
    """Two replicas that outlive every victim."""
    async with scene(postgres, migrated_template, 2, SWEEP_SECONDS=NEVER) as set_up:
        yield set_up


@pytest.mark.parametrize(
    ("death", "rotation"),
    [
        pytest.param(death, rotation, id=f"{death.step}-{rotation}")
        for death in DEATHS
        for rotation in death.rotations
    ],
)
async def test_f01_killed_at_a_step_its_install_lives_on(
    survivors: Scene, death: Death, rotation: str
) -> None:
    """Whatever Envoy does with a spent token, and whatever the victim had done: a live token, and no second spend."""
    install_id = await survivors.installed(rotation=rotation)
    async with survivors.replicas.one_more(**{SIGNAL_AT: death.step}) as victim:
        if death.first_answer:
            await survivors.envoy.behave(install_id, remaining=1, **death.first_answer)
        await survivors.time_passes(PAST_EXPIRY, install_id)
        with pytest.raises(grpc.aio.AioRpcError):
            await victim.get_token(install_id)
        assert (await victim.ended()).code == -signal.SIGKILL
    await survivors.time_passes(A_MINUTE, install_id)
    assert await survivors.ask(install_id) == 2
    assert await survivors.calls(install_id) == list(death.calls)
    await survivors.nothing_presented_wrongly(install_id)


@pytest.mark.parametrize("rotation", ROTATIONS)
async def test_f01_killed_after_envoy_rotated_and_before_the_answer_came(
    survivors: Scene, rotation: str
) -> None:
    """The answer to nobody: Envoy has spent the token, and whoever knew has gone."""
    install_id = await survivors.installed(rotation=rotation)
    async with survivors.replicas.one_more() as victim:
        await survivors.envoy.behave(install_id, held="after_processing", remaining=1)
        await survivors.time_passes(PAST_EXPIRY, install_id)
        call = asyncio.create_task(_call(victim, install_id))
        await survivors.envoy.ledger(install_id=install_id, await_requests=2, until="processed")
        victim.kill()
        await victim.ended()
        assert isinstance(await call, grpc.aio.AioRpcError)
    await survivors.time_passes(A_MINUTE, install_id)
    assert await survivors.ask(install_id) == 2
    await survivors.envoy.release()
    assert await survivors.calls(install_id) == [REFRESHED, MINTED]
    await survivors.nothing_presented_wrongly(install_id)


@pytest.mark.parametrize("rotation", THE_STRICT)
async def test_f49_envoy_processes_a_dead_senders_refresh_after_the_survivors_mint(
    survivors: Scene, rotation: str
) -> None:
    """It lay in a queue of Envoy's: the stored pair outlives it."""
    install_id = await survivors.installed(rotation=rotation)
    await _killed_while_envoy_holds_its_request(survivors, install_id)
    assert await survivors.ask(install_id) == 2
    await survivors.envoy.release()
    await survivors.envoy.ledger(install_id=install_id, await_requests=3, until="answered")
    assert await survivors.ask(install_id) == 2
    assert await survivors.calls(install_id) == [REFRESHED, MINTED]
    await survivors.time_passes(PAST_EXPIRY, install_id)
    async with survivors.replicas.one_more() as other:
        assert await survivors.ask(install_id, of=[other]) == 3
    assert await survivors.calls(install_id) == [REFRESHED, MINTED, REFRESHED]
    await survivors.nothing_presented_wrongly(install_id)


async def test_f49_stored_pair_that_a_dead_senders_mint_killed_is_mended_by_the_first_report(
    survivors: Scene,
) -> None:
    """Where a mint revokes what was issued before, nobody here can see it; a caller that gets 401 can."""
    install_id = await survivors.installed(mint_invalidates_earlier=True)
    await survivors.envoy.behave(install_id, remaining=1, **_FAILURE)
    await survivors.time_passes(PAST_EXPIRY, install_id)
    with pytest.raises(grpc.aio.AioRpcError):
        await survivors.replicas[0].get_token(install_id)
    await survivors.time_passes(A_MINUTE, install_id)
    await _killed_while_envoy_holds_its_request(survivors, install_id, requests=3)
    assert await survivors.ask(install_id) == 2
    await survivors.envoy.release()
    await survivors.envoy.ledger(install_id=install_id, await_requests=4, until="answered")
    dead = await survivors.replicas[0].get_token(install_id)
    assert not await survivors.envoy.is_alive(dead.access_token)
    assert await survivors.replicas[0].report_rejected(install_id, dead.generation)
    assert await survivors.ask(install_id, of=[survivors.replicas[0]]) == 3
    assert await survivors.calls(install_id) == [FAILED, MINTED, MINTED, REFUSED, MINTED]
    await survivors.nothing_presented_wrongly(install_id)


async def _killed_while_envoy_holds_its_request(
    survivors: Scene, install_id: str, *, requests: int = 2
) -> None:
    """A victim asks Envoy, as the install's request of that number, and is killed; its claim runs out."""
    async with survivors.replicas.one_more() as victim:
        await survivors.envoy.behave(install_id, held="before_processing", remaining=1)
        await survivors.time_passes(PAST_EXPIRY, install_id)
        call = asyncio.create_task(_call(victim, install_id))
        await survivors.envoy.ledger(install_id=install_id, await_requests=requests)
        victim.kill()
        await victim.ended()
        await call
    await survivors.time_passes(A_MINUTE, install_id)


async def _call(replica: Replica, install_id: str) -> GetTokenResponse | grpc.aio.AioRpcError:
    """What a caller gets who may see the replica die."""
    try:
        return await replica.get_token(install_id)
    except grpc.aio.AioRpcError as error:
        return error
