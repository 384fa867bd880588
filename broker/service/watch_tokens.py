"""WatchTokens: callers who want to be told, and do not ask.

News comes as everything does that a replica learns (changes.py): what it stores itself, and what a look-up brings. A
hint says that another replica has stored something; of installs that are watched here it begins a look-up. Hints may be
lost, or not be heard at all: so what is watched is compared with the store now and then, and each second while no hint
is heard. What one stream is told: watch.py. Each token is judged by the policy and on record, as one of GetToken's is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import structlog

from broker.domain.apps import Apps
from broker.domain.errors import BrokerError, RetryableError, ShuttingDown
from broker.domain.identifiers import InstallKey
from broker.ports import Clock, Hints, InstallStore, Randomness
from broker.service.calls import Call, Guard
from broker.service.changes import Changes
from broker.service.look_ups import LookUps, Source
from broker.service.token_cache import TokenCache
from broker.service.watch import LOOKS_AT_ONCE, RETRY_AFTER, Knowledge, Watch

log = structlog.get_logger(__name__)

# Streams end, so that callers come back with credentials that are still valid, and to the replicas there are by then.
LONGEST_WATCH: Final = timedelta(minutes=10)
# … not all at once, if they began so.
LIFE_SPREAD: Final = 0.2
# How soon is looked whether the policy has changed, and at the store while no hint is heard.
TICK: Final = timedelta(seconds=1)
# How many installs are compared with the store by one query.
COMPARED_AT_ONCE: Final = 1000


class WatchTokens:
    """The use case, and what runs for all of its streams. len(): how many streams there are."""

    def __init__(
        self,
        *,
        apps: Apps,
        store: InstallStore,
        cache: TokenCache,
        changes: Changes,
        look_ups: LookUps,
        guard: Guard,
        hints: Hints,
        clock: Clock,
        randomness: Randomness,
        staleness: timedelta,
        handed_out: dict[Source, int],
    ) -> None:
        """`staleness`: how long lost hints may go unnoticed. `handed_out`: counts the tokens that are told."""
        self._store = store
        self._guard = guard
        self._hints = hints
        self._randomness = randomness
        self._staleness = staleness
        self._handed_out = handed_out
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._knowledge = Knowledge(apps, cache, changes, look_ups, self._looks, clock)
        self._policy_version = guard.policy_version
        self._watches: set[Watch] = set()
        self._to_look: dict[InstallKey, None] = {}
        self._something_to_look = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._watches)

    @property
    def subscriptions(self) -> int:
        """How many installs are watched, each counted for every stream."""
        return sum(map(len, self._watches))

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Watch]:
        """A stream, as long as the context is entered.

        Raises:
            ShuttingDown.
        """
        if self._is_closed:
            raise _stopping()
        life = LONGEST_WATCH * (1 - LIFE_SPREAD * self._randomness.fraction())
        watch = Watch(self._knowledge, call, life, self._count_token)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            watch.close()
            self._watches.discard(watch)

    def close(self) -> None:
        """End every stream, and take no other: the broker stops."""
        self._is_closed = True
        for watch in self._watches:
            watch.end_by(_stopping())

    def hinted(self, key: InstallKey) -> None:
        """Another replica may have stored something of this install."""
        if key in self._knowledge.changes.followed:
            self._to_look[key] = None
            self._something_to_look.set()

    async def run(self) -> None:
        """Keep the watchers up to date, for ever."""
        await asyncio.gather(self._look_where_hinted(), self._keep_up())

    async def _look_where_hinted(self) -> None:
        while True:
            await self._something_to_look.wait()
            self._something_to_look.clear()
            while self._to_look:
                some = [key for key, _ in zip(self._to_look, range(LOOKS_AT_ONCE), strict=False)]
                for key in some:
                    del self._to_look[key]
                await asyncio.gather(*(self._look(key) for key in some))

    async def _look(self, key: InstallKey) -> None:
        """What is learnt goes to whoever follows the install."""
        try:
            async with self._looks:
                await self._knowledge.look_ups.look_up(key)
        except BrokerError as error:
            # The next comparison finds it again.
            log.debug("watch.look_up_failed", error=str(error))
        except Exception:
            log.exception("watch.look_up_failed")

    async def _keep_up(self) -> None:
        clock = self._knowledge.clock
        compare_at = clock.now() + self._staleness
        while True:
            await clock.sleep(TICK)
            self._judge_again()
            if self._hints.are_heard and clock.now() < compare_at:
                continue
            compare_at = clock.now() + self._staleness
            try:
                await self._compare()
            except RetryableError as error:
                log.debug("watch.comparison_failed", error=str(error))
            except Exception:
                log.exception("watch.comparison_failed")

    def _judge_again(self) -> None:
        if self._guard.policy_version != self._policy_version:
            self._policy_version = self._guard.policy_version
            for watch in self._watches:
                watch.judge_again()

    async def _compare(self) -> None:
        """Look up what stands otherwise in the store than is known here."""
        followed = list(self._knowledge.changes.followed)
        for start in range(0, len(followed), COMPARED_AT_ONCE):
            keys = followed[start : start + COMPARED_AT_ONCE]
            for key, standing in (await self._store.standings(keys)).items():
                entry = self._knowledge.cache.get(key)
                if entry is None or entry.holding.install.standing != standing:
                    self.hinted(key)

    def _count_token(self) -> None:
        self._handed_out[Source.WATCH] += 1


def _stopping() -> ShuttingDown:
    return ShuttingDown("this replica is stopping; another answers", RETRY_AFTER)
