"""Places for attempts under way: a bounded number, and some of them only for those that somebody waits for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from broker.domain.errors import Overloaded
from broker.ports import Clock

# Of the slots, what attempts that nobody waits for leave to the others.
RESERVE_SHARE: Final = 0.25
RETRY_AFTER: Final = timedelta(seconds=1)

# Whether somebody waits by now. Asked whenever a place is given away: a caller may have joined meanwhile.
IsUrgent = Callable[[], bool]


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody in a queue: `place` is fulfilled when it is their turn."""

    is_urgent: IsUrgent
    place: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Queue:
    """Who waits, in the order in which they came; the urgent go first."""

    def __init__(self, clock: Clock, patience: timedelta) -> None:
        self._clock = clock
        self._patience = patience
        self._waiters: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def urgent(self) -> int:
        """How many are urgent."""
        return sum(waiter.is_urgent() for waiter in self._waiters)

    async def wait(self, is_urgent: IsUrgent, give_back: Callable[[], None]) -> None:
        """Wait for one's turn. Who is cancelled just when it comes calls `give_back`.

        Raises:
            Overloaded: it has not come within the queue's patience. Else what `refuse` was given.
        """
        waiter = Waiter(is_urgent)
        self._waiters.append(waiter)
        too_late = asyncio.ensure_future(self._clock.sleep(self._patience))
        try:
            await asyncio.wait({waiter.place, too_late}, return_when=asyncio.FIRST_COMPLETED)
            if not waiter.place.done():
                raise Overloaded("too many refreshes wait for their turn; retry later", RETRY_AFTER)
            waiter.place.result()
        except asyncio.CancelledError:
            if waiter.place.done() and waiter.place.exception() is None:
                give_back()
            raise
        finally:
            too_late.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def call_next(self, *, only_urgent: bool = False) -> bool:
        """Give a place to the first who is urgent, else to the first; whether there was one."""
        chosen = next((waiter for waiter in self._waiters if waiter.is_urgent()), None)
        if chosen is None and self._waiters and not only_urgent:
            chosen = self._waiters[0]
        if chosen is None:
            return False
        self._waiters.remove(chosen)
        chosen.place.set_result(None)
        return True

    def refuse(self, error: Exception) -> None:
        """Send everybody away."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.place.set_exception(error)


class Slots:
    """`count` places."""

    def __init__(self, count: int, queue: Queue) -> None:
        self._free = count
        self._reserve = int(count * RESERVE_SHARE)
        self._queue = queue

    async def acquire(self, is_urgent: IsUrgent) -> None:
        """Take a place, when there is one. Raises as `Queue.wait` does."""
        if self._free > (0 if is_urgent() else self._reserve):
            self._free -= 1
            return
        await self._queue.wait(is_urgent, self.release)

    def release(self) -> None:
        """Give a place back."""
        self._free += 1
        self.call()

    def call(self) -> None:
        """Give away what is free. To be called also when a waiter has become urgent."""
        while self._free > 0 and self._queue.call_next(only_urgent=self._free <= self._reserve):
            self._free -= 1
