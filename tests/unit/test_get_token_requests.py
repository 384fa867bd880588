"""GetToken: what may be asked for, and of which installs."""

from datetime import timedelta

import pytest

from broker.domain.apps import Apps
from broker.domain.errors import InstallNotFound, InvalidField, ReauthorizationRequired
from broker.service.token_cache import Entry
from tests.fakes.replica import Replica, World, grantee
from tests.fakes.samples import ACCESS_LIFE, APP, KEY, OTHER_APP, OTHER_KEY

EXPIRED = ACCESS_LIFE
SECOND = timedelta(seconds=1)


async def asked(
    replica: Replica, min_ttl: timedelta = timedelta(0), install_id: str = KEY.install_id
) -> Entry:
    """GetToken for the one install."""
    return await replica.get_token("", install_id, min_ttl)


def generation(entry: Entry) -> int:
    """Which token set the entry holds."""
    return entry.holding.install.generation


@pytest.mark.parametrize("min_ttl", [-timedelta(microseconds=1), -SECOND, timedelta.min])
async def test_negative_min_ttl_is_refused(world: World, replica: Replica, min_ttl: timedelta) -> None:
    """Whether the token is cached or not."""
    await world.install()
    for _ in range(2):
        with pytest.raises(InvalidField, match="min_ttl"):
            await asked(replica, min_ttl)
        await asked(replica)


@pytest.mark.parametrize("min_ttl", [ACCESS_LIFE * 0.51, ACCESS_LIFE, timedelta.max])
async def test_min_ttl_of_more_than_half_a_lifetime_is_refused(
    world: World, replica: Replica, min_ttl: timedelta
) -> None:
    """A caller that asks for it would fetch a new token at nearly every call."""
    await world.install()
    for _ in range(2):
        with pytest.raises(InvalidField, match="min_ttl"):
            await asked(replica, min_ttl)
        await asked(replica)
    assert world.grants == []


async def test_min_ttl_that_is_met_costs_nothing(world: World, replica: Replica) -> None:
    """The cached token has enough left."""
    await world.install()
    first = await asked(replica)
    replica.store.calls.clear()
    assert await asked(replica, ACCESS_LIFE / 2) is first
    assert not replica.store.calls


async def test_min_ttl_that_is_not_met_is_waited_for(world: World, replica: Replica) -> None:
    """The token is not due yet, but this caller needs a longer one."""
    await world.install()
    world.clock.advance(ACCESS_LIFE * 0.55)
    assert generation(await asked(replica)) == 1
    entry = await asked(replica, ACCESS_LIFE / 2)
    assert generation(entry) == 2
    assert entry.usable_until - world.clock.now() >= ACCESS_LIFE / 2
    assert world.grants == ["refresh_token"]


async def test_unknown_install_is_not_found(world: World, replica: Replica) -> None:
    """Another one's being known changes nothing."""
    await world.install()
    for plugin_id, install_id in (("", OTHER_KEY.install_id), ("7777", KEY.install_id)):
        with pytest.raises(InstallNotFound):
            await replica.get_token(plugin_id, install_id)
    assert world.grants == []


@pytest.mark.parametrize("install_id", ["", "x" * 129, "é", "a b", "a\nb"])
async def test_impossible_id_is_refused_before_anything_is_asked(replica: Replica, install_id: str) -> None:
    """And its text is not repeated."""
    with pytest.raises(InvalidField, match="install_id"):
        await asked(replica, install_id=install_id)
    assert not replica.store.calls


async def test_several_apps_keep_their_installs_apart(world: World) -> None:
    """The same install id under another app is another install (F18)."""
    replica = Replica(world, apps=Apps([APP, OTHER_APP]))
    held = await world.install()
    entry = await replica.get_token(APP.plugin_id, KEY.install_id)
    assert entry.holding.access_token == held.access_token
    with pytest.raises(InstallNotFound):
        await replica.get_token(OTHER_APP.plugin_id, KEY.install_id)
    with pytest.raises(InvalidField, match="plugin_id"):
        await replica.get_token("", KEY.install_id)


async def test_tombstone_is_not_found(world: World, replica: Replica) -> None:
    """P3: nothing that belongs to an uninstalled app is handed out."""
    await world.install()
    await replica.store.bury(KEY)
    with pytest.raises(InstallNotFound):
        await asked(replica)


async def test_f12_refused_install_asks_for_reauthorization(world: World, replica: Replica) -> None:
    """Once Envoy has said no, nobody asks it again until the company acts."""
    await world.install()
    world.clock.advance(EXPIRED)
    world.issuer.revoke(grantee())
    world.issuer.uninstalled.add(KEY.install_id)
    for _ in range(3):
        with pytest.raises(ReauthorizationRequired):
            await asked(replica)
    assert world.grants == ["refresh_token", "plugin_install"]


async def test_f12_refused_install_s_token_is_not_served_though_it_has_not_expired(
    world: World, replica: Replica
) -> None:
    """P3: Envoy has taken back what it was issued for; this replica knows, and others when they look."""
    await world.install()
    world.clock.advance(ACCESS_LIFE * 0.7)
    world.issuer.revoke(grantee())
    world.issuer.uninstalled.add(KEY.install_id)
    assert generation(await asked(replica)) == 1
    await replica.refresher.drain()
    for each in (replica, Replica(world)):
        with pytest.raises(ReauthorizationRequired):
            await asked(each)
    assert world.grants == ["refresh_token", "plugin_install"]
