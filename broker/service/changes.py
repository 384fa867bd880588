"""Tell, the last step of the refresh protocol: who learns of a change, and how soon.

This process's cache at once; whoever waits here for another's claim, or follows the install for its watchers, at once;
the other replicas by a hint, or when they next look. A hint is only a hint: without a single one every replica is right
within the cache's staleness.
"""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Protocol

from broker.domain.identifiers import InstallKey
from broker.domain.installs import Holding
from broker.ports import Clock, Hints
from broker.service.token_cache import TokenCache


class Follower(Protocol):
    """Somebody who wants to know of an install until told otherwise."""

    def news(self, key: InstallKey) -> None:
        """Something has been learnt of the install: look again, soon. Must not wait or raise."""
        ...


class Changes:
    """What is known of installs, and who wants to know."""

    def __init__(self, cache: TokenCache, clock: Clock, hints: Hints) -> None:
        self._cache = cache
        self._clock = clock
        self._hints = hints
        self._waiting: dict[InstallKey, list[asyncio.Future[None]]] = {}
        self._followers: dict[InstallKey, dict[Follower, None]] = {}

    def learn(self, holding: Holding, asked_at: datetime | None = None) -> None:
        """Remember what the store said when it was asked at `asked_at`, or now."""
        key = holding.install.key
        known = self._cache.get(key)
        learnt = self._cache.put(holding, asked_at or self._clock.now())
        self.wake(key)
        # A look that only confirms what is known must not wake every watcher.
        if known is None or known.holding.install.standing != learnt.holding.install.standing:
            for follower in self._followers.get(key, ()):
                follower.news(key)

    def publish(self, holding: Holding) -> None:
        """Remember what this process has stored, and tell the other replicas."""
        self.learn(holding)
        self._hints.tell(holding.install.key)

    def wake(self, key: InstallKey) -> None:
        """Let those who wait for news of this install look again."""
        for waiting in self._waiting.pop(key, ()):
            if not waiting.done():
                waiting.set_result(None)

    @property
    def followed(self) -> Collection[InstallKey]:
        """The installs that somebody follows."""
        return self._followers.keys()

    def follow(self, key: InstallKey, follower: Follower) -> None:
        """Tell `follower` of every news of this install, from now on."""
        self._followers.setdefault(key, {})[follower] = None

    def unfollow(self, key: InstallKey, follower: Follower) -> None:
        """Tell it no more."""
        followers = self._followers[key]
        del followers[follower]
        if not followers:
            del self._followers[key]

    async def wait(self, key: InstallKey, at_most: timedelta) -> None:
        """Wait for news of this install, or until `at_most` has passed."""
        news = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(news)
        pause = asyncio.ensure_future(self._clock.sleep(at_most))
        try:
            await asyncio.wait({news, pause}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            others = self._waiting.get(key, [])
            if news in others:
                others.remove(news)
            if not others:
                self._waiting.pop(key, None)
