"""Installs and BatchGetTokens: one install for operators, many for callers."""

from datetime import timedelta

import pytest

from broker.domain.errors import InstallNotFound, InvalidField
from broker.domain.states import InstallState
from broker.service.batch_get_tokens import MAX_REQUESTS, Wanted
from broker.service.token_cache import Entry
from tests.fakes.replica import Replica, World
from tests.fakes.samples import KEY, OTHER_KEY

NO_TIME = timedelta(0)


async def test_unknown_install_is_not_found(replica: Replica) -> None:
    """By each verb, and without a word to Envoy."""
    for verb in (replica.installs.get, replica.installs.refresh, replica.installs.delete):
        with pytest.raises(InstallNotFound):
            await verb("", KEY.install_id)


async def test_impossible_id_is_refused(replica: Replica) -> None:
    """By each verb, before the store is asked."""
    for verb in (replica.installs.get, replica.installs.refresh, replica.installs.delete):
        with pytest.raises(InvalidField, match="install_id"):
            await verb("", "a\nb")
    assert not replica.store.calls


async def test_operator_s_refresh_brings_a_new_generation(world: World, replica: Replica) -> None:
    """Due or not."""
    await world.install()
    assert (await replica.installs.refresh("", KEY.install_id)).generation == 2
    assert world.grants == ["refresh_token"]


async def test_install_is_told_also_when_its_history_can_not_be(world: World, replica: Replica) -> None:
    """After a refresh that has succeeded, above all: the caller must not think that it has not."""
    await world.install()
    install = await replica.installs.refresh("", KEY.install_id)
    assert [each.attempt for each in await replica.installs.history(install)] == [2, 1]
    replica.store.faults.away = True
    assert list(await replica.installs.history(install)) == []


async def test_deleted_install_is_a_tombstone_that_operators_still_see(
    world: World, replica: Replica
) -> None:
    """GetInstall answers what became of it, and no caller brings it back."""
    await world.install()
    await replica.get_token("", KEY.install_id)
    assert (await replica.installs.delete("", KEY.install_id)).state is InstallState.UNINSTALLED
    assert (await replica.installs.get("", KEY.install_id)).state is InstallState.UNINSTALLED
    with pytest.raises(InstallNotFound):
        await replica.get_token("", KEY.install_id)
    assert world.grants == []


async def test_f25_operator_brings_back_what_was_buried_by_mistake(world: World, replica: Replica) -> None:
    """No webhook would come again; Envoy is asked, and what it says holds."""
    await world.install()
    await replica.installs.delete("", KEY.install_id)
    assert (await replica.installs.refresh("", KEY.install_id)).state is InstallState.ACTIVE
    assert world.holds_live_token((await replica.get_token("", KEY.install_id)).holding)
    assert world.grants == ["plugin_install"]


async def test_batch_gives_each_request_its_own_result_in_order(world: World, replica: Replica) -> None:
    """One bad request does not spoil the others."""
    await world.install()
    wanted = [
        Wanted("", KEY.install_id, NO_TIME),
        Wanted("", OTHER_KEY.install_id, NO_TIME),
        Wanted("", "a\nb", NO_TIME),
        Wanted("", KEY.install_id, -timedelta(seconds=1)),
        Wanted("", KEY.install_id, NO_TIME),
    ]
    results = await replica.batch_get_tokens(wanted)
    assert [type(result) for result in results] == [Entry, InstallNotFound, InvalidField, InvalidField, Entry]


@pytest.mark.parametrize("count", [0, MAX_REQUESTS + 1])
async def test_batch_of_none_or_too_many_is_refused(replica: Replica, count: int) -> None:
    """Bounded work for one call."""
    with pytest.raises(InvalidField, match="requests"):
        await replica.batch_get_tokens([Wanted("", "1", NO_TIME)] * count)
