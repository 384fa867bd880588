"""The real clock and the real dice."""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Final

_HAS_BOOTTIME: Final = hasattr(time, "CLOCK_BOOTTIME")


def _steady_seconds() -> float:
    """Monotonic time that goes on while the machine sleeps, where there is one: tokens expire meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if _HAS_BOOTTIME else time.monotonic()


class SteadyClock:
    """Wall time at the start, and steady time from then on: a step of the wall clock is not seen."""

    def __init__(self) -> None:
        self._started_at = time.time() - _steady_seconds()

    def now(self) -> datetime:
        """The broker's time, UTC."""
        return datetime.fromtimestamp(self._started_at + _steady_seconds(), UTC)

    async def sleep(self, duration: timedelta) -> None:
        """Wait for `duration` on the event loop."""
        await asyncio.sleep(duration.total_seconds())


class Dice:
    """Jitter needs no cryptography, only that processes differ."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def fraction(self) -> float:
        """A random number in [0, 1)."""
        return self._random.random()
