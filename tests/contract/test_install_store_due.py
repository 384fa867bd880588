"""InstallStore: which installs want an attempt though nobody asks for a token."""

from datetime import timedelta
from typing import Final

from broker.domain.claims import Resolution
from broker.domain.freshness import DUE_SHARE
from broker.domain.identifiers import InstallKey
from broker.domain.states import InstallEvent
from tests.contract.store_harness import StoreHarness
from tests.fakes.samples import ACCESS_LIFE, COMPANY, KEY, OTHER_APP, OTHER_KEY, due, issued

ANY_NUMBER: Final = 100
PAST_DUE: Final = ACCESS_LIFE * DUE_SHARE + timedelta(minutes=1)
LATER: Final = timedelta(hours=1)
AT_ONCE: Final = timedelta(0)
OF_ANOTHER_APP: Final = InstallKey(OTHER_APP.plugin_id, KEY.install_id)


async def due_now(harness: StoreHarness, limit: int = ANY_NUMBER, *except_for: str) -> list[InstallKey]:
    """The keys of what is due, in the order that was given."""
    return [each.key for each in await harness.store().due(limit, except_for=except_for)]


async def installed(harness: StoreHarness, key: InstallKey, age: timedelta) -> None:
    """An install whose pair was issued so long ago."""
    await harness.installed(issued(harness.clock.now() - age), key)


async def test_longest_overdue_comes_first_and_what_is_fresh_not_at_all(harness: StoreHarness) -> None:
    """Of a backlog, those first whose callers would soon have to wait. What is due tells by how much."""
    await installed(harness, KEY, PAST_DUE)
    await installed(harness, OTHER_KEY, PAST_DUE + LATER)
    await installed(harness, OF_ANOTHER_APP, AT_ONCE)
    assert await due_now(harness) == [OTHER_KEY, KEY]
    assert await due_now(harness, 1) == [OTHER_KEY]
    longest, next_longest = await harness.store().due(ANY_NUMBER)
    assert longest.overdue > next_longest.overdue > AT_ONCE
    assert longest.generation == 1


async def test_apps_whose_calls_are_held_are_left_out(harness: StoreHarness) -> None:
    """Their backlog must not fill the window in which another app's installs are looked for."""
    await installed(harness, KEY, PAST_DUE)
    await installed(harness, OF_ANOTHER_APP, PAST_DUE)
    assert await due_now(harness, ANY_NUMBER, KEY.plugin_id) == [OF_ANOTHER_APP]


async def test_claimed_install_is_due_again_when_the_claim_ends(harness: StoreHarness) -> None:
    """Its holder may never be heard of again; until then nobody looks at it in vain."""
    await installed(harness, KEY, PAST_DUE)
    await harness.take(due(1))
    assert await due_now(harness) == []
    await harness.end_claim()
    assert await due_now(harness) == [KEY]


async def test_f19_install_that_failed_is_due_again_when_its_back_off_ends(harness: StoreHarness) -> None:
    """Also one whose outcome is unknown, and whose token is not old."""
    await installed(harness, KEY, PAST_DUE)
    await installed(harness, OTHER_KEY, AT_ONCE)
    waits = Resolution("http_500", LATER, in_doubt=True)
    await harness.store().resolve(await harness.take(due(1)), waits)
    at_once = Resolution("http_500", AT_ONCE, in_doubt=True)
    await harness.store().resolve(await harness.take(due(1), OTHER_KEY), at_once)
    assert await due_now(harness) == [OTHER_KEY]


async def test_f12_refused_and_buried_installs_are_never_due(harness: StoreHarness) -> None:
    """Envoy has said no; asking again by oneself helps nobody."""
    await installed(harness, KEY, PAST_DUE)
    await installed(harness, OTHER_KEY, PAST_DUE)
    refused = Resolution("invalid_install", AT_ONCE, in_doubt=True, event=InstallEvent.MINT_REFUSED)
    await harness.store().resolve(await harness.take(due(1)), refused)
    await harness.store().bury(OTHER_KEY)
    assert await due_now(harness) == []


async def test_f12_webhook_of_a_refused_install_leaves_an_exchange_owed(harness: StoreHarness) -> None:
    """Should the webhook's process die before it has asked Envoy, the scheduler does, after a grace."""
    await installed(harness, KEY, AT_ONCE)
    refused = Resolution("invalid_install", AT_ONCE, in_doubt=True, event=InstallEvent.MINT_REFUSED)
    await harness.store().resolve(await harness.take(due(1)), refused)
    await harness.store().enrol(KEY, COMPANY)
    assert (await harness.found()).install.exchange_owed
    assert await due_now(harness) == []
    await harness.end_claim()
    assert await due_now(harness) == [KEY]
    claim = await harness.take(due(1))
    assert claim.refresh_token is None
    kept = await harness.store().keep(claim, issued(harness.clock.now(), minted=True))
    assert not kept.install.exchange_owed


async def test_kept_pair_is_due_at_its_own_time(harness: StoreHarness) -> None:
    """Not at that of the pair before."""
    await installed(harness, KEY, PAST_DUE)
    await harness.store().keep(await harness.take(due(1)), issued(harness.clock.now()))
    assert await due_now(harness) == []
