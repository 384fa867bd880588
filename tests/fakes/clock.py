"""Clocks that move when a test says so."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from broker.ports import Clock
from tests.fakes.steps import settled

NOON: Final = datetime(2026, 3, 14, 12, tzinfo=UTC)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class _Sleeper:
    wakes_at: datetime
    woken: asyncio.Future[None]


class FakeClock:
    """The Clock port; time stands still but for `advance`."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._sleepers: list[_Sleeper] = []
        self._someone_sleeps = asyncio.Event()

    def now(self) -> datetime:
        """The time that the test has set."""
        return self._now

    async def sleep(self, duration: timedelta) -> None:
        """Park until `advance` has moved the time far enough; even for no time at all."""
        sleeper = _Sleeper(self._now + duration, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        self._someone_sleeps.set()
        try:
            await sleeper.woken
        finally:
            self._forget(sleeper)

    def advance(self, duration: timedelta) -> None:
        """Move the time, and wake whoever has slept enough, the earliest first."""
        self._now += duration
        for sleeper in sorted(self._sleepers, key=lambda each: each.wakes_at):
            if sleeper.wakes_at <= self._now:
                self._forget(sleeper)
                if not sleeper.woken.done():
                    sleeper.woken.set_result(None)

    @property
    def has_sleepers(self) -> bool:
        """Whether anybody waits for the time to move."""
        return bool(self._sleepers)

    async def parked(self) -> timedelta:
        """Wait until someone sleeps. Returns how far to advance to wake the first."""
        await self._someone_sleeps.wait()
        return max(min(each.wakes_at for each in self._sleepers) - self._now, timedelta(0))

    async def run(self, work: Awaitable[Result]) -> Result:
        """The result of `work`, whose sleeps cost no time: the clock moves on when there is nothing else to do."""
        task = asyncio.ensure_future(work)
        while not task.done():
            parked = asyncio.ensure_future(self.parked())
            await asyncio.wait({task, parked}, return_when=asyncio.FIRST_COMPLETED)
            await settled()
            if self._sleepers and not task.done():
                self.advance(await self.parked())
            parked.cancel()
        return task.result()

    def _forget(self, sleeper: _Sleeper) -> None:
        if sleeper in self._sleepers:
            self._sleepers.remove(sleeper)
        if not self._sleepers:
            self._someone_sleeps.clear()


class ShiftedClock:
    """Another clock, wrong by a constant: the clock of a replica whose host is set badly."""

    def __init__(self, clock: Clock, offset: timedelta) -> None:
        self._clock = clock
        self._offset = offset

    def now(self) -> datetime:
        """The other clock's time, shifted."""
        return self._clock.now() + self._offset

    async def sleep(self, duration: timedelta) -> None:
        """Sleep on the other clock."""
        await self._clock.sleep(duration)
