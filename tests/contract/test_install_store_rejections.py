"""InstallStore: a token that Envoy rejected is taken out of use; and attempts whose commits the database forgot."""

from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import uuid4

import pytest

from broker.domain.errors import InstallNotFound
from tests.contract.store_harness import StoreHarness
from tests.fakes.samples import KEY, due, issued

LONG: Final = timedelta(hours=1)
NO_COOL_DOWN: Final = timedelta(0)
ANY_NUMBER: Final = 100


async def test_f49_newest_generation_is_taken_out_of_use_and_due_at_once(harness: StoreHarness) -> None:
    """Its refresh token may still be good: nothing is known to have spent it."""
    pair = issued(harness.clock.now())
    await harness.installed(pair)
    holding, invalidated = await harness.store().reject(KEY, 1, LONG)
    assert invalidated
    assert holding.install.rejected
    assert [each.key for each in await harness.store().due(ANY_NUMBER)] == [KEY]
    assert (await harness.take(due(1))).refresh_token == pair.refresh_token


async def test_f49_older_generation_changes_nothing(harness: StoreHarness) -> None:
    """Compare and invalidate: late reports of the last token must not cost the new one."""
    await harness.installed()
    await harness.store().keep(await harness.take(due(1)), issued(harness.clock.now()))
    holding, invalidated = await harness.store().reject(KEY, 1, NO_COOL_DOWN)
    assert (invalidated, holding.install.generation, holding.install.rejected) == (False, 2, False)


async def test_f49_second_rejection_waits_for_the_cool_down(harness: StoreHarness) -> None:
    """If Envoy rejects what it has just issued, more refreshes won't help."""
    await harness.installed()
    await harness.store().reject(KEY, 1, LONG)
    await harness.store().keep(await harness.take(due(1)), issued(harness.clock.now()))
    _, within = await harness.store().reject(KEY, 2, LONG)
    holding, after = await harness.store().reject(KEY, 2, NO_COOL_DOWN)
    assert (within, after) == (False, True)
    assert holding.install.rejected


async def test_f49_next_pair_is_in_use(harness: StoreHarness) -> None:
    """Only the generation that was reported is out of use."""
    await harness.installed()
    await harness.store().reject(KEY, 1, LONG)
    kept = await harness.store().keep(await harness.take(due(1)), issued(harness.clock.now()))
    assert not kept.install.rejected


async def test_unknown_install_can_not_be_rejected(harness: StoreHarness) -> None:
    """As for every other verb."""
    with pytest.raises(InstallNotFound):
        await harness.store().reject(KEY, 1, LONG)


async def test_f30_pair_whose_claim_the_database_has_forgotten_is_kept_in_doubt(
    harness: StoreHarness,
) -> None:
    """After a failover another attempt may bear the same number. Its id tells them apart; which pair is live nobody knows."""
    await harness.installed()
    claim = await harness.take(due(1))
    forgotten = replace(claim, claim_id=uuid4())
    pair = issued(harness.clock.now())
    kept = await harness.store().keep(forgotten, pair)
    assert (kept.install.generation, kept.access_token) == (2, pair.access_token)
    assert kept.install.in_doubt
    again = await harness.store().keep(claim, issued(harness.clock.now()))
    assert again.install.in_doubt
    await harness.end_claim()
    assert (await harness.take(due(again.install.generation))).refresh_token is None


async def test_f21_late_pair_doubts_also_the_attempt_under_way(harness: StoreHarness) -> None:
    """Which of the two pairs Envoy issued last nobody knows, so the next attempt mints, and that one settles it."""
    await harness.installed()
    late = await harness.take(due(1))
    await harness.end_claim()
    under_way = await harness.take(due(1))
    await harness.store().keep(late, issued(harness.clock.now()))
    kept = await harness.store().keep(under_way, issued(harness.clock.now(), minted=True))
    assert (kept.install.generation, kept.install.in_doubt) == (3, True)
    settling = await harness.take(due(3))
    assert settling.refresh_token is None
    kept = await harness.store().keep(settling, issued(harness.clock.now(), minted=True))
    assert (kept.install.generation, kept.install.in_doubt) == (4, False)
