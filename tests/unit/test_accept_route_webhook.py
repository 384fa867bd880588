"""AcceptRouteWebhook: a webhook is a hint that starts an exchange, never the truth."""

import asyncio
from dataclasses import replace
from itertools import permutations

import pytest

from broker.domain.errors import (
    CallerNotAllowed,
    ClientCredentialsRefused,
    ClientRefused,
    GrantRefused,
    InstallNotFound,
    InvalidField,
    OutcomeUnknown,
    Overloaded,
    ProviderUnavailable,
    ReauthorizationRequired,
    SignatureRefused,
    StoreUnavailable,
)
from broker.domain.states import InstallState
from broker.domain.webhooks import OtherWebhook, RouteWebhook, UninstalledWebhook, Webhook
from broker.service.accept_route_webhook import Accepted, WebhookKind
from tests.fakes.replica import BOUNDS, Replica, World
from tests.fakes.samples import ACCESS_LIFE, KEY, OTHER_KEY, route_webhook
from tests.fakes.steps import settled
from tests.fakes.webhook_reader import SIGNATURE

DOWN = OutcomeUnknown("http_503")
GONE = UninstalledWebhook(KEY, b"gone")


async def delivered(replica: Replica, webhook: Webhook) -> Accepted:
    """What becomes of a webhook that Envoy sends."""
    body = repr(webhook).encode()
    replica.reader.webhooks[body] = webhook
    return await replica.accept.signed("", body, SIGNATURE)


async def test_first_webhook_brings_an_active_install(world: World, replica: Replica) -> None:
    """The main job: from here on GetToken answers from memory."""
    accepted = await delivered(replica, route_webhook())
    assert accepted.kind is WebhookKind.ROUTE
    assert accepted.install is not None
    assert (accepted.install.state, accepted.install.generation) == (InstallState.ACTIVE, 1)
    assert world.grants == ["plugin_install"]
    replica.store.calls.clear()
    entry = await replica.get_token("", KEY.install_id)
    assert world.holds_live_token(entry.holding)
    assert not replica.store.calls


async def test_f23_same_webhook_a_hundred_times_at_once_is_one_mint(world: World) -> None:
    """On two replicas; all get the same answer."""
    replicas = [Replica(world), Replica(world)]
    gates = [replica.endpoint.hold() for replica in replicas]
    deliveries = [asyncio.create_task(delivered(replicas[n % 2], route_webhook())) for n in range(100)]
    await settled()
    for gate in gates:
        gate.opened.set()
    answers = await asyncio.gather(*(world.clock.run(delivery) for delivery in deliveries))
    generations = {each.install.generation for each in answers if each.install is not None}
    assert (generations, len(answers)) == ({1}, 100)
    assert world.grants == ["plugin_install"]


async def test_f24_replayed_webhook_changes_nothing(world: World, replica: Replica) -> None:
    """Also when the install has moved on since, and on a replica that has just started."""
    await delivered(replica, route_webhook())
    await replica.installs.refresh("", KEY.install_id)
    before = world.table.rows[KEY].install
    for each in (replica, Replica(world)):
        accepted = await delivered(each, route_webhook())
        assert accepted.install == before
    assert world.grants == ["plugin_install", "refresh_token"]


@pytest.mark.parametrize("order", list(permutations([b"one", b"two", b"three"])))
async def test_f24_webhooks_in_any_order_never_lower_anything(
    world: World, replica: Replica, order: tuple[bytes, ...]
) -> None:
    """Each is a reason to ask Envoy, whose newest answer stands at the end."""
    ends = []
    for digest in (*order, *order):
        accepted = await delivered(replica, route_webhook(digest))
        assert accepted.install is not None
        assert accepted.install.validity is not None
        ends.append((accepted.install.generation, accepted.install.validity.expires_at))
    assert ends == sorted(ends)
    entry = await replica.get_token("", KEY.install_id)
    assert world.holds_live_token(entry.holding)


async def test_envoy_down_leaves_the_webhook_s_own_token(world: World, replica: Replica) -> None:
    """The installer's 24 hours are better than nothing; the exchange follows by itself."""
    replica.endpoint.answer(DOWN)
    accepted = await delivered(replica, route_webhook())
    assert accepted.install is not None
    assert accepted.install.state is InstallState.PROVISIONAL
    entry = await replica.get_token("", KEY.install_id)
    assert entry.holding.access_token == route_webhook().access_token
    world.clock.advance(ACCESS_LIFE / 2)
    await replica.get_token("", KEY.install_id)
    await replica.refresher.drain()
    entry = await replica.get_token("", KEY.install_id)
    assert entry.holding.install.state is InstallState.ACTIVE
    assert world.holds_live_token(entry.holding)
    assert world.presented == []


async def test_retried_webhook_is_accepted_while_envoy_is_down(world: World, replica: Replica) -> None:
    """Envoy's own retry must not fail where the first delivery went well."""
    replica.endpoint.answer(DOWN, DOWN)
    for _ in range(2):
        accepted = await delivered(replica, route_webhook())
        assert accepted.install is not None
        assert accepted.install.generation == 1
    assert len(world.grants) == 2


async def test_webhook_s_token_never_takes_the_place_of_another(world: World, replica: Replica) -> None:
    """Envoy is down, and there is a token set already: the sender is told to come again."""
    held = await world.install()
    replica.endpoint.answer(DOWN)
    with pytest.raises(ProviderUnavailable):
        await delivered(replica, route_webhook(b"second"))
    found = await replica.store.find_holding(KEY)
    assert found is not None
    assert found.access_token == held.access_token


async def test_webhook_s_token_does_not_revive_a_tombstone(world: World, replica: Replica) -> None:
    """F24: only Envoy's answer does."""
    await world.install()
    replica.endpoint.answer(GrantRefused("invalid_grant"), DOWN)
    await delivered(replica, GONE)
    with pytest.raises(ProviderUnavailable):
        await delivered(replica, route_webhook())
    with pytest.raises(InstallNotFound):
        await replica.get_token("", KEY.install_id)


async def test_f08_refused_client_is_reported_though_the_token_is_kept(
    world: World, replica: Replica
) -> None:
    """The operator must act; the install that has just been made keeps its 24 hours."""
    replica.endpoint.answer(ClientRefused("invalid_client"))
    with pytest.raises(ClientCredentialsRefused):
        await delivered(replica, route_webhook())
    entry = await replica.get_token("", KEY.install_id)
    assert entry.holding.access_token == route_webhook().access_token
    assert world.table.rows[KEY].install.state is InstallState.PROVISIONAL


async def test_f12_refused_exchange_is_told_and_nothing_is_kept(world: World, replica: Replica) -> None:
    """Envoy says no: the webhook's own token is not handed out either."""
    replica.endpoint.answer(GrantRefused("invalid_install"))
    with pytest.raises(ReauthorizationRequired):
        await delivered(replica, route_webhook())
    assert world.table.rows[KEY].access_token is None
    with pytest.raises(ReauthorizationRequired):
        await replica.get_token("", KEY.install_id)


@pytest.mark.parametrize("verb", ["enrol", "claim"])
async def test_f34_store_that_is_away_is_told(world: World, replica: Replica, verb: str) -> None:
    """Nothing was kept, so nothing is acknowledged: Envoy will send it again."""
    replica.store.faults.next(verb)
    with pytest.raises(StoreUnavailable):
        await delivered(replica, route_webhook())
    assert world.grants == []


async def test_overload_is_told(world: World) -> None:
    """Envoy will send it again; nothing is kept that an exchange could not follow."""
    replica = Replica(world, bounds=replace(BOUNDS, refreshes_waiting=1))
    gate = replica.endpoint.hold()
    first = asyncio.create_task(delivered(replica, route_webhook(b"first", OTHER_KEY)))
    await gate.arrived.wait()
    with pytest.raises(Overloaded):
        await delivered(replica, route_webhook())
    gate.opened.set()
    await first


@pytest.mark.parametrize("signature", ["", "wrong", SIGNATURE[:-1], SIGNATURE + "=", "é", "\0"])
async def test_f26_bad_signature_does_nothing(world: World, replica: Replica, signature: str) -> None:
    """Neither to the store nor to Envoy."""
    replica.reader.webhooks[b"body"] = route_webhook()
    with pytest.raises(SignatureRefused):
        await replica.accept.signed("", b"body", signature)
    assert not replica.store.calls
    assert world.grants == []


async def test_f29_unreadable_body_and_unknown_app_do_nothing(world: World, replica: Replica) -> None:
    """The reader's word is the service's answer."""
    with pytest.raises(InvalidField):
        await replica.accept.signed("", b"garbled", SIGNATURE)
    with pytest.raises(InstallNotFound):
        await replica.accept.signed("7777", b"garbled", SIGNATURE)
    assert not replica.store.calls
    assert world.grants == []


async def test_vouched_webhook_is_refused_by_default(world: World, replica: Replica) -> None:
    """Who may write tokens into the broker may give a company another's."""
    with pytest.raises(CallerNotAllowed):
        await replica.accept.vouched(route_webhook())
    assert not replica.store.calls
    assert world.grants == []


async def test_vouched_webhook_is_exchanged_where_callers_are_trusted(world: World) -> None:
    """The same as a signed one."""
    replica = Replica(world, bounds=replace(BOUNDS, trust_vouched_webhooks=True))
    accepted = await replica.accept.vouched(route_webhook())
    assert accepted.install is not None
    assert accepted.install.state is InstallState.ACTIVE
    assert world.grants == ["plugin_install"]


async def test_uninstall_that_envoy_confirms_leaves_a_tombstone_at_once(replica: Replica) -> None:
    """Also in this process's cache."""
    await delivered(replica, route_webhook())
    replica.endpoint.answer(GrantRefused("invalid_grant"))
    accepted = await delivered(replica, GONE)
    assert accepted.kind is WebhookKind.UNINSTALLED
    assert accepted.install is not None
    assert accepted.install.state is InstallState.UNINSTALLED
    with pytest.raises(InstallNotFound):
        await replica.get_token("", KEY.install_id)


async def test_uninstall_of_an_unknown_install_is_accepted(world: World, replica: Replica) -> None:
    """There is nothing to do, and Envoy should not send it again."""
    assert await delivered(replica, GONE) == Accepted(WebhookKind.UNINSTALLED, None)
    assert world.table.rows == {}


async def test_f25_reinstall_after_an_uninstall_is_exchanged(world: World, replica: Replica) -> None:
    """In whatever order they come, Envoy is asked, and what it says holds."""
    webhook: RouteWebhook = route_webhook()
    await delivered(replica, webhook)
    await delivered(replica, GONE)
    accepted = await delivered(replica, webhook)
    assert accepted.install is not None
    assert accepted.install.state is InstallState.ACTIVE
    world.issuer.uninstalled.add(KEY.install_id)
    await delivered(replica, GONE)
    with pytest.raises(ReauthorizationRequired):
        await delivered(replica, webhook)
    with pytest.raises(InstallNotFound):
        await replica.get_token("", KEY.install_id)


async def test_f25_uninstall_that_comes_after_the_reinstall_it_preceded_buries_nothing(
    world: World, replica: Replica
) -> None:
    """The company uninstalled and installed again; the events come in the other order. Envoy still gives a pair."""
    await delivered(replica, route_webhook(b"the first install"))
    await delivered(replica, route_webhook(b"the reinstall"))
    accepted = await delivered(replica, GONE)
    assert accepted.install is not None
    assert accepted.install.state is InstallState.ACTIVE
    assert world.grants == ["plugin_install"] * 3
    assert world.holds_live_token((await replica.get_token("", KEY.install_id)).holding)


async def test_other_events_are_accepted_and_do_nothing(world: World, replica: Replica) -> None:
    """Envoy sends what the app has subscribed to; it is no error that we don't care."""
    assert await delivered(replica, OtherWebhook()) == Accepted(WebhookKind.OTHER, None)
    assert not replica.store.calls
    assert world.grants == []
