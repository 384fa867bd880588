"""Clock and Randomness: the real ones and the fakes keep the same promises."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from broker.adapters.clock import Dice, SteadyClock
from broker.ports import Clock, Randomness
from tests.fakes.clock import FakeClock, ShiftedClock
from tests.fakes.randomness import FakeRandomness

MOMENT = timedelta(milliseconds=1)
CLOCKS: dict[str, Callable[[], Clock]] = {
    "real": SteadyClock,
    "fake": FakeClock,
    "shifted": lambda: ShiftedClock(SteadyClock(), MOMENT),
}


async def slept(clock: Clock, duration: timedelta) -> None:
    """Sleep on a clock of either kind."""
    if isinstance(clock, FakeClock):
        await clock.run(clock.sleep(duration))
    else:
        await clock.sleep(duration)


@pytest.mark.parametrize("kind", CLOCKS)
async def test_time_is_utc_and_goes_on_by_what_was_slept(kind: str) -> None:
    """Every lifetime is counted by it."""
    clock = CLOCKS[kind]()
    before = clock.now()
    assert before.tzinfo is UTC
    await slept(clock, MOMENT)
    assert clock.now() >= before + MOMENT * 0.9


@pytest.mark.parametrize("kind", CLOCKS)
async def test_cancelled_sleep_ends(kind: str) -> None:
    """A drain must not wait for a back-off."""
    clock = CLOCKS[kind]()
    sleep = asyncio.ensure_future(clock.sleep(timedelta(days=1)))
    sleep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleep


def test_f39_step_of_the_wall_clock_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """NTP, a leap second or an operator moves the wall clock by an hour: no token lives longer for it."""
    clock = SteadyClock()
    before = clock.now()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert clock.now() - before < timedelta(minutes=1)


def test_real_clock_starts_at_the_wall_clock_s_time() -> None:
    """Operators read its times."""
    assert abs(SteadyClock().now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_real_clock_never_goes_back() -> None:
    """Monotonic, to the last microsecond."""
    clock = SteadyClock()
    times = [clock.now() for _ in range(10_000)]
    assert times == sorted(times)


async def test_fake_sleepers_wake_in_the_order_of_their_ends_and_not_before() -> None:
    """The fake is what the concurrency tests stand on."""
    clock, woken = FakeClock(), list[int]()

    async def sleeper(seconds: int) -> None:
        await clock.sleep(timedelta(seconds=seconds))
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2)]
    assert await clock.parked() <= timedelta(seconds=3)
    clock.advance(timedelta(milliseconds=999))
    assert await clock.parked() == timedelta(milliseconds=1)
    assert woken == []
    clock.advance(timedelta(seconds=9))
    await asyncio.gather(*tasks)
    assert woken == [1, 2, 3]


@pytest.mark.parametrize("randomness", [Dice(), FakeRandomness(), FakeRandomness(0.0)])
def test_fraction_is_between_nothing_and_one(randomness: Randomness) -> None:
    """One itself would make a wait longer than its bound."""
    assert all(0 <= randomness.fraction() < 1 for _ in range(1000))


def test_real_fractions_differ() -> None:
    """Replicas that start together must not try again together (F10)."""
    dice, other = Dice(), Dice()
    assert len({dice.fraction() for _ in range(100)} | {other.fraction() for _ in range(100)}) == 200
