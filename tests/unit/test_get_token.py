"""GetToken: what is served at once, and what is waited for, whatever fails meanwhile."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain.errors import (
    InstallNotFound,
    OutcomeUnknown,
    Overloaded,
    ProviderUnavailable,
    StoreUnavailable,
)
from broker.domain.installs import IssuedTokens
from broker.domain.states import InstallState
from broker.service.token_cache import Entry
from tests.fakes.replica import MAX_STALENESS, Replica, World
from tests.fakes.samples import ACCESS_LIFE, COMPANY, KEY, OTHER_KEY
from tests.fakes.steps import settled

# Ages of a token that lives ACCESS_LIFE.
STALE = ACCESS_LIFE * 0.7
EXPIRED = ACCESS_LIFE
SECOND = timedelta(seconds=1)
NO_TIME = timedelta(0)
BROKEN = OutcomeUnknown("http_503")


async def asked(replica: Replica, min_ttl: timedelta = NO_TIME, install_id: str = KEY.install_id) -> Entry:
    """GetToken for the one install."""
    return await replica.get_token("", install_id, min_ttl)


def generation(entry: Entry) -> int:
    """Which token set the entry holds."""
    return entry.holding.install.generation


async def test_f20_fresh_token_asks_nobody(world: World, replica: Replica) -> None:
    """The hot path: neither database nor Envoy."""
    await world.install()
    first = await asked(replica)
    replica.store.calls.clear()
    for _ in range(100):
        assert await asked(replica) is first
    assert not replica.store.calls
    assert world.grants == []


async def test_first_look_is_shared(world: World, replica: Replica) -> None:
    """A thousand callers of a process that has just started read the row once."""
    held = await world.install()
    entries = await asyncio.gather(*(asked(replica) for _ in range(1000)))
    assert {entry.holding.access_token for entry in entries} == {held.access_token}
    assert replica.store.calls == {"find_holding": 1}


async def test_stale_token_is_served_and_refreshed_behind_once(world: World, replica: Replica) -> None:
    """Nobody waits while a valid token is there; all the callers cause one refresh."""
    await world.install()
    world.clock.advance(STALE)
    entries = await asyncio.gather(*(asked(replica) for _ in range(100)))
    assert {generation(entry) for entry in entries} == {1}
    await replica.refresher.drain()
    assert world.grants == ["refresh_token"]
    assert generation(await asked(replica)) == 2


async def test_caller_of_a_stale_token_does_not_wait_for_a_slow_envoy(world: World, replica: Replica) -> None:
    """F48: patience is for those who have nothing."""
    await world.install()
    world.clock.advance(STALE)
    gate = replica.endpoint.hold()
    assert generation(await asked(replica)) == 1
    await gate.arrived.wait()
    assert generation(await asked(replica)) == 1
    gate.opened.set()
    await replica.refresher.drain()


async def test_f10_stale_token_is_served_while_envoy_fails_and_envoy_is_left_alone(
    world: World, replica: Replica
) -> None:
    """Back-off means no herd: many calls, one request, until the wait is over."""
    held = await world.install()
    world.clock.advance(STALE)
    replica.endpoint.answer(BROKEN, BROKEN)
    for _ in range(50):
        assert (await asked(replica)).holding.access_token == held.access_token
        await replica.refresher.drain()
    assert len(world.grants) == 1
    world.clock.advance(SECOND)
    for _ in range(50):
        await asked(replica)
        await replica.refresher.drain()
    assert len(world.grants) == 2


async def test_f15_expired_token_is_waited_for_by_all_and_fetched_once(
    world: World, replica: Replica
) -> None:
    """P4 within a process; all get the same generation."""
    await world.install()
    await asked(replica)
    world.clock.advance(EXPIRED)
    gate = replica.endpoint.hold()
    callers = [asyncio.create_task(asked(replica)) for _ in range(200)]
    await gate.arrived.wait()
    await settled()
    assert not any(caller.done() for caller in callers)
    gate.opened.set()
    entries = await asyncio.gather(*callers)
    assert {generation(entry) for entry in entries} == {2}
    assert world.grants == ["refresh_token"]
    assert world.holds_live_token(entries[0].holding)


async def test_f17_caller_that_gives_up_leaves_the_refresh_running(world: World, replica: Replica) -> None:
    """Its deadline is its own; the pair that is on its way is for everyone."""
    await world.install()
    world.clock.advance(EXPIRED)
    gate = replica.endpoint.hold()
    first, second = (asyncio.create_task(asked(replica)) for _ in range(2))
    await gate.arrived.wait()
    first.cancel()
    gate.opened.set()
    assert generation(await second) == 2
    assert first.cancelled()


async def test_expired_token_with_envoy_down_is_unavailable(world: World, replica: Replica) -> None:
    """P3: no token is better than a dead one; the caller is told when to come again."""
    await world.install()
    world.clock.advance(EXPIRED)
    replica.endpoint.answer(BROKEN)
    results = await asyncio.gather(*(asked(replica) for _ in range(100)), return_exceptions=True)
    waits = [each.retry_after for each in results if isinstance(each, ProviderUnavailable)]
    assert len(waits) == 100
    assert all(wait > NO_TIME for wait in waits)
    assert len(world.grants) == 1


async def test_in_doubt_token_is_served_while_a_mint_runs_behind_it(world: World, replica: Replica) -> None:
    """F02: an unknown outcome is due now, and no reason to fail a caller."""
    held = await world.install()
    await world.abandon_attempt()
    assert (await asked(replica)).holding.access_token == held.access_token
    await replica.refresher.drain()
    assert world.grants == ["plugin_install"]
    assert generation(await asked(replica)) == 2


async def test_enrolled_install_without_a_token_is_minted_for(world: World, replica: Replica) -> None:
    """P2: the exchange failed when the webhook came; the first caller sets it right."""
    await replica.store.enrol(KEY, COMPANY)
    entry = await asked(replica)
    assert entry.holding.install.state is InstallState.ACTIVE
    assert world.grants == ["plugin_install"]


async def test_f34_valid_token_is_served_while_the_store_is_away(world: World, replica: Replica) -> None:
    """Long after the cache should have looked again, as long as the token lives."""
    held = await world.install()
    await asked(replica)
    replica.store.faults.away = True
    world.clock.advance(MAX_STALENESS)
    assert (await asked(replica)).holding.access_token == held.access_token
    world.clock.advance(STALE)
    assert (await asked(replica)).holding.access_token == held.access_token
    await replica.refresher.drain()
    assert world.grants == []


async def test_f33_valid_token_is_served_while_the_pool_is_exhausted(world: World, replica: Replica) -> None:
    """Too busy is no worse than away."""
    held = await world.install()
    await asked(replica)
    world.clock.advance(MAX_STALENESS)
    replica.store.faults.next("find_holding", error=Overloaded("every connection is in use", SECOND))
    assert (await asked(replica)).holding.access_token == held.access_token


async def test_f34_expired_or_unknown_token_is_unavailable_while_the_store_is_away(
    world: World, replica: Replica
) -> None:
    """P3, and P1: without a committed claim nothing is sent."""
    await world.install()
    await world.install(OTHER_KEY)
    await asked(replica)
    replica.store.faults.away = True
    world.clock.advance(EXPIRED)
    for install_id in (KEY.install_id, OTHER_KEY.install_id):
        with pytest.raises(StoreUnavailable):
            await asked(replica, install_id=install_id)
    assert world.grants == []


async def test_f36_another_replica_s_news_is_seen_within_the_staleness(
    world: World, replica: Replica
) -> None:
    """No hint reaches this process: a refresh and a deletion are seen all the same."""
    await world.install()
    await asked(replica)
    other = Replica(world)
    await other.installs.refresh("", KEY.install_id)
    assert generation(await asked(replica)) == 1
    world.clock.advance(MAX_STALENESS)
    assert generation(await asked(replica)) == 2
    await other.installs.delete("", KEY.install_id)
    world.clock.advance(MAX_STALENESS)
    with pytest.raises(InstallNotFound):
        await asked(replica)


async def test_token_that_is_dead_on_arrival_is_not_served(world: World, replica: Replica) -> None:
    """P3: an answer that took longer than its token lives; the caller may try again."""

    def aged(pair: IssuedTokens) -> IssuedTokens:
        return replace(pair, requested_at=pair.requested_at - ACCESS_LIFE)

    await world.install()
    world.clock.advance(EXPIRED)
    replica.endpoint.answer(aged)
    with pytest.raises(ProviderUnavailable):
        await asked(replica)
    assert generation(await asked(replica)) == 3


async def test_f30_database_that_lost_the_newest_generation_is_recovered_from(
    world: World, replica: Replica
) -> None:
    """Failover to a standby: this process knows generation 2, the row is back at 1."""
    await world.install()
    before = replace(world.table.rows[KEY])
    await replica.installs.refresh("", KEY.install_id)
    world.table.rows[KEY] = before
    world.clock.advance(EXPIRED)
    entry = await asked(replica)
    assert world.holds_live_token(entry.holding)


async def test_back_off_that_another_replica_wrote_is_learnt_and_kept(world: World, replica: Replica) -> None:
    """P9: the row tells it once; until the wait is over, a call costs no transaction."""
    held = await world.install()
    assert held.install.validity is not None
    world.clock.advance(held.install.validity.refresh_due_at - world.clock.now() - SECOND)
    await asked(replica)
    world.clock.advance(SECOND)
    other = Replica(world)
    other.endpoint.answer(BROKEN)
    await asked(other)
    await other.refresher.drain()
    for _ in range(50):
        await asked(replica)
        await replica.refresher.drain()
    assert replica.store.calls["claim"] == 1
