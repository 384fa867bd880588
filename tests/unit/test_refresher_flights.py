"""Refresher: who shares an attempt with whom, and what those learn who come later."""

import asyncio

import pytest
import structlog

from broker.domain.claims import Purpose
from broker.domain.errors import (
    ClientCredentialsRefused,
    ClientRefused,
    OutcomeUnknown,
    ProviderUnavailable,
    SealBroken,
)
from broker.domain.installs import Holding
from broker.domain.states import InstallState
from tests.fakes.replica import Replica, World, grantee
from tests.fakes.samples import KEY
from tests.fakes.store_faults import Moment


async def test_operator_is_not_held_up_by_a_due_refresh_in_its_back_off(
    world: World, replica: Replica
) -> None:
    """RefreshInstall is how a person mends an install; it must reach Envoy while callers back off."""
    await world.install()
    replica.endpoint.answer(OutcomeUnknown("status_503"))
    with pytest.raises(ProviderUnavailable):
        await replica.refresher.refresh(KEY, 1)
    with pytest.raises(ProviderUnavailable):
        await replica.refresher.refresh(KEY, 1)
    holding = await replica.refresher.refresh(KEY, 1, Purpose.FORCED)
    assert isinstance(holding, Holding)
    assert holding.install.generation == 2


async def test_refused_client_is_told_as_such_until_it_is_tried_again(world: World, replica: Replica) -> None:
    """The second caller must not read "retry later" where only the operator can help."""
    await world.install()
    replica.endpoint.answer(ClientRefused("invalid_client"))
    for _ in range(2):
        with pytest.raises(ClientCredentialsRefused):
            await replica.refresher.refresh(KEY, 1)
    assert len(world.requests) == 1


async def test_store_that_fails_after_a_refusal_costs_no_more_than_a_mint(
    world: World, replica: Replica
) -> None:
    """Whether another was faster can't be asked then; a mint is safe either way, and nobody waits for the claim."""
    await world.install()
    world.issuer.revoke(grantee())
    replica.store.faults.next("find", Moment.BEFORE)
    holding = await replica.refresher.refresh(KEY, 1)
    assert world.grants == ["refresh_token", "plugin_install"]
    assert world.holds_live_token(holding)


async def test_uninstall_during_a_refusal_is_not_answered_by_a_mint(world: World, replica: Replica) -> None:
    """A pair minted for an install that is gone would live on at Envoy with nobody to hold it."""
    await world.install()
    world.issuer.revoke(grantee())
    gate = replica.endpoint.hold()
    refresh = asyncio.create_task(replica.refresher.refresh(KEY, 1))
    await gate.arrived.wait()
    await Replica(world).store.bury(KEY)
    gate.opened.set()
    assert (await refresh).install.state is InstallState.UNINSTALLED
    assert world.grants == ["refresh_token"]


async def test_token_that_does_not_open_is_logged_though_nobody_waits(world: World, replica: Replica) -> None:
    """Behind a stale token a refresh has no caller; without a line, the first sign would be its expiry."""
    await world.install()
    replica.store.faults.next("claim", Moment.BEFORE, error=SealBroken("does not open"))
    with structlog.testing.capture_logs() as lines:
        replica.refresher.refresh_behind(KEY, 1)
        await replica.refresher.drain()
    (line,) = [line for line in lines if line["event"] == "refresh.ended"]
    assert (line["log_level"], line["error"], line["install_id"]) == ("error", "SealBroken", KEY.install_id)
