"""Refresher: what it does when the database fails it, and when others hold the claim."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain.claims import Purpose
from broker.domain.errors import (
    InstallNotFound,
    NotSent,
    Overloaded,
    ProviderUnavailable,
    RetryableError,
    StoreUnavailable,
)
from broker.domain.identifiers import InstallKey
from broker.service.refresher import PATIENCE_IN_CLAIMS, POLL_INTERVAL
from tests.fakes.replica import BOUNDS, MAX_STALENESS, Replica, World
from tests.fakes.samples import KEY, OTHER_KEY, TIMING, due, route_webhook
from tests.fakes.steps import Steps, settled
from tests.fakes.store_faults import Moment

TRIES = 6
SECOND = timedelta(seconds=1)
BUSY = Overloaded("every connection is in use", SECOND)


async def test_f32_nothing_is_sent_without_a_committed_claim(world: World, replica: Replica) -> None:
    """Neither when it failed, nor when nobody knows whether it did."""
    await world.install()
    for moment in Moment:
        replica.store.faults.next("claim", moment)
        with pytest.raises(StoreUnavailable):
            await replica.refresher.refresh(KEY, 1)
    assert world.grants == []


async def test_f32_claim_of_unknown_fate_is_waited_out_and_then_minted(
    world: World, replica: Replica
) -> None:
    """Whoever holds it may have sent: we can't tell our own lost claim from another's."""
    await world.install()
    replica.store.faults.next("claim", Moment.AFTER)
    with pytest.raises(StoreUnavailable):
        await replica.refresher.refresh(KEY, 1)
    holding = await world.clock.run(replica.refresher.refresh(KEY, 1))
    assert world.grants == ["plugin_install"]
    assert world.holds_live_token(holding)


@pytest.mark.parametrize("error", [None, BUSY], ids=["away", "busy"])
@pytest.mark.parametrize("moment", Moment)
async def test_f31_pair_is_served_at_once_and_kept_again_until_it_is_stored(
    world: World, replica: Replica, moment: Moment, error: RetryableError | None
) -> None:
    """It may be the only live one, and its callers need not wait for the database; twice the same write is one."""
    await world.install()
    replica.store.faults.next("keep", moment, times=TRIES - 1, error=error)
    holding = await replica.refresher.refresh(KEY, 1)
    assert holding.install.generation == 2
    assert world.holds_live_token(holding)
    assert (await replica.get_token("", KEY.install_id)).holding.access_token == holding.access_token
    await world.clock.run(replica.refresher.drain())
    assert replica.store.calls["keep"] == TRIES
    stored = await world.clock.run(replica.refresher.refresh(KEY, 1))
    assert stored.access_token == holding.access_token
    assert stored.install.generation == 2
    assert not world.table.rows[KEY].install.in_doubt
    assert world.grants == ["refresh_token"]


async def test_f31_pair_that_is_never_stored_is_minted_past(world: World, replica: Replica) -> None:
    """The tries are bounded; what was presented is never presented again."""
    await world.install()
    replica.store.faults.next("keep", times=1000)
    holding = await replica.refresher.refresh(KEY, 1)
    await world.clock.run(replica.refresher.drain())
    assert world.holds_live_token(holding)
    survivor = Replica(world)
    minted = await world.clock.run(survivor.refresher.refresh(KEY, 1))
    assert world.grants == ["refresh_token", "plugin_install"]
    assert world.holds_live_token(minted)


async def test_f31_pair_that_only_memory_has_yields_to_what_was_minted_since(world: World) -> None:
    """P3: its process learns of the newer one when it next looks, also if both have the same generation."""
    await world.install()
    cut_off = Replica(world)
    cut_off.store.faults.next("keep", times=1000)
    await cut_off.refresher.refresh(KEY, 1)
    await world.clock.run(cut_off.refresher.drain())
    minted = await world.clock.run(Replica(world).refresher.refresh(KEY, 1))
    world.clock.advance(MAX_STALENESS)
    entry = await cut_off.get_token("", KEY.install_id)
    assert entry.holding.access_token == minted.access_token
    assert world.holds_live_token(entry.holding)


async def test_resolution_that_can_not_be_stored_is_safe(world: World, replica: Replica) -> None:
    """Its callers hear of Envoy and not of the database; the claim runs out, and the next attempt mints."""
    await world.install()
    replica.endpoint.answer(NotSent("connect_failed"))
    replica.store.faults.next("resolve")
    with pytest.raises(ProviderUnavailable):
        await replica.refresher.refresh(KEY, 1)
    holding = await world.clock.run(replica.refresher.refresh(KEY, 1))
    assert world.grants == ["refresh_token", "plugin_install"]
    assert world.holds_live_token(holding)


async def test_pair_for_a_tombstone_is_dropped(world: World) -> None:
    """F27: the app was uninstalled while Envoy answered."""
    steps = Steps()
    replica = Replica(world, steps=steps)
    await world.install()
    gate = replica.endpoint.hold()
    replica.refresher.refresh_behind(KEY, 1)
    await gate.arrived.wait()
    await Replica(world).store.bury(KEY)
    gate.opened.set()
    with pytest.raises(InstallNotFound):
        await replica.refresher.refresh(KEY, 1)
    assert world.table.rows[KEY].access_token is None


async def test_claim_that_ran_out_before_its_call_sends_nothing(world: World) -> None:
    """F21: a process that was stopped in between must not call beside its successor."""
    steps = Steps()
    replica = Replica(world, steps=steps)
    await world.install()
    steps.at("claim: done", lambda: world.clock.advance(TIMING.claim - TIMING.margin))
    with pytest.raises(ProviderUnavailable, match="claim_ran_out"):
        await replica.refresher.refresh(KEY, 1)
    assert world.grants == []
    assert not world.table.rows[KEY].install.in_doubt


async def test_f02_answer_that_does_not_come_ends_with_the_call_s_limit(
    world: World, replica: Replica
) -> None:
    """F48: past the deadline the outcome is unknown."""
    await world.install()
    gate = replica.endpoint.hold()
    caller = asyncio.create_task(replica.refresher.refresh(KEY, 1))
    await gate.arrived.wait()
    await world.clock.parked()
    world.clock.advance(TIMING.call)
    with pytest.raises(ProviderUnavailable, match="timeout"):
        await caller
    assert world.table.rows[KEY].install.in_doubt


async def test_claim_of_another_is_waited_for_and_its_pair_adopted(world: World, replica: Replica) -> None:
    """P4 over replicas: the loser reads, locks nothing, and asks Envoy for nothing."""
    await world.install()
    winner = Replica(world)
    gate = winner.endpoint.hold()
    winner.refresher.refresh_behind(KEY, 1)
    await gate.arrived.wait()
    loser = asyncio.create_task(replica.refresher.refresh(KEY, 1))
    await settled()
    world.clock.advance(POLL_INTERVAL)
    await settled()
    assert not loser.done()
    gate.opened.set()
    await winner.refresher.drain()
    world.clock.advance(POLL_INTERVAL)
    assert (await loser).install.generation == 2
    assert world.grants == ["refresh_token"]
    assert replica.store.calls["claim"] == 1


async def test_claim_of_another_that_died_ends_and_is_followed(world: World, replica: Replica) -> None:
    """F01: the waiter takes over, and mints."""
    await world.install()
    await Replica(world).store.claim(KEY, due(1))
    start = world.clock.now()
    holding = await world.clock.run(replica.refresher.refresh(KEY, 1))
    assert world.clock.now() - start == TIMING.claim
    assert world.grants == ["plugin_install"]
    assert world.holds_live_token(holding)


async def test_patience_with_the_claims_of_others_ends(world: World, replica: Replica) -> None:
    """No unbounded wait: others that keep on failing are given up on."""
    await world.install()
    start = world.clock.now()
    waiter = asyncio.create_task(replica.refresher.refresh(KEY, 1))
    while not waiter.done():
        with world.table.written(KEY) as row:
            row.install = replace(row.install, claim_ends_at=world.clock.now() + TIMING.claim)
        await settled()
        world.clock.advance(POLL_INTERVAL)
    with pytest.raises(ProviderUnavailable):
        await waiter
    assert TIMING.claim * PATIENCE_IN_CLAIMS <= world.clock.now() - start < TIMING.claim * 3
    assert world.grants == []


async def test_overload_is_shed_and_work_under_way_can_be_joined(world: World) -> None:
    """Bounded refreshes in flight; who waits for one of them costs nothing more."""
    replica = Replica(world, bounds=replace(BOUNDS, refreshes_waiting=1))
    await world.install()
    await world.install(OTHER_KEY)
    gate = replica.endpoint.hold()
    first = asyncio.create_task(replica.refresher.refresh(KEY, 1))
    await gate.arrived.wait()
    with pytest.raises(Overloaded):
        await replica.refresher.refresh(OTHER_KEY, 1)
    replica.refresher.refresh_behind(OTHER_KEY, 1)
    second = asyncio.create_task(replica.refresher.refresh(KEY, 1))
    await settled()
    gate.opened.set()
    assert await first == await second
    assert len(world.grants) == 1


async def test_f37_drain_waits_for_what_is_under_way(world: World, replica: Replica) -> None:
    """A process that is told to stop stores the pair that is on its way."""
    await world.install()
    gate = replica.endpoint.hold()
    replica.refresher.refresh_behind(KEY, 1)
    await gate.arrived.wait()
    drained = asyncio.create_task(replica.refresher.drain())
    await settled()
    assert not drained.done()
    gate.opened.set()
    await drained
    assert world.table.rows[KEY].install.generation == 2


async def test_f18_answers_never_cross(world: World, replica: Replica) -> None:
    """Fifty installs at once: each gets its own token."""
    keys = [InstallKey(KEY.plugin_id, str(number)) for number in range(50)]
    for key in keys:
        await world.install(key)
    holdings = await asyncio.gather(*(replica.refresher.refresh(key, 1) for key in keys))
    assert [holding.install.key for holding in holdings] == keys
    assert all(world.holds_live_token(holding) for holding in holdings)
    assert len(world.grants) == 50


async def test_f27_webhook_beside_a_refresh_leaves_both_generations(world: World, replica: Replica) -> None:
    """One after the other; the mint's pair is the newest and lives."""
    await world.install()
    gate = replica.endpoint.hold()
    refresh = asyncio.create_task(replica.refresher.refresh(KEY, 1))
    await gate.arrived.wait()
    exchange = asyncio.create_task(replica.refresher.exchange(route_webhook(b"again")))
    await settled()
    gate.opened.set()
    assert (await refresh).install.generation == 2
    holding = await world.clock.run(exchange)
    assert holding.install.generation == 3
    assert world.grants == ["refresh_token", "plugin_install"]
    assert world.holds_live_token(holding)


async def test_operator_may_refresh_what_is_not_due(world: World, replica: Replica) -> None:
    """Also while a failure makes the others wait."""
    await world.install()
    replica.endpoint.answer(NotSent("connect_failed"))
    with pytest.raises(ProviderUnavailable):
        await replica.refresher.refresh(KEY, 1)
    with pytest.raises(ProviderUnavailable):
        await replica.refresher.refresh(KEY, 1)
    holding = await replica.refresher.refresh(KEY, 1, Purpose.FORCED)
    assert holding.install.generation == 2
