"""Scheduler: what is due is refreshed though nobody asks, by replicas that need no agreement."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Final

import pytest

from broker.domain.freshness import DUE_JITTER_SHARE, DUE_SHARE
from broker.domain.identifiers import InstallKey
from broker.service.scheduler import WINDOW
from tests.fakes.replica import BOUNDS, Replica, World, grantee
from tests.fakes.samples import ACCESS_LIFE, APP

# All fall due at once. Fewer than the catalogue's 50,000: what is judged is the rate and the order, not the amount.
INSTALLS: Final = 3_000
CALLS_PER_SECOND: Final = 50
REPLICAS: Final = 3
SECOND: Final = timedelta(seconds=1)


async def swept(world: World, replicas: Sequence[Replica], *, until: int) -> None:
    """Let their schedulers run until Envoy has been asked so often."""
    sweeping = [asyncio.create_task(each.scheduler.run()) for each in replicas]

    async def asked() -> None:
        while len(world.requests) < until:
            await world.clock.sleep(SECOND / 10)

    await world.clock.run(asked())
    for task in sweeping:
        task.cancel()
    await asyncio.gather(*sweeping, return_exceptions=True)
    await world.clock.run(asyncio.gather(*(each.refresher.drain() for each in replicas)))


async def installed(world: World, count: int) -> list[InstallKey]:
    """So many installs, whose tokens are all due."""
    keys = [InstallKey(APP.plugin_id, str(1_000_000 + number)) for number in range(count)]
    for key in keys:
        await world.install(key)
    world.clock.advance(ACCESS_LIFE * DUE_SHARE)
    return keys


async def test_f16_many_installs_due_at_once_keep_the_budget_and_none_starves(world: World) -> None:
    """Three replicas sweep one backlog: each install is refreshed once, and no second sees more than the budget."""
    keys = await installed(world, INSTALLS)
    bounds = replace(BOUNDS, calls_per_second=CALLS_PER_SECOND)
    began = world.clock.now()
    await swept(world, [Replica(world, bounds=bounds) for _ in range(REPLICAS)], until=INSTALLS)
    assert len(set(world.presented)) == len(world.requests) == INSTALLS
    assert {world.table.rows[key].install.generation for key in keys} == {2}
    seconds = Counter(int((request.sent_at - began).total_seconds()) for request in world.requests)
    # What was leased at the end of one may be spent in the next.
    assert max(seconds.values()) <= 2 * CALLS_PER_SECOND
    assert INSTALLS / CALLS_PER_SECOND * 0.9 <= max(seconds) <= INSTALLS / CALLS_PER_SECOND * 1.5


async def test_f16_installs_refreshed_together_fall_due_apart(world: World) -> None:
    """The jitter of each install and generation takes the backlog apart, so that it does not come back as one."""
    await installed(world, WINDOW)
    await swept(world, [Replica(world)], until=WINDOW)
    due_at = sorted(row.due_at for row in world.table.rows.values() if row.due_at is not None)
    spread = ACCESS_LIFE * DUE_SHARE * DUE_JITTER_SHARE
    assert due_at[-1] - due_at[0] > spread * 0.8
    assert max(later - earlier for earlier, later in pairwise(due_at)) < spread / 10


async def test_longest_overdue_installs_come_first(world: World) -> None:
    """They are the next whose callers would have to wait. A window of them is worked off before any other is read."""
    keys = await installed(world, 2 * WINDOW)
    rows = world.table.rows
    oldest = sorted(keys, key=lambda key: rows[key].due_at or world.clock.now())[:WINDOW]
    await world.clock.run(Replica(world).scheduler.sweep())
    assert {key for key in keys if rows[key].install.generation == 2} == set(oldest)


async def test_replicas_begin_apart_so_that_they_seldom_meet(world: World) -> None:
    """Where they do meet, the one that came too late reads anew, and does not go through all that the other did."""
    await installed(world, WINDOW)
    bounds = replace(BOUNDS, refreshes_in_flight=8)
    replicas = [Replica(world, bounds=bounds) for _ in range(2)]
    replicas[0].randomness.value, replicas[1].randomness.value = 0.0, 0.5
    await swept(world, replicas, until=WINDOW)
    assert len(set(world.presented)) == len(world.requests) == WINDOW
    assert sum(each.store.calls["claim"] for each in replicas) <= WINDOW * 1.5


@pytest.mark.parametrize("poisoned", [False, True], ids=["all well", "one poisoned"])
async def test_f19_poisoned_install_backs_off_alone(world: World, *, poisoned: bool) -> None:
    """It fails at every attempt. The others are refreshed as soon as without it."""
    keys = await installed(world, 20)
    replica, began = Replica(world), world.clock.now()
    if poisoned:
        replica.endpoint.poisoned = {keys[0].install_id, world.issuer.refresh_token_of(grantee(keys[0]))}
    await swept(world, [replica], until=len(keys))
    latest = max(world.table.rows[key].install.updated_at for key in keys[1:])
    assert latest - began < SECOND


async def test_f19_poisoned_install_is_asked_for_less_and_less_often(world: World) -> None:
    """Hours of failures cost tens of calls, and the circuit of the app stays closed."""
    (key,) = await installed(world, 1)
    replica = Replica(world)
    replica.endpoint.poisoned = {key.install_id, world.issuer.refresh_token_of(grantee(key))}
    sweeping = asyncio.create_task(replica.scheduler.run())
    await world.clock.run(world.clock.sleep(timedelta(hours=4)))
    sweeping.cancel()
    assert len(world.requests) < 150
    assert replica.gate.held_apps() == {}
