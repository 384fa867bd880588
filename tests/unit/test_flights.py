"""Flights: one task for each key, which belongs to no caller."""

import asyncio

import pytest

from broker.service.flights import Flights
from tests.fakes.steps import settled, turn


class Work:
    """Work that ends when the test says so, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.done = asyncio.Event()

    async def __call__(self) -> int:
        """The number of this beginning."""
        self.begun += 1
        number = self.begun
        await self.done.wait()
        return number


class FailedError(Exception):
    """What the work fails with."""


async def test_all_callers_of_a_key_share_one_task() -> None:
    """P4, within a process."""
    flights, work = Flights[str, int](), Work()
    callers = [asyncio.create_task(flights.join("key", work)) for _ in range(100)]
    await settled()
    assert (work.begun, len(flights), "key" in flights) == (1, 1, True)
    work.done.set()
    assert await asyncio.gather(*callers) == [1] * 100


async def test_f18_keys_do_not_share() -> None:
    """No caller gets the answer to another's question."""
    flights: Flights[int, int] = Flights()

    async def answer(key: int) -> int:
        await turn()
        return key

    def ask(key: int) -> asyncio.Task[int]:
        return asyncio.create_task(flights.join(key, lambda: answer(key)))

    questions = [n % 7 for n in range(70)]
    assert await asyncio.gather(*(ask(key) for key in questions)) == questions


async def test_landed_task_is_forgotten() -> None:
    """The next caller begins anew; the map does not grow."""
    flights, work = Flights[str, int](), Work()
    work.done.set()
    assert await flights.join("key", work) == 1
    assert len(flights) == 0
    assert await flights.join("key", work) == 2


async def test_f17_cancelled_caller_leaves_the_task_to_the_others() -> None:
    """A caller that runs out of time must not cost the others their refresh."""
    flights, work = Flights[str, int](), Work()
    first, second = (asyncio.create_task(flights.join("key", work)) for _ in range(2))
    await settled()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.done.set()
    assert await second == 1
    assert work.begun == 1


async def test_f17_task_goes_on_when_every_caller_has_gone() -> None:
    """A pair that is on its way will be kept, whoever still wants it; then the map is empty."""
    flights, work = Flights[str, int](), Work()
    caller = asyncio.create_task(flights.join("key", work))
    await settled()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert len(flights) == 1
    work.done.set()
    await flights.landed()
    assert len(flights) == 0


async def test_error_reaches_every_caller_and_ends_the_flight() -> None:
    """Nobody is left waiting, and the next caller tries again."""
    flights, proceed = Flights[str, int](), asyncio.Event()

    async def fail() -> int:
        await proceed.wait()
        raise FailedError

    callers = [asyncio.create_task(flights.join("key", fail)) for _ in range(10)]
    await settled()
    proceed.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [FailedError] * 10
    assert len(flights) == 0


async def test_error_that_nobody_waits_for_is_no_noise() -> None:
    """Asyncio would write "exception was never retrieved" at a moment of its own choosing."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    flights = Flights[str, int]()

    async def fail() -> int:
        await turn()
        raise FailedError

    flights.start("key", fail)
    await flights.landed()
    assert complaints == []


async def test_landed_waits_for_all_and_for_those_begun_meanwhile() -> None:
    """A drain that forgot one would lose its pair (F37)."""
    flights, early, late = Flights[str, int](), Work(), Work()
    flights.start("early", early)
    landed = asyncio.create_task(flights.landed())
    await settled()
    flights.start("late", late)
    early.done.set()
    await settled()
    assert len(flights) == 1
    assert not landed.done()
    late.done.set()
    await landed
    assert len(flights) == 0


async def test_nothing_under_way_has_landed() -> None:
    """A drain of an idle broker returns at once."""
    await Flights[str, int]().landed()
