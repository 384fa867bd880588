"""A replica that loses its database in the middle of the protocol, while the others don't."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from broker.sandbox.embedded_postgres import EmbeddedPostgres
from tests.acceptance.replicas import NEVER, Replica
from tests.acceptance.scene import A_MINUTE, MINTED, PAST_EXPIRY, REFRESHED, Call, Scene, scene
from tests.acceptance.serve_with_crash_points import SIGNAL, SIGNAL_AT
from tests.eventually import eventually
from tests.fault_proxy import FaultProxy, Moment, fault_proxy, proxied, target_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATABASE_SECONDS: Final = "0.5"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def others(postgres: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[Scene]:
    """Two replicas with a database. They sweep nothing, so that it is the third which takes the claim."""
    async with scene(postgres, migrated_template, 2, SWEEP_SECONDS=NEVER) as set_up:
        yield set_up


@asynccontextmanager
async def behind_a_proxy(others: Scene, **variables: str) -> AsyncIterator[tuple[Replica, FaultProxy]]:
    """One replica more, which reaches the database by way of a proxy. It stops where `variables` say."""
    async with fault_proxy(target_of(others.database)) as proxy:
        environ = {
            "TOKEN_BROKER_DATABASE_URL": proxied(others.database, proxy),
            "TOKEN_BROKER_DATABASE_SECONDS": DATABASE_SECONDS,
            SIGNAL: signal.SIGSTOP.name,
        }
        async with others.replicas.one_more(**environ, **variables) as replica:
            yield replica, proxy


@pytest.mark.parametrize(
    ("moment", "expected"), [(Moment.BEFORE, REFRESHED), (Moment.AFTER, MINTED)], ids=["lost", "committed"]
)
async def test_f32_claim_whose_commit_is_unknown_sends_nothing(
    others: Scene, moment: Moment, expected: Call
) -> None:
    """If it was committed, the others must think that something was sent, and mint; else the old token is good."""
    install_id = await others.installed(rotation="family_revoked")
    async with behind_a_proxy(others, **{SIGNAL_AT: "claim:uncommitted"}) as (cut_off, proxy):
        call = await _stopped_at_the_commit(others, install_id, cut_off)
        proxy.cut_at(b"COMMIT", moment)
        cut_off.resume()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await others.calls(install_id) == []
        await others.time_passes(A_MINUTE, install_id)
        assert await others.ask(install_id, of=[*others.replicas, cut_off]) == 2
    assert await others.calls(install_id) == [expected]
    await others.nothing_presented_wrongly(install_id)


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER], ids=["lost", "committed"])
async def test_f31_pair_whose_commit_is_unknown_is_handed_out_and_stored_once(
    others: Scene, moment: Moment
) -> None:
    """Its caller waits for nothing; the database is told again, and knows it when it has heard it before."""
    install_id = await others.installed(rotation="family_revoked")
    async with behind_a_proxy(others, **{SIGNAL_AT: "keep:uncommitted"}) as (cut_off, proxy):
        call = await _stopped_at_the_commit(others, install_id, cut_off)
        proxy.cut_at(b"COMMIT", moment)
        cut_off.resume()
        assert await call == 2
        await others.stored(2, install_id)
        assert await others.ask(install_id, of=[*others.replicas, cut_off]) == 2
    assert await others.calls(install_id) == [REFRESHED]
    await others.nothing_presented_wrongly(install_id)


async def test_f32_pair_of_a_partitioned_replica_is_handed_out_and_gives_way_to_the_later_one(
    others: Scene,
) -> None:
    """Past its claim's end the others mint. When it can tell the database at last, one mint more makes sure."""
    install_id = await others.installed(rotation="family_revoked")
    async with behind_a_proxy(others) as (cut_off, proxy):
        await others.envoy.behave(install_id, held="after_processing", remaining=1)
        await others.time_passes(PAST_EXPIRY, install_id)
        call = asyncio.create_task(others.ask(install_id, of=[cut_off]))
        await others.envoy.ledger(install_id=install_id, await_requests=2, until="processed")
        proxy.freeze()
        await others.envoy.release()
        assert await call == 2
        await others.time_passes(A_MINUTE, install_id)
        assert await others.ask(install_id) == 2
        proxy.thaw()

        async def is_minted_anew() -> bool:
            # The late pair has lost the fence and left the install in doubt: who asks is served, and a mint begins.
            return await others.ask(install_id, of=[cut_off], callers=1) == 3

        await eventually(is_minted_anew)
        await others.stored(3, install_id)
    assert await others.calls(install_id) == [REFRESHED, MINTED, MINTED]
    await others.nothing_presented_wrongly(install_id)


async def _stopped_at_the_commit(others: Scene, install_id: str, replica: Replica) -> "asyncio.Task[int]":
    """A caller wants an expired token there, and the process stands still before it commits."""
    await others.time_passes(PAST_EXPIRY, install_id)
    call = asyncio.create_task(others.ask(install_id, of=[replica], callers=1))
    await replica.stopped()
    return call
