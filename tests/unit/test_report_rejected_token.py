"""ReportRejectedToken: Envoy said 401 to what we handed out."""

import asyncio

import pytest

from broker.domain.errors import InstallNotFound, InvalidField, ReauthorizationRequired, StoreUnavailable
from broker.domain.states import InstallState
from broker.service.report_rejected_token import Report
from tests.fakes.replica import BOUNDS, Replica, World, grantee
from tests.fakes.samples import ACCESS_LIFE, KEY
from tests.fakes.steps import settled
from tests.fakes.store_faults import Moment


async def report(replica: Replica, generation: int) -> Report:
    """As a caller does."""
    return await replica.report_rejected_token("", KEY.install_id, generation)


async def generation(replica: Replica) -> int:
    """Of the token that is handed out now."""
    return (await replica.get_token("", KEY.install_id)).holding.install.generation


async def test_f49_dead_stored_pair_is_mended_by_the_first_report(world: World, replica: Replica) -> None:
    """The next caller waits for the new pair, and is not given the dead one again."""
    await world.install()
    assert await generation(replica) == 1
    assert await report(replica, 1) == Report(invalidated=True, generation=1)
    assert await generation(replica) == 2
    assert world.grants == ["refresh_token"]


async def test_f49_many_reports_at_once_cause_one_refresh(world: World) -> None:
    """Every caller of the dead token sends one, to whichever replica."""
    await world.install()
    replicas = [Replica(world), Replica(world)]
    reports = await asyncio.gather(*(report(replicas[number % 2], 1) for number in range(100)))
    assert sum(each.invalidated for each in reports) == 1
    await settled()
    assert [await generation(each) for each in replicas] == [2, 2]
    assert len(world.requests) == 1


async def test_f49_report_of_an_older_generation_costs_nothing(world: World, replica: Replica) -> None:
    """The cache knows better: not even the database is asked."""
    await world.install()
    await replica.refresher.refresh(KEY, 1)
    calls = replica.store.calls.total()
    assert await report(replica, 1) == Report(invalidated=False, generation=2)
    assert replica.store.calls.total() == calls


async def test_f49_second_report_within_the_cool_down_refreshes_nothing(
    world: World, replica: Replica
) -> None:
    """Envoy rejects what it has just issued, or the caller is mistaken: more refreshes won't help."""
    await world.install()
    await report(replica, 1)
    assert await generation(replica) == 2
    assert not (await report(replica, 2)).invalidated
    world.clock.advance(BOUNDS.rejection_cool_down)
    assert (await report(replica, 2)).invalidated


async def test_other_replicas_hear_that_a_token_is_out_of_use(world: World) -> None:
    """By a hint; without one when they next look."""
    await world.install()
    told, other = Replica(world), Replica(world)
    assert await generation(other) == 1
    hold = told.endpoint.hold()
    await report(told, 1)
    await settled()
    asked = asyncio.create_task(generation(other))
    await settled()
    assert not asked.done()
    hold.opened.set()
    assert await world.clock.run(asked) == 2


async def test_report_that_can_not_be_stored_is_told(world: World, replica: Replica) -> None:
    """The caller may send it again."""
    await world.install()
    replica.store.faults.next("reject", Moment.BEFORE)
    with pytest.raises(StoreUnavailable):
        await report(replica, 1)
    assert (await report(replica, 1)).invalidated


async def test_report_of_what_serves_nobody_says_why(world: World, replica: Replica) -> None:
    """As GetToken would."""
    with pytest.raises(InstallNotFound):
        await report(replica, 1)
    await world.install()
    world.issuer.uninstalled.add(KEY.install_id)
    world.issuer.revoke(grantee())
    world.clock.advance(ACCESS_LIFE)
    with pytest.raises(ReauthorizationRequired):
        await generation(replica)
    with pytest.raises(ReauthorizationRequired):
        await report(replica, 1)
    await replica.store.bury(KEY)
    with pytest.raises(InstallNotFound):
        await report(replica, 1)
    assert world.table.rows[KEY].install.state is InstallState.UNINSTALLED


@pytest.mark.parametrize("wrong", [0, -1])
async def test_generation_that_was_never_handed_out_is_refused(replica: Replica, wrong: int) -> None:
    """0 is what a caller sends who forgot to set it."""
    with pytest.raises(InvalidField, match="generation"):
        await report(replica, wrong)
