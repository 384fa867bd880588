"""Two replicas over one database and the strictest Envoy: one presentation, and no death that loses a token."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from broker.domain.errors import BrokerError
from broker.domain.installs import Holding
from tests.fakes.replica import Replica, World
from tests.fakes.samples import ACCESS_LIFE, COMPANY, KEY, route_webhook
from tests.fakes.steps import Steps, settled

CALLERS = 200


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An install whose token has just expired. At the end Envoy must have seen no refresh token twice."""
    world = World()
    await world.install()
    world.clock.advance(ACCESS_LIFE)
    yield world
    assert world.issuer.reused == []
    assert len(set(world.presented)) == len(world.presented)


async def steps_of(work: Callable[[Replica], Awaitable[object]], world: World) -> list[str]:
    """Every step that the fakes take when nothing goes wrong."""
    steps = Steps()
    await work(Replica(world, steps=steps))
    return steps.taken


async def killed_at(step: int, work: Callable[[Replica], Awaitable[object]], world: World) -> str:
    """Let a process die at a step; returns the step's name. Nothing of it runs any more."""
    steps = Steps(park_at=step)
    replica = Replica(world, steps=steps)
    tasks_before = asyncio.all_tasks()
    caller = asyncio.ensure_future(work(replica))
    await steps.reached.wait()
    for task in asyncio.all_tasks() - tasks_before:
        task.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await settled()
    assert asyncio.all_tasks() <= tasks_before
    return steps.taken[-1]


async def refreshed(replica: Replica) -> Holding:
    """What a caller of this replica gets, who finds the token expired."""
    return (await replica.get_token("", KEY.install_id)).holding


async def exchanged(replica: Replica) -> Holding:
    """What a webhook brings that says the app was set up again."""
    return await replica.refresher.exchange(route_webhook(b"set up again"))


async def test_f15_callers_at_expiry_cause_one_presentation(world: World) -> None:
    """P1 and P4: 200 callers over both replicas; all get the same generation, and it lives."""
    replicas = [Replica(world), Replica(world)]
    gates = [replica.endpoint.hold() for replica in replicas]
    callers = [asyncio.create_task(refreshed(replicas[number % 2])) for number in range(CALLERS)]
    await settled()
    assert [gate.arrived.is_set() for gate in gates].count(True) == 1
    for gate in gates:
        gate.opened.set()
    holdings = await world.clock.run(asyncio.gather(*callers))
    assert {holding.install.generation for holding in holdings} == {2}
    assert all(world.holds_live_token(holding) for holding in holdings)
    assert world.grants == ["refresh_token"]


async def test_f48_callers_wait_for_a_slow_envoy_and_cause_one_presentation(world: World) -> None:
    """Envoy answers just before the call's deadline; nobody else calls meanwhile."""
    replicas = [Replica(world), Replica(world)]
    gates = [replica.endpoint.hold() for replica in replicas]
    callers = [asyncio.create_task(refreshed(replicas[number % 2])) for number in range(CALLERS)]
    await settled()
    deadline = world.requests[0].deadline
    while world.clock.now() + await world.clock.parked() < deadline:
        world.clock.advance(await world.clock.parked())
        await settled()
    for gate in gates:
        gate.opened.set()
    holdings = await world.clock.run(asyncio.gather(*callers))
    assert {holding.install.generation for holding in holdings} == {2}
    assert world.grants == ["refresh_token"]


# The steps of an undisturbed attempt; the test below fails if they change and this list does not.
REFRESH_STEPS = [
    "find_holding: asked",
    "find_holding: done",
    "claim: asked",
    "claim: done",
    "refresh_token: about to be sent",
    "refresh_token: received",
    "refresh_token: acted on",
    "keep: asked",
    "keep: done",
]
EXCHANGE_STEPS = [
    "claim: asked",
    "claim: done",
    "plugin_install: about to be sent",
    "plugin_install: received",
    "plugin_install: acted on",
    "keep: asked",
    "keep: done",
]
# Up to here a dead process has written no intent, so the next one may present what is stored.
NOTHING_CLAIMED = {"find_holding: asked", "find_holding: done", "claim: asked"}


async def test_steps_at_which_a_process_may_die_are_all_listed() -> None:
    """A step that is missing below would be a death that nobody has tried."""
    world = World()
    await world.install()
    world.clock.advance(ACCESS_LIFE)
    assert await steps_of(refreshed, world) == REFRESH_STEPS
    assert await steps_of(exchanged, world) == EXCHANGE_STEPS


@pytest.mark.parametrize("step", range(len(REFRESH_STEPS)), ids=REFRESH_STEPS)
async def test_f01_winner_that_dies_is_followed_by_a_mint(world: World, step: int) -> None:
    """P1 and P2: wherever it died, the next attempt ends in a live pair and presents nothing twice."""
    survivor = Replica(world)
    died_at = await killed_at(step, refreshed, world)
    assert died_at == REFRESH_STEPS[step]
    presented_before = len(world.presented)
    holding = await world.clock.run(refreshed(survivor))
    assert world.holds_live_token(holding)
    assert not holding.install.in_doubt
    if died_at not in NOTHING_CLAIMED:
        assert len(world.presented) == presented_before
    if died_at in {*NOTHING_CLAIMED, "keep: done"}:
        assert world.grants == ["refresh_token"]
    else:
        assert world.grants[-1] == "plugin_install"


@pytest.mark.parametrize("step", range(len(REFRESH_STEPS)), ids=REFRESH_STEPS)
async def test_f01_winner_that_dies_among_many_waiters_costs_one_mint(world: World, step: int) -> None:
    """P4 holds for the recovery, too: the waiters were there when it died, and on both replicas."""
    steps = Steps(park_at=step)
    winner = asyncio.create_task(refreshed(Replica(world, steps=steps)))
    await steps.reached.wait()
    others = asyncio.all_tasks()
    survivors = [Replica(world), Replica(world)]
    callers = [asyncio.create_task(refreshed(survivors[number % 2])) for number in range(CALLERS)]
    await settled()
    for task in others - {asyncio.current_task()}:
        task.cancel()
    holdings = await world.clock.run(asyncio.gather(*callers))
    assert {holding.install.generation for holding in holdings} == {2}
    assert all(world.holds_live_token(holding) for holding in holdings)
    assert world.grants.count("plugin_install") <= 1
    assert winner.cancelled()


@pytest.mark.parametrize("first", range(len(REFRESH_STEPS)), ids=REFRESH_STEPS)
@pytest.mark.parametrize("second", range(2, len(EXCHANGE_STEPS) + 2))
async def test_f01_two_deaths_in_a_row_are_survived(world: World, first: int, second: int) -> None:
    """The successor dies as well, at whatever step it reaches; the third gets a live pair."""
    await killed_at(first, refreshed, world)
    steps = Steps(park_at=second)
    task = asyncio.create_task(refreshed(Replica(world, steps=steps)))
    reached = asyncio.create_task(steps.reached.wait())
    await world.clock.run(asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED))
    for each in asyncio.all_tasks() - {asyncio.current_task()}:
        each.cancel()
    await settled()
    holding = await world.clock.run(refreshed(Replica(world)))
    assert world.holds_live_token(holding)
    assert not holding.install.in_doubt


@pytest.mark.parametrize("step", range(len(EXCHANGE_STEPS)), ids=EXCHANGE_STEPS)
async def test_f01_exchange_that_dies_is_made_up_for_by_the_webhook_s_retry(world: World, step: int) -> None:
    """Envoy sends an unanswered webhook again; no refresh token is presented after the mint began."""
    await killed_at(step, exchanged, world)
    holding = await world.clock.run(exchanged(Replica(world)))
    assert world.holds_live_token(holding)
    assert not holding.install.in_doubt
    assert world.presented == []


@pytest.mark.parametrize("step", range(len(EXCHANGE_STEPS)), ids=EXCHANGE_STEPS)
async def test_f01_first_exchange_that_dies_is_made_up_for_by_the_first_caller(step: int) -> None:
    """No retry of the webhook is needed once the install is known."""
    world = World()
    await Replica(world).store.enrol(KEY, COMPANY)
    await killed_at(step, exchanged, world)
    holding = await world.clock.run(refreshed(Replica(world)))
    assert world.holds_live_token(holding)
    assert world.presented == []


@pytest.mark.parametrize("step", range(len(REFRESH_STEPS)), ids=REFRESH_STEPS)
async def test_f21_process_that_was_stopped_past_its_claim_s_end_resumes(world: World, step: int) -> None:
    """SIGSTOP and SIGCONT at each step: whatever it then does, one clean attempt ends in a live pair."""
    steps = Steps(park_at=step)
    stopped = asyncio.create_task(refreshed(Replica(world, steps=steps)))
    await steps.reached.wait()
    await world.clock.run(refreshed(Replica(world)))
    steps.resume()
    with suppress(BrokerError):
        await world.clock.run(stopped)
    final = await world.clock.run(
        Replica(world).refresher.refresh(KEY, world.table.rows[KEY].install.generation)
    )
    assert world.holds_live_token(final)
    assert not final.install.in_doubt
