"""Five replicas that sweep, and many callers: one call to Envoy for each expiry, and nobody turned away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import grpc.aio
import pytest
import pytest_asyncio

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.replicas import Replica
from tests.acceptance.scene import A_MINUTE, MINTED, PAST_DUE, PAST_EXPIRY, REFRESHED, Scene, load, scene
from tests.integration.served_broker import CALL_SECONDS
from tokenbroker.v1 import installs_pb2, installs_pb2_grpc, token_broker_pb2, token_broker_pb2_grpc

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPLICAS: Final = 5
CALLERS: Final = 10_000
CHANNELS_TO_EACH: Final = 2
INSTALLS_UNDER_LOAD: Final = 10


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(postgres: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[Scene]:
    """Five replicas whose schedulers look for what is due all the time."""
    async with scene(postgres, migrated_template, REPLICAS, SWEEP_SECONDS="0.2") as set_up:
        yield set_up


@asynccontextmanager
async def channels_to(replicas: Sequence[Replica]) -> AsyncIterator[list[tuple[Replica, grpc.aio.Channel]]]:
    """Connections of their own, as of several client processes."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        yield [
            (
                replica,
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(replica.grpc_address, options=options)
                ),
            )
            for replica in replicas
            for _ in range(CHANNELS_TO_EACH)
        ]


async def test_f15_ten_thousand_callers_of_an_expired_token_cause_one_call(crowd: Scene) -> None:
    """And the schedulers want it too. All callers wait before Envoy answers, and all get the same generation."""
    install_id = await crowd.installed(rotation="strict")
    await crowd.envoy.behave(install_id, held="after_processing", remaining=1)
    await crowd.time_passes(PAST_EXPIRY, install_id)
    request = token_broker_pb2.GetTokenRequest(install_id=install_id)
    async with channels_to(list(crowd.replicas)) as channels:
        calls = []
        for _, channel in channels:
            stub = token_broker_pb2_grpc.TokenBrokerStub(channel)
            calls += [
                stub.GetToken(request, timeout=2 * CALL_SECONDS) for _ in range(CALLERS // len(channels))
            ]
        await asyncio.gather(*(_all_are_read(channel, install_id) for _, channel in channels))
        assert [(await call.code(), await call.details()) for call in calls if call.done()] == []
        await crowd.envoy.release()
        replies = await asyncio.gather(*calls)
    assert len(replies) == CALLERS
    assert {reply.generation for reply in replies} == {2}
    assert len({reply.access_token for reply in replies}) == 1
    await crowd.lives(replies[0])
    assert await crowd.calls(install_id) == [REFRESHED]
    await crowd.nothing_presented_wrongly(install_id)


async def test_f38_killed_under_load_fails_no_call_at_the_others_and_loses_no_install(crowd: Scene) -> None:
    """The victim dies amid several refreshes. Tokens still valid are served; the schedulers then mend what it left."""
    installs = [await crowd.installed(rotation="strict") for _ in range(INSTALLS_UNDER_LOAD)]
    for install_id in installs:
        await crowd.envoy.behave(install_id, held="after_processing", remaining=1)
    await crowd.time_passes(PAST_DUE, *installs)
    for install_id in installs:
        await crowd.envoy.ledger(install_id=install_id, await_requests=2, until="processed")
    number, lost = _busiest(crowd, installs)
    others = [replica for replica in crowd.replicas if replica is not crowd.replicas[number]]
    async with load(others, installs):
        crowd.replicas[number].kill()
        await crowd.replicas[number].ended()
        await crowd.envoy.release()
        await crowd.time_passes(A_MINUTE, *lost)
        await crowd.stored(2, *installs)
    await crowd.replicas.restart(number)
    for install_id in installs:
        assert await crowd.ask(install_id, callers=2) == 2
        expected = [REFRESHED, MINTED] if install_id in lost else [REFRESHED]
        assert await crowd.calls(install_id) == expected
    await crowd.nothing_presented_wrongly(*installs)


async def _all_are_read(channel: grpc.aio.Channel, install_id: str) -> None:
    """Return when the server has read every call that was sent on `channel`: it answers one sent behind them."""
    request = installs_pb2.GetInstallRequest(install_id=install_id)
    await installs_pb2_grpc.InstallsStub(channel).GetInstall(request, timeout=2 * CALL_SECONDS)


def _busiest(crowd: Scene, installs: Sequence[str]) -> tuple[int, list[str]]:
    """The number of the replica that fetches pairs for most of the installs now, and for which."""
    owners = {install_id: crowd.row(install_id)["claim_owner"] for install_id in installs}
    by_replica = [
        [install_id for install_id, owner in owners.items() if owner.endswith(f":{replica.process.pid}")]
        for replica in crowd.replicas
    ]
    number = max(range(len(by_replica)), key=lambda each: len(by_replica[each]))
    return number, by_replica[number]
