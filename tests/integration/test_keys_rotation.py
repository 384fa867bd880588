"""F41: a whole rotation, step by step, with replicas of the step before and of the step at work together."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from broker.adapters.keys import retirable, without
from broker.domain.identifiers import InstallKey
from tests.integration.sealed_installs import SealingReplica, installed, replica, rotation, sealed_by

INSTALLS: Final = 6
ROUNDS: Final = 3
FAST: Final = 1_000_000


async def refreshed(broker: SealingReplica, keys: Sequence[InstallKey]) -> int:
    """How many refreshes of several rounds were this replica's own; each opens both tokens of its row."""
    return sum([await broker.refresh(key) for _ in range(ROUNDS) for key in keys])


async def at_work(one: SealingReplica, other: SealingReplica, keys: Sequence[InstallKey]) -> None:
    """Both refresh everything at once, and then each opens what the other has left."""
    done = await asyncio.gather(refreshed(one, keys), refreshed(other, keys[::-1]))
    assert sum(done) >= ROUNDS * len(keys)
    for broker in (one, other):
        for key in keys:
            assert await broker.opens(key)


async def resealed(broker: SealingReplica) -> int:
    """How many rows a run has changed; none was broken."""
    progress = await broker.rows.reseal(
        rows_per_second=FAST, on_progress=lambda _: None, on_broken=lambda _: None
    )
    assert progress.broken == 0
    return progress.changed


async def test_f41_every_row_opens_everywhere_through_the_whole_rotation(database: str) -> None:
    """Old and new replicas together at each step, refreshing the same installs, and re-sealing beside them."""
    steps = rotation()
    keys = await installed(database, steps.first, INSTALLS)
    for before, after in pairwise((steps.first, steps.added, steps.promoted)):
        async with replica(database, before) as old, replica(database, after) as new:
            await at_work(old, new, keys)
            assert await old.check.problem() is None
            assert await new.check.problem() is None
    async with replica(database, steps.promoted) as one, replica(database, steps.promoted) as other:
        await asyncio.gather(at_work(one, other, keys), resealed(one), resealed(other))
        await resealed(one)
    assert sealed_by(database, steps.old_id) == 0
    assert sealed_by(database, steps.new_id) == 2 * INSTALLS
    retired = without(steps.promoted, retirable(steps.promoted))
    async with replica(database, steps.promoted) as old, replica(database, retired) as new:
        await at_work(old, new, keys)
        assert await new.check.problem() is None


async def test_f41_reseal_beside_a_replica_that_still_seals_with_the_old_key(database: str) -> None:
    """A deployment that is half-way: all open everything, and what the old one seals meanwhile is told by the counts."""
    steps = rotation()
    keys = await installed(database, steps.first, INSTALLS)
    async with replica(database, steps.added) as old, replica(database, steps.promoted) as new:
        await asyncio.gather(at_work(old, new, keys), resealed(new))
        await resealed(new)
        assert await old.refresh(keys[0])
        assert (await new.rows.counts())[steps.old_id].access_tokens == 1
        assert await resealed(new) == 1
        assert await old.opens(keys[0])
