"""Re-sealing on a real database: what changes, what does not, what is left alone, and how fast."""

import asyncio
from datetime import timedelta
from typing import Final

import psycopg
import pytest

from broker.adapters.keys import generate_keyset
from broker.adapters.postgres import resealing
from broker.adapters.postgres.resealing import Progress, Sealed
from broker.domain.claims import Claim
from broker.domain.identifiers import InstallKey
from tests.eventually import SOON_SECONDS
from tests.fakes.clock import FakeClock
from tests.fakes.samples import due, issued
from tests.integration.sealed_installs import (
    SealingReplica,
    damage,
    installed,
    replica,
    rotation,
    sealed_by,
    stored,
)

FAST: Final = 1_000_000
CIPHERTEXTS: Final = ("access_token", "refresh_token")


async def resealed(
    broker: SealingReplica, rows_per_second: float = FAST
) -> tuple[Progress, list[InstallKey]]:
    """How a run went, and which rows it named as broken."""
    broken: list[InstallKey] = []
    progress = await broker.rows.reseal(
        rows_per_second=rows_per_second, on_progress=lambda _: None, on_broken=broken.append
    )
    return progress, broken


async def test_f41_reseal_changes_the_ciphertexts_and_nothing_else(database: str) -> None:
    """Fences, claims, times, generations: whoever read the row before must see no difference."""
    keys = rotation()
    await installed(database, keys.first, 3)
    before = stored(database)
    async with replica(database, keys.promoted) as broker:
        progress, broken = await resealed(broker)
        assert (progress.seen, progress.changed, progress.broken, broken) == (3, 3, 0, [])
        again, _ = await resealed(broker)
        assert (again.seen, again.changed) == (3, 0)
    for old, new in zip(before, stored(database), strict=True):
        assert all(old[column] != new[column] for column in CIPHERTEXTS)
        assert {**old, **dict.fromkeys(CIPHERTEXTS)} == {**new, **dict.fromkeys(CIPHERTEXTS)}
    assert (sealed_by(database, keys.old_id), sealed_by(database, keys.new_id)) == (0, 6)


async def test_f41_reseal_under_a_claim_breaks_no_fence(database: str) -> None:
    """A refresh that was under way before stores its pair afterwards, and the refresh token it holds is the right one."""
    keys = rotation()
    (key,) = await installed(database, keys.first, 1)
    async with replica(database, keys.added) as old, replica(database, keys.promoted) as new:
        claim = await old.store.claim(key, due(1))
        assert isinstance(claim, Claim)
        assert (await resealed(new))[0].changed == 1
        kept = await old.store.keep(claim, issued(old.clock.now()))
        assert (kept.install.generation, kept.install.in_doubt) == (2, False)
        assert await new.opens(key)


async def test_f42_row_that_does_not_open_is_named_and_left_as_it_is(database: str) -> None:
    """Sealing it anew would bless what somebody has changed; and the others must not wait for it."""
    keys = rotation()
    first, second, third = await installed(database, keys.first, 3)
    damage(database, second)
    before = stored(database)[1]
    async with replica(database, keys.promoted) as broker:
        progress, broken = await resealed(broker)
        assert (progress.seen, progress.changed, broken) == (3, 2, [second])
        assert await broker.opens(first)
        assert await broker.opens(third)
    assert stored(database)[1] == before


async def test_f40_reseal_with_a_wrong_keyset_changes_nothing(database: str) -> None:
    """Every row is named, and all are as they were, byte for byte."""
    keys = await installed(database, generate_keyset(), 3)
    before = stored(database)
    async with replica(database, generate_keyset()) as broker:
        progress, broken = await resealed(broker)
    assert (progress.changed, broken) == (0, keys)
    assert stored(database) == before


async def test_reseal_keeps_to_its_rate(database: str) -> None:
    """A table of millions must not be rewritten at the cost of those who wait for a token."""
    keys = rotation()
    await installed(database, keys.first, 5)
    clock = FakeClock()
    began = clock.now()
    async with asyncio.timeout(SOON_SECONDS), replica(database, keys.promoted, clock) as broker:
        run = asyncio.create_task(resealed(broker, rows_per_second=2))
        for done in range(1, 5):
            wait = await clock.parked()
            assert timedelta(0) < wait <= timedelta(seconds=0.5)
            assert sealed_by(database, keys.new_id) == 2 * done
            clock.advance(wait)
        assert (await run)[0].changed == 5
    assert clock.now() - began == timedelta(seconds=2)


@pytest.mark.parametrize("page_rows", [1, 2, 3, 4, 5])
async def test_pages_end_where_the_table_does(
    database: str, monkeypatch: pytest.MonkeyPatch, page_rows: int
) -> None:
    """Neither a full last page nor a half one loses a row, and progress tells how far it is."""
    keys = rotation()
    all_keys = await installed(database, keys.first, 4)
    monkeypatch.setattr(resealing, "PAGE_ROWS", page_rows)
    told: list[tuple[int, InstallKey]] = []
    async with replica(database, keys.promoted) as broker:
        await broker.rows.reseal(
            rows_per_second=FAST,
            on_progress=lambda progress: told.append((progress.seen, progress.last)),
            on_broken=lambda _: None,
        )
    assert told[-1] == (4, all_keys[-1])
    assert all(last == all_keys[seen - 1] for seen, last in told)
    assert sealed_by(database, keys.old_id) == 0


async def test_counts_tell_each_key_s_ciphertexts_apart(database: str) -> None:
    """Retiring a key rests on them. A refresh token that Envoy did not send is none, and what names no key is said."""
    keys = rotation()
    one, *_ = await installed(database, keys.first, 3)
    async with replica(database, keys.promoted) as broker:
        await broker.refresh(one)
        with psycopg.connect(database) as connection:
            connection.execute(
                "UPDATE token_broker.installs SET access_token = '\\x00', refresh_token = NULL"
                " WHERE install_id = '2000002'"
            )
        assert await broker.rows.counts() == {
            keys.new_id: Sealed(1, 1),
            keys.old_id: Sealed(1, 1),
            None: Sealed(1, 0),
        }


async def test_abandoned_tokens_are_gone_and_their_installs_are_due(database: str) -> None:
    """A lost key must not leave a broker that is never ready; the next attempt mints, one generation on."""
    lost, keyset = generate_keyset(), generate_keyset()
    first, second = await installed(database, lost, 2)
    async with replica(database, keyset) as broker:
        other_row = stored(database)[1]
        await broker.rows.abandon(1, rows_per_second=FAST, on_progress=lambda _: None)
        assert stored(database)[1] == other_row
        (lost_id,) = await broker.rows.counts()
        assert lost_id is not None
        progress = await broker.rows.abandon(lost_id, rows_per_second=FAST, on_progress=lambda _: None)
        assert progress.changed == 2
        assert {each.key for each in await broker.store.due(5)} == {first, second}
        claim = await broker.store.claim(first, due(1))
        assert isinstance(claim, Claim)
        assert claim.refresh_token is None
        kept = await broker.store.keep(claim, issued(broker.clock.now(), minted=True))
        assert (kept.install.generation, kept.access_token is not None) == (2, True)
        assert await broker.check.problem() is None


async def test_f42_abandoning_what_is_broken_leaves_what_opens_and_what_another_key_has_sealed(
    database: str,
) -> None:
    """With a wrong keyset in hand it must destroy nothing; with the right one, only what is lost already."""
    keyset = generate_keyset()
    _, second, third = await installed(database, keyset, 3)
    damage(database, second)
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE token_broker.installs SET refresh_token = 'plain'::bytea WHERE install_id = %s",
            [third.install_id],
        )
    before = stored(database)
    async with replica(database, generate_keyset()) as wrong:
        progress = await wrong.rows.abandon(None, rows_per_second=FAST, on_progress=lambda _: None)
        assert progress.changed == 0
    assert stored(database) == before
    async with replica(database, keyset) as broker:
        progress = await broker.rows.abandon(None, rows_per_second=FAST, on_progress=lambda _: None)
        assert progress.changed == 2
        assert await broker.check.problem() is None
    after = stored(database)
    assert after[0] == before[0]
    assert [row["access_token"] for row in after[1:]] == [None, None]
