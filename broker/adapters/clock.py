"""The real clock and the real dice."""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta


class SteadyClock:
    """Wall time at the start, and monotonic time from then on: a step of the wall clock is not seen."""

    def __init__(self) -> None:
        self._started_at = time.time() - time.monotonic()

    def now(self) -> datetime:
        """The broker's time, UTC."""
        return datetime.fromtimestamp(self._started_at + time.monotonic(), UTC)

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
