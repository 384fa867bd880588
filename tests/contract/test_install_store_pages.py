"""InstallStore: lists of installs, and a database that is away."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from broker.domain.claims import Claim, Resolution
from broker.domain.errors import StoreUnavailable
from broker.domain.identifiers import InstallKey
from broker.domain.installs import InstallFilter
from broker.domain.states import InstallEvent, InstallState
from broker.ports import InstallStore
from tests.contract.store_harness import StoreHarness
from tests.fakes.clock import NOON
from tests.fakes.samples import ACCESS_LIFE, COMPANY, KEY, due, exchange, forced, issued, route_webhook

EVERYTHING = InstallFilter()
TIMEOUT = Resolution("timeout", ACCESS_LIFE, in_doubt=True)
# In order. Digits, capitals, small letters and punctuation sort as their ASCII codes do.
KEYS = [
    InstallKey("10", "1"),
    InstallKey("10", "10"),
    InstallKey("10", "9"),
    InstallKey("10", "A"),
    InstallKey("10", "_"),
    InstallKey("10", "a"),
    InstallKey("9", "0"),
]


async def enrol_all(harness: StoreHarness) -> None:
    """Every key of KEYS, in an order that is none; company "even" or "odd" by the place in it."""
    for place in (3, 6, 0, 5, 1, 4, 2):
        await harness.store().enrol(KEYS[place], "odd" if place % 2 else "even")


async def keys_of(store: InstallStore, install_filter: InstallFilter, limit: int = 100) -> list[InstallKey]:
    """The keys of the first page."""
    return [install.key for install in await store.page(install_filter, after=None, limit=limit)]


async def test_nothing_is_an_empty_page(harness: StoreHarness) -> None:
    """A new broker's list is empty, and no error."""
    assert await keys_of(harness.store(), EVERYTHING) == []


async def test_page_is_in_the_order_of_the_keys(harness: StoreHarness) -> None:
    """Whatever the order of arrival, and whatever the database's locale."""
    await enrol_all(harness)
    assert await keys_of(harness.store(), EVERYTHING) == KEYS


async def test_pages_of_every_size_give_each_install_once(harness: StoreHarness) -> None:
    """Keyset paging: each page begins behind the last key of the one before."""
    await enrol_all(harness)
    for size in range(1, len(KEYS) + 1):
        seen: list[InstallKey] = []
        while page := await harness.store().page(EVERYTHING, after=seen[-1] if seen else None, limit=size):
            assert len(page) <= size
            seen += [install.key for install in page]
        assert seen == KEYS


async def test_page_behind_a_key_that_is_gone_goes_on(harness: StoreHarness) -> None:
    """The key is a place in the order, and need not exist."""
    await enrol_all(harness)
    page = await harness.store().page(EVERYTHING, after=InstallKey("10", "5"), limit=2)
    assert [install.key for install in page] == [InstallKey("10", "9"), InstallKey("10", "A")]


async def test_filters_hold_together(harness: StoreHarness) -> None:
    """Each narrows the list; paging goes on within it."""
    await enrol_all(harness)
    await harness.store().bury(KEYS[2])
    store = harness.store()
    assert await keys_of(store, InstallFilter(plugin_id="9")) == [KEYS[6]]
    assert await keys_of(store, InstallFilter(company_id="odd")) == KEYS[1::2]
    assert await keys_of(store, InstallFilter(state=InstallState.UNINSTALLED)) == [KEYS[2]]
    both = InstallFilter(plugin_id="10", company_id="even", state=InstallState.PROVISIONAL)
    assert await keys_of(store, both) == [KEYS[0], KEYS[4]]
    assert await keys_of(store, InstallFilter(plugin_id="nobody's")) == []
    behind = await store.page(InstallFilter(company_id="odd"), after=KEYS[1], limit=1)
    assert [install.key for install in behind] == [KEYS[3]]


async def test_page_tells_of_an_install_what_find_tells(harness: StoreHarness) -> None:
    """Two ways to the same facts; no seal is opened for a list."""
    await harness.installed()
    await harness.set_generation(KEY, 2)
    (listed,) = await harness.store().page(EVERYTHING, after=None, limit=10)
    found = await harness.store().find(KEY)
    assert found is not None
    assert (listed.key, listed.state, listed.company_id) == (KEY, found.state, COMPANY)
    assert (listed.generation, listed.attempt) == (found.generation, found.attempt)
    assert listed.validity is not None


async def test_failing_installs_are_those_whose_last_attempt_failed(harness: StoreHarness) -> None:
    """What an engineer asks first at night; a success, or a deletion, ends it."""
    for key in KEYS[:5]:
        await harness.installed(key=key)
    store = harness.store()
    refused = Resolution("invalid_install", ACCESS_LIFE, in_doubt=True, event=InstallEvent.MINT_REFUSED)
    for place, resolution in enumerate([TIMEOUT, refused, TIMEOUT, TIMEOUT]):
        await store.resolve(await harness.take(due(1), KEYS[place]), resolution)
    await store.keep(await harness.take(forced(1), KEYS[2]), issued(harness.clock.now()))
    await store.bury(KEYS[3])
    failing = InstallFilter(failing=True)
    assert await keys_of(store, failing) == KEYS[:2]
    assert await keys_of(store, replace(failing, state=InstallState.ACTIVE)) == KEYS[:1]
    assert [i.key for i in await store.page(failing, after=KEYS[0], limit=5)] == [KEYS[1]]
    assert [install.failing for install in await store.page(EVERYTHING, after=None, limit=5)] == [
        True,
        True,
        False,
        False,
        False,
    ]


Verb = Callable[[InstallStore, StoreHarness], Awaitable[object]]


async def _keep(store: InstallStore, harness: StoreHarness) -> object:
    return await store.keep(await harness.take(due(1)), issued(NOON))


async def _resolve(store: InstallStore, harness: StoreHarness) -> object:
    return await store.resolve(await harness.take(due(1)), TIMEOUT)


VERBS: dict[str, Verb] = {
    "find": lambda store, _: store.find(KEY),
    "find_holding": lambda store, _: store.find_holding(KEY),
    "page": lambda store, _: store.page(EVERYTHING, after=None, limit=1),
    "enrol": lambda store, _: store.enrol(KEY, COMPANY),
    "claim": lambda store, _: store.claim(KEY, exchange()),
    "keep": _keep,
    "resolve": _resolve,
    "keep_provisional": lambda store, _: store.keep_provisional(route_webhook(), NOON),
    "bury": lambda store, _: store.bury(KEY),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_f34_database_away_is_store_unavailable(harness: StoreHarness, verb: str) -> None:
    """Every verb says so in the one way that the services know."""
    await harness.installed()
    with pytest.raises(StoreUnavailable) as caught:
        await VERBS[verb](await harness.away(), harness)
    assert caught.value.retry_after > ACCESS_LIFE * 0
    assert "127.0.0.1" not in str(caught.value)


async def test_standings_are_those_of_the_installs_that_are_known(harness: StoreHarness) -> None:
    """What watchers are compared by: every change that matters to one must show."""
    store = harness.store()
    await enrol_all(harness)
    known, unknown = KEYS[0], InstallKey("10", "unheard-of")
    install = await store.find(known)
    assert install is not None
    assert await store.standings([known, unknown]) == {known: install.standing}
    claim = await store.claim(known, exchange(b"one"))
    assert isinstance(claim, Claim)
    kept = (await store.keep(claim, issued(harness.clock.now()))).install
    assert await store.standings([known]) == {known: (1, InstallState.ACTIVE, False)}
    assert kept.standing == (1, InstallState.ACTIVE, False)
    await store.reject(known, 1, ACCESS_LIFE)
    assert await store.standings(KEYS) == {
        key: (1, InstallState.ACTIVE, True) if key == known else (0, InstallState.PROVISIONAL, False)
        for key in KEYS
    }
    await store.bury(known)
    assert (await store.standings([known]))[known].state is InstallState.UNINSTALLED
    assert await store.standings([]) == {}
