"""F40: whether a keyset opens what is stored is asked of the database, and answered by the ids of the keys."""

from datetime import timedelta
from typing import Final

import psycopg
import pytest

from broker.adapters.keys import generate_keyset
from broker.adapters.postgres.seal_check import LOOK_AGAIN_AFTER
from broker.domain.errors import StoreUnavailable
from tests.contract.store_harness import AWAY
from tests.fakes.clock import FakeClock
from tests.integration.sealed_installs import damage, installed, replica, rotation, sealed_by, stored

A_MOMENT: Final = timedelta(milliseconds=1)


async def test_f40_another_keyset_is_a_problem_that_names_the_missing_key(database: str) -> None:
    """What an operator has to look for; and the look itself writes nothing."""
    steps = rotation()
    await installed(database, steps.first, 2)
    before = stored(database)
    async with replica(database, generate_keyset()) as broker:
        problem = await broker.check.problem()
    assert problem is not None
    assert problem.startswith(f"stored tokens don't open with this keyset: key {steps.old_id} is not in it")
    assert stored(database) == before


async def test_f40_right_keyset_and_an_empty_database_are_no_problem(database: str) -> None:
    """A first start has nothing to open."""
    steps = rotation()
    async with replica(database, steps.first) as broker:
        assert await broker.check.problem() is None
    await installed(database, steps.first, 2)
    for keyset in (steps.first, steps.added, steps.promoted):
        async with replica(database, keyset) as broker:
            assert await broker.check.problem() is None


async def test_f40_keyset_of_a_step_too_early_is_a_problem(database: str) -> None:
    """A replica that was forgotten in a rotation opens some rows: it would refuse its callers the others."""
    steps = rotation()
    one, _ = await installed(database, steps.first, 2)
    async with replica(database, steps.promoted) as broker:
        await broker.refresh(one)
    async with replica(database, steps.first) as forgotten:
        problem = await forgotten.check.problem()
    assert problem is not None
    assert f"key {steps.new_id} is not in it" in problem
    assert str(steps.old_id) not in problem


@pytest.mark.parametrize("state", ["active", "reauthorization_required"])
async def test_f40_few_rows_among_many_are_found_wherever_they_are_due(database: str, state: str) -> None:
    """Also where nothing is due, since Envoy has refused every install."""
    steps = rotation()
    await installed(database, steps.first, 2)
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE token_broker.installs SET state = %(state)s,"
            " due_at = CASE WHEN %(state)s = 'active' THEN due_at END",
            {"state": state},
        )
    async with replica(database, generate_keyset()) as broker:
        assert await broker.check.problem() is not None


async def test_f42_one_damaged_row_is_no_problem_of_the_keyset(database: str) -> None:
    """It is an alarm; were it one of readiness, a single row could keep every replica from starting."""
    steps = rotation()
    _, second = await installed(database, steps.first, 2)
    damage(database, second)
    async with replica(database, steps.first) as broker:
        assert await broker.check.problem() is None


async def test_f42_rows_that_are_all_damaged_are_a_problem(database: str) -> None:
    """Nothing opens: whatever the reason, this broker has no token to hand out."""
    steps = rotation()
    (only,) = await installed(database, steps.first, 1)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE token_broker.installs SET generation = 7")
    damage(database, only)
    async with replica(database, steps.first) as broker:
        problem = await broker.check.problem()
    assert problem is not None
    assert f"what key {steps.old_id} has sealed was changed, or moved; or the key was" in problem


async def test_f40_ciphertexts_that_name_no_key_are_a_problem(database: str) -> None:
    """Plain text in a column, say, by a hand that meant well."""
    steps = rotation()
    await installed(database, steps.first, 1)
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE token_broker.installs SET access_token = 'plain'::bytea, refresh_token = NULL"
        )
    async with replica(database, steps.first) as broker:
        problem = await broker.check.problem()
    assert problem is not None
    assert "some name no key" in problem


async def test_a_fine_keyset_is_not_asked_about_at_every_look(database: str) -> None:
    """Readiness looks every second on every replica; a problem is looked at each time, so that it ends at once."""
    steps = rotation()
    clock = FakeClock()
    async with replica(database, steps.first, clock) as broker:
        assert await broker.check.problem() is None
        await installed(database, generate_keyset(), 1)
        clock.advance(LOOK_AGAIN_AFTER - A_MOMENT)
        assert await broker.check.problem() is None
        clock.advance(A_MOMENT)
        for _ in range(2):
            assert await broker.check.problem() is not None
        with psycopg.connect(database) as connection:
            connection.execute("DELETE FROM token_broker.installs")
        assert await broker.check.problem() is None
    assert sealed_by(database, steps.old_id) == 0


async def test_f40_database_that_is_away_says_nothing_of_the_keyset() -> None:
    """No answer is no verdict."""
    async with replica(AWAY, generate_keyset()) as broker:
        with pytest.raises(StoreUnavailable):
            await broker.check.problem()
