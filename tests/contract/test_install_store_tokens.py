"""InstallStore: what is stored of a pair, its times, and its seal."""

from datetime import timedelta

import pytest

from broker.domain.errors import InstallNotFound, SealBroken
from broker.domain.freshness import Freshness, freshness
from broker.domain.installs import Install, Validity
from broker.domain.states import InstallState
from tests.contract.store_harness import StoreHarness
from tests.fakes.samples import (
    ACCESS_LIFE,
    COMPANY,
    KEY,
    OTHER_KEY,
    REFRESH_LIFE,
    due,
    exchange,
    issued,
    route_webhook,
)

HOUR = timedelta(hours=1)
# What the statements of one test may take.
TEST_TAKES = timedelta(seconds=30)
FIVE_MINUTES_OFF = pytest.mark.parametrize("minutes", [-5, 0, 5])


def validity_of(install: Install) -> Validity:
    """The times that an install with a token has."""
    assert install.validity is not None
    return install.validity


async def test_unknown_install_is_none(harness: StoreHarness) -> None:
    """Not found is an answer, and no error."""
    assert await harness.store().find(KEY) is None
    assert await harness.store().find_holding(KEY) is None


async def test_enrolled_install_has_nothing_yet(harness: StoreHarness) -> None:
    """PROVISIONAL without a token: known, and to be minted for."""
    await harness.store().enrol(KEY, COMPANY)
    holding = await harness.found()
    install = holding.install
    assert (install.state, install.company_id, install.generation) == (InstallState.PROVISIONAL, COMPANY, 0)
    assert (install.validity, install.failure, install.in_doubt) == (None, None, False)
    assert (holding.access_token, holding.token_type) == (None, "")
    assert (await harness.take(due(0))).refresh_token is None


async def test_enrolling_again_changes_nothing(harness: StoreHarness) -> None:
    """F24: a webhook that comes again must not lower anything."""
    pair = issued(harness.clock.now())
    await harness.installed(pair)
    await harness.store().enrol(KEY, "another company")
    found = await harness.found()
    assert (found.install.company_id, found.access_token) == (COMPANY, pair.access_token)


async def test_company_is_learnt_from_envoy_and_not_forgotten(harness: StoreHarness) -> None:
    """An answer without a company says nothing about it."""
    await harness.store().enrol(KEY, "")
    store = harness.store()
    kept = await store.keep(await harness.take(exchange()), issued(harness.clock.now()))
    assert kept.install.company_id == COMPANY
    kept = await store.keep(await harness.take(due(1)), issued(harness.clock.now(), company_id=""))
    assert kept.install.company_id == COMPANY


async def test_f04_omitted_refresh_token_stays_and_opens_at_the_new_generation(harness: StoreHarness) -> None:
    """RFC 6749, section 6: an answer to a refresh need not bring a new one. Its own end stays, too."""
    first = issued(harness.clock.now())
    end = validity_of((await harness.installed(first)).install).refresh_token_expires_at
    second = issued(harness.clock.now(), refresh_token=False)
    kept = await harness.store().keep(await harness.take(due(1)), second)
    assert kept.access_token == second.access_token
    kept_end = validity_of(kept.install).refresh_token_expires_at
    assert end is not None
    assert kept_end is not None
    assert abs(kept_end - end) < TEST_TAKES
    assert (await harness.take(due(2))).refresh_token == first.refresh_token


async def test_f04_mint_without_a_refresh_token_leaves_none(harness: StoreHarness) -> None:
    """P1: the stored one may be the very one that must not be presented again."""
    await harness.installed()
    await harness.take(due(1))
    await harness.end_claim()
    minted = issued(harness.clock.now(), refresh_token=False, minted=True)
    kept = await harness.store().keep(await harness.take(due(1)), minted)
    assert not kept.install.in_doubt
    assert validity_of(kept.install).refresh_token_expires_at is None
    assert (await harness.take(due(2))).refresh_token is None


async def test_lifetimes_count_from_the_moment_before_the_request(harness: StoreHarness) -> None:
    """P3: what Envoy took to answer, and we to store, is no part of a token's life."""
    requested_at = harness.clock.now() - HOUR
    validity = validity_of((await harness.installed(issued(requested_at))).install)
    assert requested_at - TEST_TAKES < validity.issued_at <= requested_at
    assert validity.lifetime == ACCESS_LIFE
    assert validity.refresh_token_expires_at == validity.issued_at + REFRESH_LIFE
    assert validity.issued_at + ACCESS_LIFE / 2 < validity.refresh_due_at < validity.expires_at


@FIVE_MINUTES_OFF
async def test_f39_token_s_end_is_right_on_every_reader_s_clock(harness: StoreHarness, minutes: int) -> None:
    """A replica whose host's clock is wrong serves a token as long as it lives, and no longer."""
    requested_at = harness.clock.now()
    await harness.installed(issued(requested_at))
    offset = timedelta(minutes=minutes)
    install = await harness.shifted(offset).find(KEY)
    assert install is not None
    end = validity_of(install).expires_at
    assert requested_at + offset + ACCESS_LIFE - TEST_TAKES < end <= requested_at + offset + ACCESS_LIFE


@FIVE_MINUTES_OFF
async def test_f39_token_s_end_is_right_whoever_stored_it(harness: StoreHarness, minutes: int) -> None:
    """The writer's wrong clock does not reach the readers."""
    offset = timedelta(minutes=minutes)
    await harness.store().enrol(KEY, COMPANY)
    requested_at = harness.clock.now()
    await harness.shifted(offset).keep(await harness.take(exchange()), issued(requested_at + offset))
    end = validity_of((await harness.found()).install).expires_at
    assert requested_at + ACCESS_LIFE - TEST_TAKES < end <= requested_at + ACCESS_LIFE


@FIVE_MINUTES_OFF
async def test_f39_webhook_s_token_ends_when_it_should_whoever_stored_it(
    harness: StoreHarness, minutes: int
) -> None:
    """A provisional token's life begins when its webhook came in."""
    offset = timedelta(minutes=minutes)
    await harness.store().enrol(KEY, COMPANY)
    received_at = harness.clock.now()
    await harness.shifted(offset).keep_provisional(route_webhook(), received_at + offset)
    end = validity_of((await harness.found()).install).expires_at
    assert received_at + ACCESS_LIFE - TEST_TAKES < end <= received_at + ACCESS_LIFE


async def test_provisional_token_is_served_and_due_at_once(harness: StoreHarness) -> None:
    """It has no refresh token, so the sooner the exchange the better."""
    await harness.store().enrol(KEY, COMPANY)
    webhook = route_webhook()
    held = await harness.store().keep_provisional(webhook, harness.clock.now())
    assert (held.install.state, held.install.generation) == (InstallState.PROVISIONAL, 1)
    assert held.access_token == webhook.access_token
    assert freshness(held.install, harness.clock.now()) is Freshness.STALE
    assert (await harness.take(due(1))).refresh_token is None


async def test_exchange_replaces_a_provisional_token(harness: StoreHarness) -> None:
    """Once Envoy answers, the install is ACTIVE, one generation on."""
    await harness.store().enrol(KEY, COMPANY)
    await harness.store().keep_provisional(route_webhook(), harness.clock.now())
    pair = issued(harness.clock.now())
    kept = await harness.store().keep(await harness.take(exchange()), pair)
    assert (kept.install.state, kept.install.generation) == (InstallState.ACTIVE, 2)
    assert kept.access_token == pair.access_token


async def test_webhook_s_token_is_kept_only_if_there_never_was_another(harness: StoreHarness) -> None:
    """F24: a replayed webhook must not put its old token in a newer one's place."""
    await harness.store().enrol(KEY, COMPANY)
    first = route_webhook(b"first")
    await harness.store().keep_provisional(first, harness.clock.now())
    again = await harness.store().keep_provisional(route_webhook(b"second"), harness.clock.now())
    assert (again.access_token, again.install.generation) == (first.access_token, 1)
    pair = issued(harness.clock.now())
    await harness.store().keep(await harness.take(exchange()), pair)
    again = await harness.store().keep_provisional(first, harness.clock.now())
    assert (again.access_token, again.install.generation) == (pair.access_token, 2)


async def test_webhook_s_token_does_not_revive_a_tombstone(harness: StoreHarness) -> None:
    """F24: only Envoy's answer to an exchange does."""
    await harness.store().enrol(KEY, COMPANY)
    await harness.store().bury(KEY)
    held = await harness.store().keep_provisional(route_webhook(), harness.clock.now())
    assert (held.install.state, held.access_token) == (InstallState.UNINSTALLED, None)


async def test_webhook_s_token_of_an_unknown_install_is_not_kept(harness: StoreHarness) -> None:
    """Enrolling comes first."""
    with pytest.raises(InstallNotFound):
        await harness.store().keep_provisional(route_webhook(), harness.clock.now())


async def test_f42_token_moved_to_another_row_does_not_open(harness: StoreHarness) -> None:
    """Who can write to the table still can't give one company's token to another."""
    await harness.installed()
    await harness.installed(key=OTHER_KEY)
    await harness.copy_access_token(KEY, OTHER_KEY)
    with pytest.raises(SealBroken):
        await harness.store().find_holding(OTHER_KEY)
    assert await harness.store().find(OTHER_KEY) is not None


async def test_f42_token_moved_to_another_column_does_not_open(harness: StoreHarness) -> None:
    """A refresh token must never be handed out as an access token."""
    await harness.installed()
    await harness.copy_refresh_token_to_access_token(KEY)
    with pytest.raises(SealBroken):
        await harness.store().find_holding(KEY)


async def test_f42_token_of_another_generation_does_not_open(harness: StoreHarness) -> None:
    """A ciphertext brought back from a backup does not pass for the newest."""
    await harness.installed()
    await harness.set_generation(KEY, 2)
    with pytest.raises(SealBroken):
        await harness.store().find_holding(KEY)
    with pytest.raises(SealBroken):
        await harness.store().claim(KEY, due(2))
