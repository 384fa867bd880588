"""InstallStore: how attempts end: kept, resolved, overtaken, buried."""

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain.claims import ClaimHeld, Resolution
from broker.domain.errors import InstallNotFound
from broker.domain.states import InstallEvent, InstallState
from tests.contract.store_harness import StoreHarness
from tests.fakes.samples import COMPANY, KEY, OTHER_KEY, due, exchange, issued

AT_ONCE = timedelta(0)
NOTHING_SPENT = Resolution("connect_failed", AT_ONCE, in_doubt=False)
UNKNOWN = Resolution("timeout", AT_ONCE, in_doubt=True)


async def test_kept_pair_is_the_next_generation(harness: StoreHarness) -> None:
    """The claim is over, nothing is in doubt, and the token is there for everyone."""
    await harness.installed()
    pair = issued(harness.clock.now())
    kept = await harness.store().keep(await harness.take(due(1)), pair)
    assert kept.access_token == pair.access_token
    install = (await harness.found()).install
    assert (install.state, install.generation, install.attempt) == (InstallState.ACTIVE, 2, 2)
    assert not install.in_doubt
    assert (await harness.found()).access_token == pair.access_token
    assert (await harness.found()).token_type == "Bearer"
    assert (await harness.take(due(2))).refresh_token == pair.refresh_token


async def test_f31_keeping_twice_is_keeping_once(harness: StoreHarness) -> None:
    """When nobody knows whether a COMMIT arrived, the same pair is written again."""
    await harness.installed()
    claim, pair = await harness.take(due(1)), issued(harness.clock.now())
    first = await harness.store().keep(claim, pair)
    again = await harness.store().keep(claim, pair)
    assert (again.install.generation, again.access_token) == (2, pair.access_token)
    assert first.install.generation == again.install.generation
    assert not again.install.in_doubt


async def test_f31_keeping_again_does_not_disturb_a_later_attempt(harness: StoreHarness) -> None:
    """The second write may come long after the first one, when another attempt is under way."""
    await harness.installed()
    claim, pair = await harness.take(due(1)), issued(harness.clock.now())
    await harness.store().keep(claim, pair)
    await harness.take(due(2))
    again = await harness.store().keep(claim, pair)
    assert again.install.generation == 2
    assert again.install.in_doubt
    assert isinstance(await harness.store().claim(KEY, due(2)), ClaimHeld)


async def test_f21_pair_of_a_late_holder_is_kept(harness: StoreHarness) -> None:
    """A process stopped past its claim's end may bring the only live pair."""
    await harness.installed()
    claim, pair = await harness.take(due(1)), issued(harness.clock.now())
    await harness.end_claim()
    kept = await harness.store().keep(claim, pair)
    assert (kept.install.generation, kept.access_token) == (2, pair.access_token)
    assert not kept.install.in_doubt


async def test_f21_late_pair_leaves_the_attempt_under_way_its_claim_and_its_doubt(
    harness: StoreHarness,
) -> None:
    """The later attempt is calling. Which of the two pairs Envoy issues last nobody knows, so the doubt outlives both."""
    await harness.installed()
    late = await harness.take(due(1))
    await harness.end_claim()
    newer = await harness.take(due(1))
    late_pair, newer_pair = issued(harness.clock.now()), issued(harness.clock.now())
    kept = await harness.store().keep(late, late_pair)
    assert (kept.install.generation, kept.install.in_doubt) == (2, True)
    assert isinstance(await harness.store().claim(KEY, due(2)), ClaimHeld)
    final = await harness.store().keep(newer, newer_pair)
    assert (final.install.generation, final.install.in_doubt) == (3, True)
    assert final.access_token == newer_pair.access_token
    assert (await harness.take(due(3))).refresh_token is None


async def test_f21_pair_that_comes_after_a_later_one_is_dropped_and_sets_doubt(harness: StoreHarness) -> None:
    """The later pair stays; but the late request may have ended it, so the next attempt mints."""
    await harness.installed()
    late = await harness.take(due(1))
    await harness.end_claim()
    newer = await harness.take(due(1))
    newer_pair = issued(harness.clock.now())
    await harness.store().keep(newer, newer_pair)
    answer = await harness.store().keep(late, issued(harness.clock.now()))
    assert answer.access_token == newer_pair.access_token
    assert (answer.install.generation, answer.install.in_doubt) == (2, True)
    following = await harness.take(due(2))
    assert following.was_in_doubt
    assert following.refresh_token is None


async def test_resolving_without_doubt_gives_the_refresh_token_back(harness: StoreHarness) -> None:
    """Nothing was spent: the next attempt presents it."""
    pair = issued(harness.clock.now())
    await harness.installed(pair)
    holding = await harness.store().resolve(await harness.take(due(1)), NOTHING_SPENT)
    assert not holding.install.in_doubt
    assert holding.access_token == pair.access_token
    assert (await harness.take(due(1))).refresh_token == pair.refresh_token


async def test_f02_resolving_with_doubt_makes_the_next_attempt_mint(harness: StoreHarness) -> None:
    """Envoy may have acted; the claim ends at once all the same."""
    await harness.installed()
    holding = await harness.store().resolve(await harness.take(due(1)), UNKNOWN)
    assert holding.install.in_doubt
    assert (await harness.take(due(1))).refresh_token is None


async def test_failure_is_on_record_until_a_pair_is_kept(harness: StoreHarness) -> None:
    """Operators see what went wrong, how often, and that it is over."""
    await harness.installed()
    for count in (1, 2):
        holding = await harness.store().resolve(await harness.take(due(1)), UNKNOWN)
        failure = holding.install.failure
        assert failure is not None
        assert (failure.kind, failure.count) == ("timeout", count)
    kept = await harness.store().keep(await harness.take(due(1)), issued(harness.clock.now()))
    assert kept.install.failure is None


async def test_old_attempt_s_resolution_changes_nothing(harness: StoreHarness) -> None:
    """Only the newest attempt says whether the install is in doubt, and who may claim it."""
    await harness.installed()
    old = await harness.take(due(1))
    await harness.end_claim()
    await harness.take(due(1))
    refusal = Resolution(
        "invalid_install", timedelta(hours=1), in_doubt=False, event=InstallEvent.MINT_REFUSED
    )
    holding = await harness.store().resolve(old, refusal)
    assert holding.install.in_doubt
    assert holding.install.failure is None
    assert holding.install.state is InstallState.ACTIVE
    assert isinstance(await harness.store().claim(KEY, due(1)), ClaimHeld)


async def test_f12_webhook_revives_a_refused_install(harness: StoreHarness) -> None:
    """The company has gone through the setup again: the way out of REAUTHORIZATION_REQUIRED."""
    await harness.installed()
    refusal = Resolution(
        "invalid_install", timedelta(hours=1), in_doubt=True, event=InstallEvent.MINT_REFUSED
    )
    await harness.store().resolve(await harness.take(due(1)), refusal)
    pair = issued(harness.clock.now())
    kept = await harness.store().keep(await harness.take(exchange(b"second")), pair)
    assert (kept.install.state, kept.install.in_doubt) == (InstallState.ACTIVE, False)
    assert kept.access_token == pair.access_token


async def test_tombstone_holds_no_token(harness: StoreHarness) -> None:
    """Deleting destroys the ciphertext, and keeps what operators ask about later."""
    await harness.installed()
    buried = await harness.store().bury(KEY)
    assert (buried.state, buried.company_id) == (InstallState.UNINSTALLED, COMPANY)
    assert (buried.validity, buried.failure, buried.in_doubt) == (None, None, False)
    assert (await harness.found()).access_token is None


async def test_burying_twice_or_the_unknown(harness: StoreHarness) -> None:
    """Envoy may say twice that an app is gone, and of an install that never came through."""
    with pytest.raises(InstallNotFound):
        await harness.store().bury(KEY)
    await harness.installed()
    await harness.store().bury(KEY)
    assert (await harness.store().bury(KEY)).state is InstallState.UNINSTALLED


async def test_attempt_under_way_does_not_store_into_a_tombstone(harness: StoreHarness) -> None:
    """A deletion that a refresh could undo would be none."""
    await harness.installed()
    claim = await harness.take(due(1))
    await harness.store().bury(KEY)
    with pytest.raises(InstallNotFound):
        await harness.store().keep(claim, issued(harness.clock.now()))
    found = await harness.found()
    assert (found.install.state, found.access_token) == (InstallState.UNINSTALLED, None)
    await harness.store().resolve(claim, UNKNOWN)
    assert not (await harness.found()).install.in_doubt


async def test_f25_exchange_after_an_uninstall_revives(harness: StoreHarness) -> None:
    """A webhook starts it, and Envoy's pair proves that the app is installed."""
    await harness.installed()
    before = await harness.take(due(1))
    await harness.store().bury(KEY)
    claim = await harness.take(exchange(b"second"))
    pair = issued(harness.clock.now())
    kept = await harness.store().keep(claim, pair)
    assert (kept.install.state, kept.access_token) == (InstallState.ACTIVE, pair.access_token)
    late = await harness.store().keep(before, issued(harness.clock.now()))
    assert late.access_token == pair.access_token


async def test_unknown_install_can_be_neither_kept_nor_resolved(harness: StoreHarness) -> None:
    """A claim can't outlive its row; if it did, nothing is made up."""
    await harness.installed()
    stray = await harness.take(due(1))
    stray = replace(stray, install=replace(stray.install, key=OTHER_KEY))
    with pytest.raises(InstallNotFound):
        await harness.store().keep(stray, issued(harness.clock.now()))
    with pytest.raises(InstallNotFound):
        await harness.store().resolve(stray, UNKNOWN)
