"""InstallStore: who gets a claim, and what it lets its holder do."""

import asyncio
from datetime import timedelta

import pytest

from broker.domain.claims import BackingOff, Claim, ClaimHeld, ClaimTerms, Purpose, Resolution
from broker.domain.errors import InstallNotFound, ReauthorizationRequired
from broker.domain.installs import Holding
from broker.domain.states import InstallEvent, InstallState
from tests.contract.store_harness import StoreHarness
from tests.fakes.samples import (
    CLAIM_LIFE,
    COMPANY,
    KEY,
    OTHER_KEY,
    REFRESH_LIFE,
    due,
    exchange,
    forced,
    issued,
)

AT_ONCE = timedelta(0)
LATER = timedelta(minutes=1)


async def test_claim_of_a_due_install_carries_the_stored_refresh_token(harness: StoreHarness) -> None:
    """What is presented to Envoy is what was stored last, opened."""
    pair = issued(harness.clock.now())
    await harness.installed(pair)
    before = harness.clock.now()
    claim = await harness.take(due(1))
    assert claim.refresh_token == pair.refresh_token
    assert (claim.key, claim.attempt, claim.generation) == (KEY, 2, 1)
    assert (claim.was_in_doubt, claim.failures, claim.company_id) == (False, 0, COMPANY)
    assert before + CLAIM_LIFE <= claim.expires_at <= harness.clock.now() + CLAIM_LIFE


async def test_taking_a_claim_writes_the_intent(harness: StoreHarness) -> None:
    """A process killed after this point leaves the install in doubt (F01)."""
    await harness.installed()
    claim = await harness.take(due(1))
    install = (await harness.found()).install
    assert install.in_doubt
    assert install.attempt == claim.attempt


async def test_claim_that_another_holds_is_held_until_its_end(harness: StoreHarness) -> None:
    """Two replicas must not call at once; the second learns how long to be patient."""
    await harness.installed()
    await harness.take(due(1, owner="one"))
    for terms in (due(1, owner="two"), forced(1), exchange(b"second")):
        held = await harness.store().claim(KEY, terms)
        assert isinstance(held, ClaimHeld)
        assert AT_ONCE < held.ends_in <= CLAIM_LIFE


async def test_claim_on_one_install_leaves_the_others_free(harness: StoreHarness) -> None:
    """A slow refresh holds up its own install only."""
    await harness.installed()
    await harness.installed(key=OTHER_KEY)
    await harness.take(due(1))
    assert (await harness.take(due(1), OTHER_KEY)).key == OTHER_KEY


async def test_exactly_one_of_many_concurrent_claims_is_taken(harness: StoreHarness) -> None:
    """P1 and P4 rest on this: the row decides, whichever replica asks."""
    await harness.installed()
    stores = [harness.store() for _ in range(3)]
    answers = await asyncio.gather(*(stores[n % 3].claim(KEY, due(1, owner=str(n))) for n in range(60)))
    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert sum(isinstance(answer, ClaimHeld) for answer in answers) == 59
    assert (await harness.found()).install.attempt == 2


async def test_f01_claim_after_an_unresolved_one_must_not_present(harness: StoreHarness) -> None:
    """The earlier holder may have spent the refresh token before it died."""
    await harness.installed()
    first = await harness.take(due(1))
    await harness.end_claim()
    second = await harness.take(due(1))
    assert second.refresh_token is None
    assert second.was_in_doubt
    assert second.attempt == first.attempt + 1


async def test_claim_by_one_who_missed_a_generation_adopts_what_stands(harness: StoreHarness) -> None:
    """The loser of a race takes the winner's token and asks Envoy for nothing."""
    pair = issued(harness.clock.now())
    await harness.installed(pair)
    answer = await harness.store().claim(KEY, due(0))
    assert isinstance(answer, Holding)
    assert answer.access_token == pair.access_token
    assert not answer.install.in_doubt


async def test_generation_that_moved_is_adopted_though_a_claim_stands(harness: StoreHarness) -> None:
    """Whoever has an older token need not wait for the refresh of a newer one."""
    await harness.installed()
    await harness.take(due(1))
    assert isinstance(await harness.store().claim(KEY, due(0)), Holding)


async def test_unknown_install_can_not_be_claimed(harness: StoreHarness) -> None:
    """Only a webhook makes an install known."""
    for terms in (due(0), forced(0), exchange()):
        with pytest.raises(InstallNotFound):
            await harness.store().claim(KEY, terms)


async def test_tombstone_can_be_claimed_by_webhook_and_operator_only(harness: StoreHarness) -> None:
    """An uninstalled app is not asked for again, unless Envoy or a person says that it may be installed."""
    await harness.installed()
    await harness.store().bury(KEY)
    with pytest.raises(InstallNotFound):
        await harness.store().claim(KEY, due(1))
    for terms in (exchange(), forced(1)):
        claim = await harness.take(terms)
        assert claim.refresh_token is None
        await harness.store().resolve(claim, Resolution("connect_failed", AT_ONCE, in_doubt=False))


async def test_refused_install_can_be_claimed_by_webhook_and_operator_only(harness: StoreHarness) -> None:
    """Asking again and again would not change Envoy's mind (F12)."""
    await harness.installed()
    refused = Resolution("invalid_install", AT_ONCE, in_doubt=True, event=InstallEvent.MINT_REFUSED)
    holding = await harness.store().resolve(await harness.take(due(1)), refused)
    assert holding.install.state is InstallState.REAUTHORIZATION_REQUIRED
    with pytest.raises(ReauthorizationRequired):
        await harness.store().claim(KEY, due(1))
    claim = await harness.take(forced(1))
    assert claim.refresh_token is None
    await harness.store().resolve(claim, refused)
    assert (await harness.take(exchange())).was_in_doubt


async def test_webhook_claims_to_mint_whatever_is_stored(harness: StoreHarness) -> None:
    """An exchange never spends a refresh token, so it can go beside anything."""
    await harness.installed()
    claim = await harness.take(exchange(b"second"))
    assert claim.refresh_token is None
    assert not claim.was_in_doubt
    assert (claim.purpose, claim.webhook_digest) == (Purpose.EXCHANGE, b"second")


async def test_f23_webhook_that_was_exchanged_already_adopts(harness: StoreHarness) -> None:
    """Envoy sends a webhook up to five times; the copies cost nothing."""
    pair = issued(harness.clock.now())
    await harness.installed(pair)
    answer = await harness.store().claim(KEY, exchange(b"first"))
    assert isinstance(answer, Holding)
    assert answer.access_token == pair.access_token


async def test_f24_webhook_that_was_exchanged_adopts_also_after_a_refresh(harness: StoreHarness) -> None:
    """A refresh knows nothing of webhooks, and must not make the last one forgotten."""
    await harness.installed()
    await harness.store().keep(await harness.take(due(1)), issued(harness.clock.now()))
    answer = await harness.store().claim(KEY, exchange(b"first"))
    assert isinstance(answer, Holding)
    assert answer.install.generation == 2


async def test_failed_attempt_backs_off_those_who_only_hold_a_due_token(harness: StoreHarness) -> None:
    """A broken Envoy is not asked by every caller; an operator or a webhook may still try."""
    await harness.installed()
    failure = Resolution("http_503", LATER, in_doubt=False)
    await harness.store().resolve(await harness.take(due(1)), failure)
    answer = await harness.store().claim(KEY, due(1))
    assert isinstance(answer, BackingOff)
    assert answer.failure.kind == "http_503"
    assert answer.holding.install.failure == answer.failure
    assert AT_ONCE < answer.retry_in <= LATER
    claim = await harness.take(forced(1))
    assert claim.failures == 1
    await harness.store().resolve(claim, failure)
    assert (await harness.take(exchange(b"second"))).failures == 2


async def test_back_off_ends(harness: StoreHarness) -> None:
    """A failure delays the next attempt and does not forbid it."""
    await harness.installed()
    for failures in range(3):
        claim = await harness.take(due(1))
        assert claim.failures == failures
        await harness.store().resolve(claim, Resolution("http_503", AT_ONCE, in_doubt=False))


async def test_f11_expired_refresh_token_is_not_presented(harness: StoreHarness) -> None:
    """Envoy would refuse it; a mint is the way on, and nothing is in doubt."""
    await harness.installed(issued(harness.clock.now() - REFRESH_LIFE))
    claim = await harness.take(due(1))
    assert claim.refresh_token is None
    assert not claim.was_in_doubt


async def test_claims_end_is_counted_on_the_asker_s_own_clock(harness: StoreHarness) -> None:
    """F39: a replica whose clock is wrong still stops calling before its claim ends."""
    await harness.installed()
    for minutes in (-5, 5):
        offset = timedelta(minutes=minutes)
        claim = await harness.shifted(offset).claim(KEY, due(1))
        assert isinstance(claim, Claim)
        assert claim.expires_at <= harness.clock.now() + offset + CLAIM_LIFE
        assert claim.expires_at > harness.clock.now() + offset + CLAIM_LIFE / 2
        await harness.end_claim()


async def test_claim_s_end_does_not_depend_on_the_reader_s_clock(harness: StoreHarness) -> None:
    """F39: a replica whose clock is ahead must not think that a live claim has ended."""
    await harness.installed()
    await harness.take(due(1))
    for minutes in (-5, 5):
        answer = await harness.shifted(timedelta(minutes=minutes)).claim(KEY, due(1))
        assert isinstance(answer, ClaimHeld)
        assert AT_ONCE < answer.ends_in <= CLAIM_LIFE


async def test_terms_with_no_life_take_a_claim_that_has_ended_already(harness: StoreHarness) -> None:
    """The boundary: a claim stands before its end, and not at it."""
    await harness.installed()
    await harness.take(ClaimTerms("a-replica", AT_ONCE, Purpose.DUE, 1))
    assert (await harness.take(due(1))).was_in_doubt
