"""Every interleaving of two replicas at the protocol's steps, and every place at which a caller may be cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from broker.domain.errors import BrokerError
from broker.domain.installs import Holding
from broker.domain.secret import Secret
from broker.domain.states import InstallState
from broker.domain.webhooks import UninstalledWebhook
from tests.concurrency.schedules import GatedSteps, Schedule, every_order, run
from tests.fakes.replica import Replica, World
from tests.fakes.samples import ACCESS_LIFE, KEY, route_webhook
from tests.fakes.steps import Steps, settled

Work = Callable[[Replica], Awaitable[object]]


async def refreshed(replica: Replica) -> object:
    """A caller finds the token expired."""
    return await replica.get_token("", KEY.install_id)


async def exchanged(replica: Replica) -> object:
    """A webhook says that the app was set up again."""
    return await replica.refresher.exchange(route_webhook(b"set up again"))


async def told_of_an_uninstall(replica: Replica) -> object:
    """A webhook says that the app was uninstalled, which is not so any more."""
    return await replica.refresher.exchange(UninstalledWebhook(KEY, b"late"))


async def deleted(replica: Replica) -> object:
    """An operator deletes the install."""
    return await replica.installs.delete("", KEY.install_id)


async def reported(replica: Replica) -> object:
    """A caller says that Envoy rejects generation 1; the refresh that follows belongs to the work."""
    # Whoever rejects a token got it here: what is remembered of the install says whether it may, without a step.
    if KEY not in replica.cache:
        clock, row = replica.world.clock, replica.world.table.rows[KEY]
        replica.cache.put(Holding(row.install, Secret("rejected"), "Bearer"), clock.now())
    report = await replica.report_rejected_token("", KEY.install_id, 1)
    await replica.refresher.drain()
    return report


async def swept(replica: Replica) -> object:
    """The scheduler finds the install due."""
    return await replica.scheduler.sweep()


async def finished(work: Work, replica: Replica) -> object:
    """What the work brings, or the broker's own words for why it brings nothing."""
    with suppress(BrokerError):
        return await work(replica)
    return None


async def told(first: Work, second: Work, schedule: Schedule) -> World:
    """Both pieces of work over an expired token, on two replicas, in the order of the schedule."""
    world = World()
    await world.install()
    world.clock.advance(ACCESS_LIFE)
    parties = [GatedSteps(), GatedSteps()]
    replicas = [Replica(world, steps=steps) for steps in parties]
    works = (first, second)
    tasks = [asyncio.ensure_future(finished(*each)) for each in zip(works, replicas, strict=True)]
    await run(schedule, world.clock, parties, tasks)
    for replica in replicas:
        drained = [asyncio.ensure_future(replica.refresher.drain())]
        await run(schedule, world.clock, parties, drained)
        assert len(replica.refresher) == 0
    return world


def assert_one_spend(world: World, schedule: Schedule) -> None:
    """P1, as the strictest Envoy sees it."""
    assert world.issuer.reused == [], schedule
    assert len(set(world.presented)) == len(world.presented), schedule


# How many calls to Envoy each pair of works may cause at the most: the first alone causes one.
PAIRS = {
    "two callers": (refreshed, refreshed, 1),
    "caller and scheduler": (refreshed, swept, 1),
    "two schedulers": (swept, swept, 1),
    "caller and webhook": (refreshed, exchanged, 2),
    "caller and late uninstall": (refreshed, told_of_an_uninstall, 2),
    "caller and report": (refreshed, reported, 2),
    "two reports": (reported, reported, 1),
    "webhook and late uninstall": (exchanged, told_of_an_uninstall, 2),
}


@pytest.mark.parametrize(("first", "second", "calls"), PAIRS.values(), ids=PAIRS)
async def test_f15_f27_every_order_of_two_works_ends_in_one_live_pair(
    first: Work, second: Work, calls: int
) -> None:
    """P1, P2 and P4: whatever the order, no token is presented twice, and the install ends with a live one."""

    async def story(schedule: Schedule) -> None:
        world = await told(first, second, schedule)
        assert_one_spend(world, schedule)
        assert len(world.grants) <= calls, schedule
        row = world.table.rows[KEY]
        assert row.install.state is InstallState.ACTIVE, schedule
        assert not row.install.in_doubt, schedule
        holding = await Replica(world).store.find_holding(KEY)
        assert holding is not None
        assert world.holds_live_token(holding), schedule

    assert await every_order(story) > 1


@pytest.mark.parametrize("work", [refreshed, exchanged, swept, reported], ids=lambda work: work.__name__)
async def test_f27_every_order_of_a_deletion_and_another_work_keeps_no_token(work: Work) -> None:
    """Who was there first decides whether there is a tombstone or, after a webhook, an install; nothing in between."""

    async def story(schedule: Schedule) -> None:
        world = await told(work, deleted, schedule)
        assert_one_spend(world, schedule)
        row = world.table.rows[KEY]
        if row.install.state is InstallState.UNINSTALLED:
            assert row.access_token is None, schedule
            assert row.refresh_token is None, schedule
        else:
            assert work is exchanged, schedule

    assert await every_order(story) > 1


async def steps_of(work: Work) -> list[str]:
    """Every step of the work when nothing goes wrong."""
    world = World()
    await world.install()
    world.clock.advance(ACCESS_LIFE)
    steps = Steps()
    await work(Replica(world, steps=steps))
    return steps.taken


@pytest.mark.parametrize("work", [refreshed, exchanged, reported], ids=lambda work: work.__name__)
async def test_f17_caller_that_is_cancelled_at_any_step_leaves_the_attempt_to_itself(work: Work) -> None:
    """The attempt goes on, its pair is stored, and nothing is left in any map."""
    for step in range(len(await steps_of(work))):
        world = World()
        await world.install()
        world.clock.advance(ACCESS_LIFE)
        steps = Steps(park_at=step)
        replica = Replica(world, steps=steps)
        caller = asyncio.ensure_future(work(replica))
        await steps.reached.wait()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        steps.resume()
        await settled()
        await replica.refresher.drain()
        assert len(replica.refresher) == 0
        holding = (await replica.get_token("", KEY.install_id)).holding
        assert world.holds_live_token(holding), steps.taken
        assert world.issuer.reused == []
