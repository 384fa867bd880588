"""The scheduler: what is due is refreshed though nobody asks for it, so that callers find FRESH tokens.

Every replica runs one, and they need no agreement. Each reads what is due by a plain indexed query, the longest
overdue first, and then claims one install after the other by its key. So that replicas seldom meet at the same install,
each begins at a place of its own in what it has read; where they do meet, the row lock or the claim decides, and the
one that came too late reads anew: the rest of its window is the other's by now. How many calls that makes a second the
shared budget decides (provider_gate.py), where callers who wait go first. An install that keeps failing is due again
only when its own back-off is over.
"""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from broker.domain.errors import BrokerError, Overloaded, RetryableError, StoreUnavailable
from broker.domain.installs import DueInstall
from broker.ports import Clock, InstallStore, Randomness
from broker.service.provider_gate import ProviderGate
from broker.service.refresher import Refresher

log = structlog.get_logger(__name__)

# Read at once: a window for all replicas to spread over, of which one works off what it can meanwhile.
WINDOW: Final = 200


class Scheduler:
    """Sweeps until it is cancelled. An attempt under way then goes on: it is the refresher's.

    Attributes: lag: how long the most overdue install had been due at the last sweep.
    """

    def __init__(
        self,
        *,
        store: InstallStore,
        refresher: Refresher,
        gate: ProviderGate,
        clock: Clock,
        randomness: Randomness,
        interval: timedelta,
        at_once: int,
    ) -> None:
        """`interval`: between sweeps that brought nothing. `at_once`: attempts under way for this scheduler."""
        self._store = store
        self._gate = gate
        self._refresher = refresher
        self._clock = clock
        self._randomness = randomness
        self._interval = interval
        self._at_once = at_once
        self.lag = timedelta(0)

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            brought = 0
            try:
                brought = await self.sweep()
            except RetryableError as error:
                log.debug("sweep.failed", error=str(error))
            except Exception:
                log.exception("sweep.failed")
            if not brought:
                # Half to three halves, so that replicas that start together drift apart.
                await self._clock.sleep(self._interval * (0.5 + self._randomness.fraction()))

    async def sweep(self) -> int:
        """Refresh what is due now, as far as one window goes; how many pairs that brought.

        Raises:
            StoreUnavailable, Overloaded.
        """
        due = await self._store.due(WINDOW, except_for=list(self._gate.held_apps()))
        self.lag = due[0].overdue if due else timedelta(0)
        if not due:
            return 0
        start = int(self._randomness.fraction() * len(due))
        waiting = [*due[start:], *due[:start]]
        waiting.reverse()
        workers = min(self._at_once, len(waiting))
        brought = await asyncio.gather(*(self._work_off(waiting) for _ in range(workers)))
        return sum(brought)

    async def _work_off(self, waiting: list[DueInstall]) -> int:
        """Take one after the other from the end of `waiting`, which workers share."""
        brought = 0
        while waiting:
            install = waiting.pop()
            if install.key.plugin_id in self._gate.held_apps():
                continue
            attempt = self._refresher.refresh_behind(install.key, install.generation)
            if attempt is None:
                return brought
            try:
                if await asyncio.shield(attempt) is None:
                    waiting.clear()
                else:
                    brought += 1
            except (StoreUnavailable, Overloaded):
                # The rest of the window would meet the same.
                waiting.clear()
            except BrokerError:
                continue
        return brought
